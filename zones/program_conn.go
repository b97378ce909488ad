package zones

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// quitDelay is how long a program has to end after its connection was closed.
const quitDelay = 2 * time.Second

// programConn is a net.Conn whose other end is the standard input and output
// of a program.
type programConn struct {
	name string
	in   *os.File // what the program writes
	out  *os.File // what it reads

	stop context.CancelFunc
	done chan struct{} // closed when the program has ended; err is then set
	err  error
	once sync.Once
}

// dialProgram starts cmd and returns the connection to it. The program gets
// the far ends of two pipes itself, so nothing copies in between. It runs
// until Close, which waits for it.
func dialProgram(s command.Streamer, cmd command.Cmd) (net.Conn, error) {
	farIn, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in, farOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, farIn.Close(), out.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &programConn{name: cmd.Name, in: in, out: out, stop: stop, done: make(chan struct{})}
	go func() {
		c.err = s.Stream(ctx, cmd, farIn, farOut)
		close(c.done)
		farIn.Close()  //nolint:errcheck // our writes now fail
		farOut.Close() //nolint:errcheck // our reads now end
	}()
	return c, nil
}

// Read implements net.Conn. At the end of the stream the error says why the
// program ended, if it did not end well.
func (c *programConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if n == 0 && errors.Is(err, io.EOF) {
		<-c.done // the far end is closed only after the program's end
		if c.err != nil {
			return 0, c.err
		}
	}
	return n, err
}

// Write implements net.Conn. Where the program has ended already, the error
// says why.
func (c *programConn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		<-c.done // the far end is closed only after the program's end
		if c.err != nil {
			return n, c.err
		}
	}
	return n, err
}

// Close implements net.Conn. The program sees the end of its input; if that
// does not end it, it is killed.
func (c *programConn) Close() error {
	c.once.Do(func() {
		c.out.Close() //nolint:errcheck // a pipe
		c.in.Close()  //nolint:errcheck // a pipe
		t := time.AfterFunc(quitDelay, c.stop)
		<-c.done
		t.Stop()
		c.stop()
	})
	return nil
}

// SetDeadline implements net.Conn.
func (c *programConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *programConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *programConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

// LocalAddr implements net.Conn.
func (c *programConn) LocalAddr() net.Addr { return programAddr("agent") }

// RemoteAddr implements net.Conn.
func (c *programConn) RemoteAddr() net.Addr { return programAddr(c.name) }

type programAddr string

func (programAddr) Network() string  { return "program" }
func (a programAddr) String() string { return string(a) }
