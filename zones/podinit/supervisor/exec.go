package supervisor

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// hangUpTime is what a process has between SIGHUP and SIGKILL when its client
// has gone.
const hangUpTime = 2 * time.Second

// exec runs a further process in a container for a client.
func (k *client) exec(r podinit.ExecRequest, stdin bool) {
	c, err := k.s.running(r.Container)
	if err != nil {
		k.answer(err)
		return
	}
	spec := c.spec
	spec.Args, spec.TTY = r.Args, r.TTY
	spec.Env = slices.Concat(spec.Env, r.Env)
	streams, err := openStreams(r.TTY, stdin)
	if err != nil {
		k.answer(err)
		return
	}
	defer streams.close()
	p, _, err := k.s.launch(order{Root: c.root, Container: spec}, streams)
	streams.closeChild()
	if err != nil {
		var se *startError
		if errors.As(err, &se) {
			err = &podinit.Error{Reason: podinit.ReasonStart, Message: clip(se.text), Code: se.code}
		}
		k.answer(err)
		return
	}
	if !c.adopt(p.pid) {
		k.s.reaper.signal(p.pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
	}
	defer c.release(p.pid)
	k.answer(nil) // if the client has gone, converse sees it
	k.converse(c, p, streams)
}

// adopt notes that a process belongs to the container, unless that is being
// taken down.
func (c *container) adopt(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.leads[pid] = true
	return true
}

func (c *container) release(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leads, pid)
}

// converse carries an exec's streams until its process has ended and its output
// has been sent, or the client has gone.
func (k *client) converse(c *container, p *process, s *streams) {
	gone := k.receive(s.input(), func(size podinit.Size) { resize(s.pty, size) }, s.endInput)
	var copies sync.WaitGroup
	send := func(from *os.File, kind wire.Kind) {
		copies.Add(1)
		go func() {
			defer copies.Done()
			copyOut(k.w.Stream(kind).Write, from, func() bool { return false })
		}()
	}
	if s.tty() {
		send(s.pty, wire.Stdout)
	} else {
		send(s.out, wire.Stdout)
		send(s.err, wire.Stderr)
	}
	last, ok := k.await(p, gone)
	c.spent(last.cpu)
	// The process's children may hold its streams open; what it wrote itself
	// is in the pipe by now.
	s.drain(drainTime)
	copies.Wait()
	if ok {
		code, sig := outcome(last.status)
		msg, err := json.Marshal(podinit.ExitStatus{Code: code, Signal: sig})
		if err == nil {
			k.w.Message(wire.Exit, msg) //nolint:errcheck // the client may have gone
		}
	}
	k.conn.Close() //nolint:errcheck // it ends receive
	<-gone
}

// await waits for the process. If the client goes first, the process's session
// is hung up on and then killed, and ok is false.
func (k *client) await(p *process, gone <-chan struct{}) (last exit, ok bool) {
	select {
	case last = <-p.exited:
		return last, true
	case <-gone:
	}
	k.signalSession(p.pid, syscall.SIGHUP)
	timer := time.NewTimer(hangUpTime)
	defer timer.Stop()
	select {
	case last = <-p.exited:
	case <-timer.C:
		k.signalSession(p.pid, syscall.SIGKILL)
		last = <-p.exited
	}
	k.signalSession(p.pid, syscall.SIGKILL)
	return last, false
}

// signalSession signals every process of the session that pid leads or led.
func (k *client) signalSession(pid int, sig syscall.Signal) {
	k.s.reaper.signal(pid, sig) //nolint:errcheck // it may be gone
	for _, p := range processes() {
		if p.sid == pid && p.pid != pid {
			syscall.Kill(p.pid, sig) //nolint:errcheck // it may be gone
		}
	}
}

func (s *streams) input() io.Writer {
	switch {
	case s.pty != nil:
		return s.pty
	case s.stdin != nil:
		return s.stdin
	}
	return nil
}

// endInput tells the process that no more input comes. On a terminal that is
// the end-of-file character.
func (s *streams) endInput() {
	switch {
	case s.pty != nil:
		s.pty.Write([]byte{4}) //nolint:errcheck // the process may be gone
	case s.stdin != nil:
		s.stdin.Close() //nolint:errcheck // nothing is lost
	}
}

func resize(terminal *os.File, size podinit.Size) {
	if terminal != nil {
		pty.Setsize(terminal, &pty.Winsize{Rows: size.Rows, Cols: size.Cols}) //nolint:errcheck // it only looks worse
	}
}

// receive passes a client's frames on: input to into, which may be nil. The
// channel it returns is closed when the client has gone.
func (k *client) receive(into io.Writer, size func(podinit.Size), endInput func()) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		feed := newFeeder(into, endInput)
		defer feed.stop()
		for {
			kind, p, err := k.r.Next()
			if err != nil {
				return
			}
			switch kind {
			case wire.Stdin:
				if !feed.put(append([]byte(nil), p...), k.conn) {
					return
				}
			case wire.StdinClose:
				feed.put(nil, k.conn)
			case wire.Resize:
				if s, err := podinit.ParseSize(p); err == nil {
					size(s)
				}
			default:
				return
			}
		}
	}()
	return gone
}
