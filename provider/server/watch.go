package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// watch returns a response writer for a request that will take over its
// connection, and a context that ends when that connection does. net/http stops
// looking at a connection that was taken over, so without this a command would
// run on when nobody listens any more. When the context ends, for this or for
// another reason, the connection has grace left to say why: a client takes a
// connection that ends without a word for success. release ends the context.
func watch(w http.ResponseWriter, r *http.Request, grace time.Duration) (http.ResponseWriter, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	return &watched{ResponseWriter: w, ctx: ctx, cancel: cancel, grace: grace}, ctx, cancel
}

// statusGrace is what a command's connection gets to carry its status.
const statusGrace = 2 * time.Second

// watched is a response writer. It does not say what it wraps, because those who
// would ask want to take over the connection behind its back.
type watched struct {
	http.ResponseWriter
	ctx    context.Context
	cancel context.CancelFunc
	grace  time.Duration
}

// Hijack implements http.Hijacker.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("kubelet API: %w", err)
	}
	context.AfterFunc(w.ctx, func() {
		conn.SetDeadline(time.Now().Add(w.grace)) //nolint:errcheck // it may be closed already
	})
	watching := &watchedConn{Conn: conn, cancel: w.cancel}
	// What the client sent early is in the old buffer and has to be read first.
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, nil, fmt.Errorf("kubelet API: %w", err)
	}
	watching.early = append([]byte(nil), early...)
	return watching, bufio.NewReadWriter(bufio.NewReader(watching), bufio.NewWriter(watching)), nil
}

// Flush implements http.Flusher.
func (w *watched) Flush() {
	http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // http.Flusher can't say
}

// watchedConn cancels when the connection can't be read any more.
type watchedConn struct {
	net.Conn
	early  []byte // to be read before Conn
	cancel context.CancelFunc
}

// Read implements net.Conn.
func (c *watchedConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			c.cancel()
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	c.cancel()
	return c.Conn.Close()
}
