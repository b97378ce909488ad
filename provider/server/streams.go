package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	apiproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	cmd := r.URL.Query()["command"]
	if len(cmd) == 0 {
		writeError(w, r, errdefs.InvalidInput("no command"))
		return
	}
	s.serveCommand(w, r, func(w http.ResponseWriter, r *http.Request, p process, o *remotecommand.Options) {
		p.cmd = cmd
		remotecommand.ServeExec(w, r, p, p.pod, string(p.uid), p.container, cmd, o,
			idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request) {
	s.serveCommand(w, r, func(w http.ResponseWriter, r *http.Request, p process, o *remotecommand.Options) {
		remotecommand.ServeAttach(w, r, p, p.pod, string(p.uid), p.container, o,
			idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
}

// serveCommand does what exec and attach share. The fifth version of the
// WebSocket protocol, which can close a stream, is spoken by a translator in
// front of the SPDY server, as in a kubelet.
func (s *Server) serveCommand(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request, process, *remotecommand.Options)) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		writeError(w, r, errdefs.AsInvalidInput(err))
		return
	}
	t, err := s.find(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	watched, ctx, release := watch(w, r, statusGrace)
	defer release()
	r = r.WithContext(ctx)
	vklog.G(ctx).Debugf("kubelet API: %s", r.URL.Path)
	final := func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, process{pods: s.config.Pods, target: t}, options)
	}
	if !wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		final(watched, r)
		return
	}
	inner := newInner(ctx, http.HandlerFunc(final))
	defer inner.close()
	apiproxy.NewStreamTranslatorHandler(inner.location(r), inner.transport, 0, apiproxy.Options{
		Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY,
	}).ServeHTTP(watched, r)
}

// process is a command to run, or a main process to attach to.
type process struct {
	target
	pods Pods
	cmd  []string
}

// ExecInContainer implements remotecommand.Executor.
func (p process) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return p.run(ctx, in, out, err, tty, resize, func(ctx context.Context, a AttachIO) error {
		return p.pods.Exec(ctx, p.namespace, p.pod, p.container, p.cmd, a)
	})
}

// AttachContainer implements remotecommand.Attacher.
func (p process) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return p.run(ctx, in, out, err, tty, resize, func(ctx context.Context, a AttachIO) error {
		return p.pods.Attach(ctx, p.namespace, p.pod, p.container, a)
	})
}

func (process) run(ctx context.Context, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, do func(context.Context, AttachIO) error) error {
	ctx, cancel := context.WithCancel(ctx)
	a := attachIO{in: in, out: out, err: errOut, tty: tty}
	var sizes sync.WaitGroup
	if resize != nil {
		c := make(chan TermSize)
		a.resize = c
		sizes.Go(func() { passSizes(ctx, resize, c) })
	}
	err := do(ctx, a)
	cancel()
	sizes.Wait()
	// The protocol's server looks at the error itself, not at what it wraps.
	if exit, ok := errors.AsType[utilexec.ExitError](err); ok {
		return exit
	}
	return err
}

func passSizes(ctx context.Context, from <-chan remotecommand.TerminalSize, to chan<- TermSize) {
	defer close(to)
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-from:
			if !ok {
				return
			}
			select {
			case <-ctx.Done():
				return
			case to <- TermSize{Width: size.Width, Height: size.Height}:
			}
		}
	}
}

// attachIO implements AttachIO. A stream that the client did not ask for is
// nil.
type attachIO struct {
	in       io.Reader
	out, err io.WriteCloser
	tty      bool
	resize   <-chan TermSize
}

func (a attachIO) Stdin() io.Reader        { return a.in }
func (a attachIO) Stdout() io.WriteCloser  { return a.out }
func (a attachIO) Stderr() io.WriteCloser  { return a.err }
func (a attachIO) TTY() bool               { return a.tty }
func (a attachIO) Resize() <-chan TermSize { return a.resize }

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request) {
	tunnel := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	options := &portforward.V4Options{}
	if !tunnel {
		var err error
		if options, err = portforward.NewV4Options(r); err != nil {
			writeError(w, r, errdefs.AsInvalidInput(err))
			return
		}
	}
	t, err := s.find(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	watched, ctx, release := watch(w, r, 0)
	r = r.WithContext(ctx)
	ports := &forwarder{ctx: ctx, pods: s.config.Pods, target: t}
	defer ports.active.close()
	defer release() // before that, so that the connections end
	final := func(w http.ResponseWriter, r *http.Request) {
		portforward.ServePortForward(w, r, ports, t.pod, string(t.uid), options,
			idleTimeout, creationTimeout, portforward.SupportedProtocols)
	}
	if !tunnel {
		final(watched, r)
		return
	}
	inner := newInner(ctx, http.HandlerFunc(final))
	defer inner.close()
	apiproxy.NewTunnelingHandler(inner.upgrade(r)).ServeHTTP(watched, r)
}

// forwarder serves the forwarded connections of one request. It gives them the
// request's context, which the protocol's server does not.
type forwarder struct {
	target
	ctx    context.Context
	pods   Pods
	active gate
}

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	if !f.active.enter() {
		return context.Cause(f.ctx)
	}
	defer f.active.leave()
	stop := context.AfterFunc(f.ctx, func() { stream.Close() }) //nolint:errcheck // wakes a blocked copy
	defer stop()
	return f.pods.PortForward(f.ctx, f.namespace, f.pod, port, stream)
}
