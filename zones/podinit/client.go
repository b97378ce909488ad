package podinit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// answerTimeout bounds the wait for an answer where the caller set no
// deadline. Starting a container mounts and forks, which takes milliseconds;
// killing one waits for its processes to go.
const answerTimeout = time.Minute

// Client talks to the podinit of one zone. Each call is a connection of its
// own, so calls do not wait for each other. It is safe for several goroutines.
//
// What comes back is the zone's word. It is bounded and checked for form.
type Client struct {
	dial func(context.Context) (net.Conn, error)
}

// NewClient returns a Client that reaches its zone by dial, which is called
// for every operation and returns when its context ends.
func NewClient(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{dial: dial}
}

// State returns the states of all containers.
func (c *Client) State(ctx context.Context) (State, error) {
	call, err := c.ask(ctx, Request{Op: OpState})
	if err != nil {
		return State{}, err
	}
	defer call.close()
	if call.reply.State == nil {
		return State{}, fmt.Errorf("%w: a reply without state", ErrProtocol)
	}
	return *call.reply.State, nil
}

// Usage returns what the containers that run have used, by container. It is
// the zone's word: a sum over its processes that no kernel vouches for.
func (c *Client) Usage(ctx context.Context) ([]ContainerUsage, error) {
	call, err := c.ask(ctx, Request{Op: OpUsage})
	if err != nil {
		return nil, err
	}
	defer call.close()
	return call.reply.Usage, nil
}

// Watch calls report, from this goroutine only, with the current state and
// then with every change, though changes in quick succession may come as one.
// It returns when ctx ends or the connection does, with an error always.
func (c *Client) Watch(ctx context.Context, report func(State)) error {
	call, err := c.begin(ctx, Request{Op: OpWatch})
	if err != nil {
		return err
	}
	defer call.close()
	for {
		kind, p, err := call.r.Next()
		if err != nil {
			return call.failed(err)
		}
		if kind != wire.State {
			return fmt.Errorf("%w: frame of kind %d in a watch", ErrProtocol, kind)
		}
		s, err := ParseState(p)
		if err != nil {
			return err
		}
		report(s)
	}
}

// Start starts attempt c.Attempt of a container. An attempt that was started
// before, running still or not, is left alone and no error. That the program
// could not be run is no error here either: State tells, as for the
// containers that podinit starts by itself.
func (c *Client) Start(ctx context.Context, container Container) error {
	return c.simple(ctx, Request{Op: OpStart, Start: &container})
}

// Signal sends a signal, by its name, to a container's main process.
func (c *Client) Signal(ctx context.Context, container, signal string) error {
	return c.simple(ctx, Request{Op: OpSignal, Container: container, Signal: signal})
}

// Kill sends SIGKILL to every process of a container. It does not wait for the
// container's state to become Exited. Killing what does not run succeeds.
func (c *Client) Kill(ctx context.Context, container string) error {
	return c.simple(ctx, Request{Op: OpKill, Container: container})
}

// Read returns the content of a file of a volume, of at most MaxFile bytes.
func (c *Client) Read(ctx context.Context, volume, path string) ([]byte, error) {
	call, err := c.ask(ctx, Request{Op: OpRead, Volume: volume, Path: path})
	if err != nil {
		return nil, err
	}
	defer call.close()
	if len(call.reply.Data) > MaxFile {
		return nil, fmt.Errorf("%w: a file of %d bytes", ErrProtocol, len(call.reply.Data))
	}
	return call.reply.Data, nil
}

// Shutdown kills every container and ends podinit, and with it the zone.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.simple(ctx, Request{Op: OpShutdown})
}

func (c *Client) simple(ctx context.Context, r Request) error {
	call, err := c.ask(ctx, r)
	if err != nil {
		return err
	}
	call.close()
	return nil
}

// ask is begin with a bound on the wait for the reply.
func (c *Client) ask(ctx context.Context, r Request) (*call, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTimeout)
		defer cancel()
	}
	return c.begin(ctx, r)
}

// call is one connection on which a request has been accepted.
type call struct {
	ctx   context.Context //nolint:containedctx // a call lives no longer than the method that made it
	conn  net.Conn
	r     *wire.Reader
	w     *wire.Writer
	reply Reply
	stop  func() bool
	once  sync.Once
}

// begin dials, sends r and reads the reply. Until the call is closed, the end
// of ctx closes the connection.
func (c *Client) begin(ctx context.Context, r Request) (*call, error) {
	r.Version = Version
	msg, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("podinit: request: %w", err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("podinit: connect: %w", err)
	}
	k := &call{ctx: ctx, conn: conn, r: wire.NewReader(conn), w: wire.NewWriter(conn)}
	k.stop = context.AfterFunc(ctx, k.drop)
	if err := k.handshake(msg); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *call) handshake(request []byte) error {
	if err := k.w.Message(wire.Request, request); err != nil {
		return k.failed(err)
	}
	kind, p, err := k.r.Next()
	if err != nil {
		return k.failed(err)
	}
	if kind != wire.Reply {
		return fmt.Errorf("%w: frame of kind %d instead of a reply", ErrProtocol, kind)
	}
	if k.reply, err = parseReply(p); err != nil {
		return err
	}
	if k.reply.Error != nil {
		return k.reply.Error
	}
	return nil
}

// parseReply decodes and checks a Reply that a zone gave.
func parseReply(data []byte) (Reply, error) {
	var r Reply
	if err := json.Unmarshal(data, &r); err != nil {
		return Reply{}, fmt.Errorf("%w: reply: %w", ErrProtocol, err)
	}
	if r.Version != Version {
		return Reply{}, fmt.Errorf("%w: reply of version %d, not %d", ErrProtocol, r.Version, Version)
	}
	if e := r.Error; e != nil {
		if len(e.Message) > maxErrorText {
			e.Message = e.Message[:maxErrorText]
		}
		if e.Code < 0 || e.Code > 255 {
			return Reply{}, fmt.Errorf("%w: reply with code %d", ErrProtocol, e.Code)
		}
	}
	for _, u := range r.Usage {
		if err := u.validate(); err != nil {
			return Reply{}, fmt.Errorf("%w: usage: %w", ErrProtocol, err)
		}
	}
	if r.State != nil {
		if err := r.State.validate(); err != nil {
			return Reply{}, fmt.Errorf("%w: state: %w", ErrProtocol, err)
		}
	}
	return r, nil
}

// failed turns an error of the connection into what the caller should see.
func (k *call) failed(err error) error {
	if k.ctx.Err() != nil {
		return context.Cause(k.ctx)
	}
	if errors.Is(err, wire.ErrFrame) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return fmt.Errorf("podinit: connection: %w", err)
}

// drop closes the connection, which ends every read and write of it.
func (k *call) drop() {
	k.once.Do(func() { k.conn.Close() }) //nolint:errcheck // nothing depends on it any more
}

func (k *call) close() {
	k.stop()
	k.drop()
}

// Forward connects to a TCP port of the zone's loopback address, IPv4 before
// IPv6. The connection ends with ctx. It has a CloseWrite method that tells
// the other side that no more data comes.
func (c *Client) Forward(ctx context.Context, port uint16) (io.ReadWriteCloser, error) {
	k, err := c.begin(ctx, Request{Op: OpForward, Port: port})
	if err != nil {
		return nil, err
	}
	return &Forwarded{call: k, w: k.w.Stream(wire.Data)}, nil
}

// Forwarded is one connection into a zone. Reads and writes may come from
// different goroutines.
type Forwarded struct {
	call *call
	w    io.Writer
	rest []byte
	eof  bool
}

// Read implements io.Reader.
func (f *Forwarded) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.eof {
			return 0, io.EOF
		}
		kind, data, err := f.call.r.Next()
		if err != nil {
			return 0, f.call.failed(err)
		}
		switch kind {
		case wire.Data:
			f.rest = data
		case wire.DataClose:
			f.eof = true
		default:
			return 0, fmt.Errorf("%w: frame of kind %d in a forwarded connection", ErrProtocol, kind)
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (f *Forwarded) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		err = f.call.failed(err)
	}
	return n, err
}

// CloseWrite tells the program in the zone that no more data comes.
func (f *Forwarded) CloseWrite() error { return f.call.w.Message(wire.DataClose, nil) }

// Close ends the connection both ways.
func (f *Forwarded) Close() error {
	f.call.close()
	return nil
}

// ReadState reads the state that podinit left in a run directory: a zone's
// last words when it no longer runs. The file is the zone's, so it is opened
// below dir without following links, bounded, and checked. A zone that never
// got so far has none: the error is then fs.ErrNotExist.
func ReadState(dir string) (State, error) {
	data, err := readBelow(dir, StateFile, wire.MaxMessage)
	if err != nil {
		return State{}, fmt.Errorf("podinit: state file: %w", err)
	}
	return ParseState(data)
}

func readBelow(dir, name string, most int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read
	// Neither a link nor a device or FIFO, whose open or read could block.
	if info, err := root.Lstat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return data, nil
}
