// Package server is the node's kubelet API: the HTTPS server on port 10250 that
// the API server calls for logs, exec, attach, port-forward and statistics.
//
// It is closed by default. Nothing is served before the caller has proved by a
// client certificate or a token who it is, and the API server has agreed by a
// SubjectAccessReview that it may. There is no anonymous access, no port without
// TLS, no profiling, no redirect, and no access to files of the host.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	corev1 "k8s.io/api/core/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Timeouts of streams, as a kubelet has them.
const (
	// idleTimeout ends a connection of exec, attach or port-forward on which
	// nothing moves.
	idleTimeout = 4 * time.Hour
	// creationTimeout is how long a client may take to open its streams.
	creationTimeout = 30 * time.Second
)

// Timeouts of plain HTTP. There is none for a whole response: a log may be
// followed for days.
const (
	headerTimeout    = 30 * time.Second
	keepAliveTimeout = 90 * time.Second
	maxHeaderBytes   = 64 << 10
	// drainTimeout is how long Serve waits for requests once its context ended.
	drainTimeout = 10 * time.Second
)

// Pods is what the server asks of the node's pods. A pod or container that does
// not exist is virtual-kubelet's errdefs.NotFound, a request that makes no sense
// in its state errdefs.InvalidInput. Methods return when ctx ends, which it does
// as soon as the client is gone.
type Pods interface {
	// Pods returns the node's pods with their status. The caller does not
	// change them.
	Pods() []*corev1.Pod
	// Logs returns a container's log as o wants it. With o.Follow it blocks at
	// the end of the log until there is more, the container has ended, or ctx
	// has. The caller closes it.
	Logs(ctx context.Context, namespace, pod, container string, o LogOptions) (io.ReadCloser, error)
	// Exec runs cmd in a container. An exit code other than 0 is a
	// utilexec.CodeExitError.
	Exec(ctx context.Context, namespace, pod, container string, cmd []string, attach AttachIO) error
	// Attach joins the streams of a container's main process.
	Attach(ctx context.Context, namespace, pod, container string, attach AttachIO) error
	// PortForward joins stream to a TCP port inside the pod.
	PortForward(ctx context.Context, namespace, pod string, port int32, stream io.ReadWriteCloser) error
	// StatsSummary returns the usage of the node and its pods.
	StatsSummary(ctx context.Context) (*statsv1alpha1.Summary, error)
}

// AttachIO is the streams of a command or of a container's main process. What
// the client did not ask for is nil, and Resize is without a terminal.
//
// It has the methods of virtual-kubelet's type of that name, whose package links
// OpenCensus.
type AttachIO interface {
	Stdin() io.Reader
	Stdout() io.WriteCloser
	Stderr() io.WriteCloser
	TTY() bool
	Resize() <-chan TermSize
}

// TermSize is the size of a terminal in characters.
type TermSize struct{ Width, Height uint16 }

// Config is what a Server is made of.
type Config struct {
	NodeName string
	Pods     Pods
	// Auth decides about every request. It is required.
	Auth *Auth
	// Certificate returns the serving certificate for each new connection, so
	// that it can be rotated.
	Certificate func() (*tls.Certificate, error)

	// Healthy says for /healthz whether the agent works. nil means always.
	Healthy func(ctx context.Context) error
	// Metrics answers /metrics. Without a handler it is not found.
	Metrics http.Handler
	// Configz returns the agent's configuration for /configz, as JSON. nil
	// means that the path is not found.
	Configz func() any
}

// Server is the kubelet API of a node.
type Server struct {
	config  Config
	routes  http.Handler // what the API does, for requests that are allowed
	handler http.Handler // routes behind authentication and authorization
	active  gate
}

// New returns a server that is not listening yet. It refuses a configuration
// that would leave the API open.
func New(c Config) (*Server, error) {
	var errs []error
	if c.NodeName == "" {
		errs = append(errs, errors.New("no node name"))
	}
	if c.Pods == nil {
		errs = append(errs, errors.New("no pods"))
	}
	if !c.Auth.complete() {
		errs = append(errs, errors.New("no authentication and authorization; nothing is served without"))
	}
	if c.Certificate == nil {
		errs = append(errs, errors.New("no serving certificate"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("kubelet API: %w", err)
	}
	s := &Server{config: c}
	s.routes = s.newRoutes()
	s.handler = s.track(s.guard(s.routes))
	return s, nil
}

// Serve answers on l over TLS until ctx ends, and then until the requests under
// way have ended, for ten seconds at most. It closes l. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           s.handler,
		TLSConfig:         s.tlsConfig(),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAliveTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(errorLog{ctx}, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(l, "", "") }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		cancel() // streams last for hours: they end now
		drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		err = errors.Join(server.Shutdown(drain), s.wait(drain), server.Close())
		stop()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	if err != nil {
		return fmt.Errorf("kubelet API: %w", err)
	}
	return nil
}

// tlsConfig asks for a client certificate but does not insist, because a caller
// may have a token instead. The authenticator verifies what is sent.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.config.Certificate()
		},
	}
}

// track counts requests, so that Serve can wait also for those whose connection
// net/http no longer knows.
func (s *Server) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.active.enter() {
			http.Error(w, "the node's agent is stopping", http.StatusServiceUnavailable)
			return
		}
		defer s.active.leave()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last request, which ends with its context
		defer close(done)
		s.active.close()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("requests did not end in time")
	}
}

// errorLog is where net/http reports broken handshakes and the like.
type errorLog struct{ ctx context.Context }

// Write implements io.Writer.
func (e errorLog) Write(p []byte) (int, error) {
	vklog.G(e.ctx).Debugf("kubelet API: %s", p)
	return len(p), nil
}
