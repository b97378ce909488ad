package provider

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	utilexec "k8s.io/utils/exec"

	"reddwarf.io/reddwarf/provider/server"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Exec runs a command in a container and carries its streams until it ends. An
// exit code other than 0 is a bare utilexec.CodeExitError, which is what
// virtual-kubelet looks for.
func (p *Provider) Exec(ctx context.Context, namespace, pod, container string, cmd []string, attach server.AttachIO) error {
	channel, container, err := p.reach(namespace, pod, container)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status, err := channel.Exec(ctx, podinit.ExecRequest{Container: container, Args: cmd, TTY: attach.TTY()}, streamsOf(ctx, attach))
	if err != nil {
		return execError(err)
	}
	if status.Code != 0 {
		return utilexec.CodeExitError{
			Err: fmt.Errorf("command terminated with exit code %d", status.Code), Code: status.Code,
		}
	}
	return nil
}

// notExecutable is a shell's exit code for a program that cannot be started for
// no better known reason.
const notExecutable = 126

// execError turns a program that could not be started into an exit code, as
// container runtimes report it.
func execError(err error) error {
	var pe *podinit.Error
	if errors.As(err, &pe) && pe.Reason == podinit.ReasonStart {
		code := pe.Code
		if code == 0 {
			code = notExecutable
		}
		return utilexec.CodeExitError{Err: errors.New(pe.Message), Code: code}
	}
	return err
}

// Attach joins the streams of a container's main process.
func (p *Provider) Attach(ctx context.Context, namespace, pod, container string, attach server.AttachIO) error {
	channel, container, err := p.reach(namespace, pod, container)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return channel.Attach(ctx, container, streamsOf(ctx, attach))
}

// streamsOf adapts the streams of a request. Sizes are passed on until ctx
// ends, which the caller sees to.
func streamsOf(ctx context.Context, a server.AttachIO) podinit.Streams {
	s := podinit.Streams{In: a.Stdin()}
	if out := a.Stdout(); out != nil {
		s.Out = out
	}
	if out := a.Stderr(); out != nil {
		s.Err = out
	}
	if resize := a.Resize(); resize != nil {
		sizes := make(chan podinit.Size)
		s.Resize = sizes
		go func() { // ends with ctx
			for {
				select {
				case <-ctx.Done():
					return
				case t, ok := <-resize:
					if !ok {
						return
					}
					select {
					case <-ctx.Done():
						return
					case sizes <- podinit.Size{Rows: t.Height, Cols: t.Width}:
					}
				}
			}
		}()
	}
	return s
}

// PortForward joins stream to a TCP port inside the pod, until either side is
// done or ctx ends.
func (p *Provider) PortForward(ctx context.Context, namespace, pod string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close() //nolint:errcheck // nothing depends on it any more
	channel, _, err := p.reach(namespace, pod, "")
	if err != nil {
		return err
	}
	if port < 1 || port > 65535 {
		return errdefs.InvalidInputf("port %d is not between 1 and 65535", port)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := channel.Forward(ctx, uint16(port))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing depends on it any more
	stop := context.AfterFunc(ctx, func() {
		stream.Close() //nolint:errcheck // ends the copies
		conn.Close()   //nolint:errcheck // likewise
	})
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(conn, stream) //nolint:errcheck // either end may go first
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite() //nolint:errcheck // the reader sees the end either way
		}
	}()
	_, err = io.Copy(stream, conn)
	cancel() // the pod has said all: the client's side ends too
	<-sent
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return nil
}

// reach returns the channel into a pod's zone, and the name of the container
// meant: the only or first one if none is named.
func (p *Provider) reach(namespace, name, container string) (Podinit, string, error) {
	w := p.named(namespace, name)
	if w == nil {
		return nil, "", errNoPod(namespace, name)
	}
	container, err := containerNamed(w.object(), container)
	if err != nil {
		return nil, "", err
	}
	z := p.survey.zone(w.zone)
	if z.State != zones.Running {
		return nil, "", errdefs.InvalidInputf("pod %s/%s is not running: its zone is %s", namespace, name, z.State)
	}
	return p.c.Dial(z), container, nil
}

func containerNamed(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		return pod.Spec.Containers[0].Name, nil
	}
	for _, c := range translate.EveryContainer(pod) {
		if c.Name == name {
			return name, nil
		}
	}
	return "", errdefs.NotFoundf("pod %s/%s has no container %q", pod.Namespace, pod.Name, name)
}
