package podinit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// nonblock keeps an open from waiting if a zone swaps its file for a FIFO
// between the look and the open.
const nonblock = syscall.O_NONBLOCK

// Streams are the caller's ends of a process's standard streams. Any may be
// nil. With a terminal everything comes by Out.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	// Resize carries the sizes of the caller's terminal. It may stay open.
	Resize <-chan Size
}

// Exec runs a further process in a container and waits for it. A program that
// cannot be started is an *Error with ReasonStart. When ctx ends or the
// connection breaks, the process is killed; processes that it put into
// sessions of their own stay, as with any container runtime.
//
// Exec may return while a Read of s.In is still blocked; what that Read
// returns is then dropped. The caller ends it by closing its stream.
func (c *Client) Exec(ctx context.Context, r ExecRequest, s Streams) (ExitStatus, error) {
	k, err := c.begin(ctx, Request{Op: OpExec, Exec: &r, Stdin: s.In != nil})
	if err != nil {
		return ExitStatus{}, err
	}
	defer k.close()
	last, p, err := k.converse(s)
	if err != nil {
		return ExitStatus{}, err
	}
	if last != wire.Exit {
		return ExitStatus{}, fmt.Errorf("%w: a process without an exit status", ErrProtocol)
	}
	return parseExit(p)
}

func parseExit(data []byte) (ExitStatus, error) {
	var e ExitStatus
	if err := json.Unmarshal(data, &e); err != nil {
		return ExitStatus{}, fmt.Errorf("%w: exit status: %w", ErrProtocol, err)
	}
	if e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > 127 {
		return ExitStatus{}, fmt.Errorf("%w: exit code %d, signal %d", ErrProtocol, e.Code, e.Signal)
	}
	return e, nil
}

// Attach joins the streams of a container's main process from now on. It
// returns nil when the container's attempt has ended. A caller that reads too
// slowly is cut off with an error; the container never waits for it. Of s.In
// the same holds as for Exec.
func (c *Client) Attach(ctx context.Context, container string, s Streams) error {
	k, err := c.begin(ctx, Request{Op: OpAttach, Container: container, Stdin: s.In != nil})
	if err != nil {
		return err
	}
	defer k.close()
	last, _, err := k.converse(s)
	if err != nil {
		return err
	}
	if last != wire.End {
		return fmt.Errorf("%w: frame of kind %d in an attach", ErrProtocol, last)
	}
	return nil
}

// converse carries the streams until podinit's last frame, which it returns.
func (k *call) converse(s Streams) (wire.Kind, []byte, error) {
	if s.In != nil {
		go k.sendInput(s.In) // ends with the connection, or when its Read returns
	}
	if s.Resize != nil {
		done := make(chan struct{})
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			k.sendSizes(s.Resize, done)
		}()
		defer func() {
			close(done)
			k.drop() // a write that hangs must not keep us
			<-finished
		}()
	}
	for {
		kind, p, err := k.r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, k.failed(err)
		}
		switch kind {
		case wire.Stdout:
			err = write(s.Out, p)
		case wire.Stderr:
			err = write(s.Err, p)
		case wire.Exit, wire.End:
			return kind, p, nil
		default:
			return 0, nil, fmt.Errorf("%w: frame of kind %d in a conversation", ErrProtocol, kind)
		}
		if err != nil {
			return 0, nil, fmt.Errorf("podinit: output: %w", err)
		}
	}
}

func write(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

func (k *call) sendInput(in io.Reader) {
	if _, err := io.CopyBuffer(onlyWriter{k.w.Stream(wire.Stdin)}, onlyReader{in}, make([]byte, wire.MaxData)); err != nil {
		return // the connection's reader sees why
	}
	k.w.Message(wire.StdinClose, nil) //nolint:errcheck // as above
}

// onlyReader and onlyWriter hide methods by which io.CopyBuffer would ignore
// its buffer.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

func (k *call) sendSizes(sizes <-chan Size, done <-chan struct{}) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			msg, err := json.Marshal(size)
			if err != nil || k.w.Message(wire.Resize, msg) != nil {
				return
			}
		case <-done:
			return
		case <-k.ctx.Done():
			return
		}
	}
}

// ParseSize decodes a terminal's size.
func ParseSize(data []byte) (Size, error) {
	var s Size
	if err := strict(data, &s); err != nil {
		return Size{}, fmt.Errorf("podinit: size: %w", err)
	}
	return s, nil
}
