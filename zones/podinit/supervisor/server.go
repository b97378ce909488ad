package supervisor

import (
	"encoding/json"
	"errors"
	"net"
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
		slots := make(chan struct{}, maxConnections)
		for {
			conn, err := l.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				s.log.Printf("accept: %v", err)
				time.Sleep(100 * time.Millisecond) // out of descriptors, say
				continue
			}
			slots <- struct{}{}
			s.work.Add(1)
			go func() {
				defer s.work.Done()
				defer func() { <-slots }()
				s.talk(conn)
			}()
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
}

func (s *Supervisor) talk(conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // the client has all it gets
	if err := checkPeer(conn); err != nil {
		s.log.Printf("channel: %v", err)
		return
	}
	k := &client{s: s, conn: conn, r: wire.NewReader(conn), w: wire.NewWriter(conn)}
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
		k.watch()
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

// watch sends the state now and after each change until the client goes.
func (k *client) watch() {
	changed, stop := k.s.states.watch()
	defer stop()
	if !k.answer(nil) {
		return
	}
	gone := k.untilGone()
	for {
		data, err := k.s.states.encode()
		if err != nil || k.w.Message(wire.State, data) != nil {
			break
		}
		select {
		case <-changed:
			continue
		case <-gone:
		case <-k.s.ctx.Done():
		}
		break
	}
	k.conn.Close() //nolint:errcheck // it ends untilGone
	<-gone
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
