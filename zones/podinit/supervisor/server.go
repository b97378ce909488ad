package supervisor

import (
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// requestTime is how long a client may take to send its request.
const requestTime = 30 * time.Second

// maxConnections bounds the clients at one time. Each costs a goroutine or
// four.
const maxConnections = 128

// serve answers clients until the supervisor ends.
func (s *Supervisor) serve(l *net.UnixListener) {
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.AcceptUnix()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case errors.Is(err, os.ErrDeadlineExceeded):
				if err := s.renew(l); !errors.Is(err, errBusy) {
					s.log.Printf("renewal: %v", err)
				}
				l.SetDeadline(time.Time{}) //nolint:errcheck // a socket has deadlines
				continue
			case err != nil:
				s.log.Printf("accept: %v", err)
				time.Sleep(100 * time.Millisecond) // out of descriptors, say
				continue
			}
			s.slots <- struct{}{}
			s.gate.RLock()
			s.work.Go(func() {
				defer func() { <-s.slots }()
				s.talk(conn)
			})
		}
	}()
	<-s.ctx.Done()
	l.Close() //nolint:errcheck // it ends the accepting
	<-accepting
}

// client is one client's connection.
type client struct {
	s    *Supervisor
	conn *net.UnixConn
	r    *wire.Reader
	w    *wire.Writer

	changed <-chan struct{} // of one who watches
}

func newClient(s *Supervisor, conn *net.UnixConn) *client {
	return &client{s: s, conn: conn, r: wire.NewReader(conn), w: wire.NewWriter(conn)}
}

// talk serves a client. The gate is held for it until it has been served, or
// only watches.
func (s *Supervisor) talk(conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // the client has all it gets
	k := newClient(s, conn)
	k.serve()
	s.gate.RUnlock()
	select {
	case s.served <- struct{}{}:
	default: // enough for one renewal
	}
	if k.changed != nil {
		k.watch()
	}
}

func (k *client) serve() {
	conn := k.conn
	if err := checkPeer(conn); err != nil {
		k.s.log.Printf("channel: %v", err)
		return
	}
	conn.SetReadDeadline(time.Now().Add(requestTime)) //nolint:errcheck // a socket has deadlines
	kind, p, err := k.r.Next()
	if err != nil {
		return // gone, or no client of ours
	}
	conn.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	if kind != wire.Request {
		return
	}
	req, err := podinit.ParseRequest(p)
	if err != nil {
		k.refuse(refuse(podinit.ReasonRequest, "%v", err))
		return
	}
	k.handle(req)
}

func (k *client) handle(r podinit.Request) {
	s := k.s
	switch r.Op {
	case podinit.OpState:
		state := s.states.copy()
		k.reply(podinit.Reply{State: &state})
	case podinit.OpUsage:
		k.reply(podinit.Reply{Usage: s.usages()})
	case podinit.OpWatch:
		if k.answer(nil) {
			k.join()
		}
	case podinit.OpStart:
		k.answer(s.start(*r.Start))
	case podinit.OpSignal:
		k.answer(s.signal(r.Container, r.Signal))
	case podinit.OpKill:
		k.answer(s.kill(r.Container))
	case podinit.OpRead:
		data, err := s.read(r.Volume, r.Path)
		if err != nil {
			k.answer(err)
			return
		}
		k.reply(podinit.Reply{Data: data})
	case podinit.OpExec:
		k.exec(*r.Exec, r.Stdin)
	case podinit.OpAttach:
		k.attach(r.Container, r.Stdin)
	case podinit.OpForward:
		k.forward(r.Port)
	case podinit.OpShutdown:
		k.answer(nil)
		s.stop()
	}
}

func (s *Supervisor) signal(name, text string) error {
	c, err := s.running(name)
	if err != nil {
		return err
	}
	form, err := podinit.ParseSignal(text)
	if err != nil {
		return refuse(podinit.ReasonRequest, "%v", err)
	}
	sig, ok := signalNumber(form)
	if !ok {
		return refuse(podinit.ReasonRequest, "unknown signal %s", text)
	}
	return c.signal(sig)
}

func (s *Supervisor) kill(name string) error {
	s.mu.Lock()
	c := s.containers[name]
	s.mu.Unlock()
	if c == nil {
		if !s.states.known(name) {
			return refuse(podinit.ReasonNotFound, "no container %s", name)
		}
		return nil
	}
	c.kill()
	return nil
}

// reply sends the one Reply of a connection.
func (k *client) reply(r podinit.Reply) bool {
	r.Version = podinit.Version
	data, err := json.Marshal(r)
	if err != nil {
		k.s.log.Printf("channel: %v", err)
		return false
	}
	return k.w.Message(wire.Reply, data) == nil
}

func (k *client) refuse(e *podinit.Error) { k.reply(podinit.Reply{Error: e}) }

// answer replies with an error or with none.
func (k *client) answer(err error) bool {
	if err == nil {
		return k.reply(podinit.Reply{})
	}
	var e *podinit.Error
	if !errors.As(err, &e) {
		e = refuse(podinit.ReasonInternal, "%s", clip(err.Error()))
	}
	k.refuse(e)
	return false
}

// join makes the client one who watches.
func (k *client) join() {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.watchers[k.conn] = true
	k.changed = k.s.states.watch()
}

func (k *client) leave() {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	delete(k.s.watchers, k.conn)
	k.s.states.unwatch(k.changed)
}

// watching returns the connections of those who watch.
func (s *Supervisor) watching() []*net.UnixConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.watchers))
}

// watch sends the state now and after each change until the client goes.
func (k *client) watch() {
	defer k.leave()
	gone := k.untilGone()
	for k.tell() {
		select {
		case <-k.changed:
			continue
		case <-gone:
		case <-k.s.ctx.Done():
		}
		break
	}
	k.conn.Close() //nolint:errcheck // it ends untilGone
	<-gone
}

// tell sends the state, whole before a renewal or after it.
func (k *client) tell() bool {
	k.s.gate.RLock()
	defer k.s.gate.RUnlock()
	data, err := k.s.states.encode()
	return err == nil && k.w.Message(wire.State, data) == nil
}

// untilGone returns a channel that is closed when the client has gone or sent
// what it should not.
func (k *client) untilGone() <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		k.r.Next() //nolint:errcheck // whatever comes, it is over
	}()
	return gone
}
