package supervisor

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
)

// drainTime is how long an output may stay open after the last process of its
// container: something in another container may hold it.
const drainTime = 2 * time.Second

// output carries what a container's main process writes into the log and to
// those attached.
type output struct {
	log     *logs.Writer
	streams *streams
	spec    podinit.Container
	pumps   []*pump
	paused  atomic.Bool
	running sync.WaitGroup // the pumps' goroutines

	mu       sync.Mutex
	attached map[*viewer]bool
	closed   bool
}

// pump carries one stream.
type pump struct {
	from   *os.File
	stream logs.Stream
	lines  *logs.Cutter
}

// newOutput returns the output of a container. begun are the beginnings of lines that an earlier program of this
// process has read, by stream.
func newOutput(log *logs.Writer, s *streams, spec podinit.Container, begun map[logs.Stream][]byte) *output {
	o := &output{log: log, streams: s, spec: spec, attached: map[*viewer]bool{}}
	add := func(from *os.File, stream logs.Stream) {
		o.pumps = append(o.pumps, &pump{from, stream, log.Stream(stream, begun[stream])})
	}
	if s.tty() {
		add(s.pty, logs.Stdout)
	} else {
		add(s.out, logs.Stdout)
		add(s.err, logs.Stderr)
	}
	return o
}

// run starts reading.
func (o *output) run() {
	for _, p := range o.pumps {
		o.running.Add(1)
		go func() {
			defer o.running.Done()
			copyOut(func(b []byte) (int, error) {
				o.show(p.stream, b)
				return p.lines.Write(b)
			}, p.from, o.paused.Load)
			if !o.paused.Load() {
				p.lines.Close()
			}
		}()
	}
}

// pause stops reading and returns when everything that was read is in the log,
// but for beginnings of lines. run goes on from there.
func (o *output) pause() {
	o.paused.Store(true)
	for _, p := range o.pumps {
		p.from.SetReadDeadline(longAgo) //nolint:errcheck // pipes have deadlines
	}
	o.running.Wait()
	for _, p := range o.pumps {
		p.from.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	}
	o.paused.Store(false)
}

// begun returns the beginnings of lines that have no end yet. The output is
// paused.
func (o *output) begun() map[logs.Stream][]byte {
	begun := map[logs.Stream][]byte{}
	for _, p := range o.pumps {
		if rest := p.lines.Rest(); len(rest) > 0 {
			begun[p.stream] = rest
		}
	}
	return begun
}

// show gives p to everyone attached. Nobody is waited for.
func (o *output) show(stream logs.Stream, p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := range o.attached {
		if !v.offer(chunk{stream, append([]byte(nil), p...)}) {
			delete(o.attached, v)
		}
	}
}

// close waits for what is still to be read, then ends the log and everyone
// attached.
func (o *output) close() {
	o.streams.drain(drainTime)
	o.running.Wait()
	o.streams.close()
	o.log.Close() //nolint:errcheck // every line was written by itself
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for v := range o.attached {
		v.end()
	}
	clear(o.attached)
}

// chunk is a piece of output.
type chunk struct {
	stream logs.Stream
	data   []byte
}

// maxBehind is how many chunks someone attached may be behind.
const maxBehind = 256

// viewer is someone attached.
type viewer struct {
	chunks  chan chunk // closed at the end of the output
	once    sync.Once
	tooSlow bool // set before chunks is closed
}

// offer passes a chunk on, or cuts the viewer off.
func (v *viewer) offer(c chunk) bool {
	select {
	case v.chunks <- c:
		return true
	default:
		v.tooSlow = true
		v.end()
		return false
	}
}

func (v *viewer) end() { v.once.Do(func() { close(v.chunks) }) }

// attach adds a viewer. It has none of what was written before.
func (o *output) attach() (*viewer, func()) {
	v := &viewer{chunks: make(chan chunk, maxBehind)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		v.end()
	} else {
		o.attached[v] = true
	}
	return v, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.attached, v)
	}
}

// stdin returns where input goes, or nil for a container without.
func (o *output) stdin() io.Writer {
	switch {
	case o.streams.pty != nil && o.spec.Stdin:
		return o.streams.pty
	case o.streams.stdin != nil:
		return o.streams.stdin
	}
	return nil
}

// closeInput ends the process's input, for a container that asked for that
// after the first who attached. A terminal gets its end-of-file character.
func (o *output) closeInput() error {
	if !o.spec.StdinOnce {
		return nil
	}
	if o.streams.pty != nil {
		_, err := o.streams.pty.Write([]byte{4})
		return err
	}
	if o.streams.stdin != nil {
		if err := o.streams.stdin.Close(); !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return nil
}
