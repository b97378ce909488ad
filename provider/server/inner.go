package server

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"

	"k8s.io/apimachinery/pkg/util/proxy"
)

// inner is an HTTP server for one request that was allowed already. Nobody but
// the translator that holds its transport can reach it: each connection is a
// pair of sockets without a name.
type inner struct {
	transport *http.Transport
	server    *http.Server
	listener  *pairListener
	requests  gate
	serving   sync.WaitGroup
}

func newInner(ctx context.Context, h http.Handler) *inner {
	i := &inner{listener: &pairListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	i.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return i.listener.dial(ctx) },
	}
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !i.requests.enter() {
			return
		}
		defer i.requests.leave()
		watched, ctx, release := watch(w, r, statusGrace)
		defer release()
		h.ServeHTTP(watched, r.WithContext(ctx))
	})
	i.server = &http.Server{
		Handler:           counted,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	i.serving.Go(func() { i.server.Serve(i.listener) }) //nolint:errcheck // it ends by close
	return i
}

// close ends the server and waits for its requests. The translator has closed
// its side by then, which ends them.
func (i *inner) close() {
	i.server.Close() //nolint:errcheck // its listener can't fail to close
	i.transport.CloseIdleConnections()
	i.serving.Wait()
	i.requests.close()
}

// location is where the inner server has what r asks for.
func (i *inner) location(r *http.Request) *url.URL {
	return &url.URL{Scheme: "http", Host: "inner.invalid", Path: r.URL.Path, RawQuery: r.URL.RawQuery}
}

// upgrade returns a handler that passes a request on to the inner server and
// then carries the connection.
func (i *inner) upgrade(r *http.Request) http.Handler {
	return proxy.NewUpgradeAwareHandler(i.location(r), i.transport, false, true, responder{})
}

// responder answers when the inner server does not.
type responder struct{}

// Error implements proxy.ErrorResponder.
func (responder) Error(w http.ResponseWriter, r *http.Request, err error) { writeError(w, r, err) }

// pairListener accepts the other ends of the connections that dial makes.
type pairListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pairListener) dial(ctx context.Context) (net.Conn, error) {
	near, far, err := pair()
	if err != nil {
		return nil, err
	}
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, near.Close(), far.Close())
}

// Accept implements net.Listener.
func (l *pairListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pairListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (*pairListener) Addr() net.Addr { return &net.UnixAddr{Name: "@", Net: "unix"} }

// pair returns two connected sockets. Unlike net.Pipe they have buffers: two
// peers that both write first would wait for each other for ever.
func pair() (net.Conn, net.Conn, error) {
	fds, err := socketpair()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, err := fileConn(fds[0])
	if err != nil {
		return nil, nil, errors.Join(err, syscall.Close(fds[1]))
	}
	far, err := fileConn(fds[1])
	if err != nil {
		return nil, nil, errors.Join(err, near.Close())
	}
	return near, far, nil
}

// socketpair keeps the sockets from programs that are started meanwhile.
func socketpair() ([2]int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	return fds, err
}

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	conn, err := net.FileConn(f) // a copy of the descriptor
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return conn, err
}
