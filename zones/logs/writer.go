package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits bound what a container's log takes.
type Limits struct {
	Size  int64 // bytes of one file, after which it is rotated
	Files int   // files kept, the newest included
}

// DefaultLimits are a kubelet's.
var DefaultLimits = Limits{Size: 10 << 20, Files: 5}

// Writer writes the log file of one attempt of a container. Losing lines is
// better than stopping a container, so a line that cannot be written, as on a
// full disk, is dropped and counted; the count is written when there is room.
// It is safe for several goroutines.
type Writer struct {
	mu      sync.Mutex
	path    string
	limits  Limits
	file    *os.File // nil while it could not be opened
	size    int64
	dropped int
	closed  bool
	buf     []byte
}

// Create opens the log file at path for appending, and makes its directory.
func Create(path string, limits Limits) (*Writer, error) {
	if limits.Size < 1 || limits.Files < 1 {
		return nil, fmt.Errorf("logs: limits of %d bytes and %d files", limits.Size, limits.Files)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	w := &Writer{path: path, limits: limits}
	if err := w.open(); err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	return w, nil
}

// Continue goes on with a log file. It is opened with the next line.
func Continue(path string, limits Limits) *Writer { return &Writer{path: path, limits: limits} }

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.size = f, info.Size()
	return nil
}

// Write writes one line, with the present time.
func (w *Writer) Write(stream Stream, partial bool, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	now := time.Now()
	if w.dropped > 0 {
		note := fmt.Appendf(nil, "[reddwarf: %d log lines could not be written]", w.dropped)
		if !w.write(Line{Time: now, Stream: Stderr, Text: note}) {
			w.dropped++
			return
		}
		w.dropped = 0
	}
	if !w.write(Line{Time: now, Stream: stream, Partial: partial, Text: text}) {
		w.dropped++
	}
}

// write appends one line whole or not at all. A rotation never parts the pieces
// of nothing: it happens between lines.
func (w *Writer) write(l Line) bool {
	w.buf = l.append(w.buf[:0])
	if w.size > 0 && w.size+int64(len(w.buf)) > w.limits.Size {
		w.rotate()
	}
	if w.file == nil && w.open() != nil {
		return false
	}
	n, err := w.file.Write(w.buf)
	if err == nil {
		w.size += int64(n)
		return true
	}
	if n > 0 { // do not leave half a line
		if terr := w.file.Truncate(w.size); terr != nil {
			w.size += int64(n)
		}
	}
	return false
}

// rotate moves FILE to FILE.1, FILE.1 to FILE.2 and so on, and lets the oldest
// go. If that fails the file just grows until it can.
func (w *Writer) rotate() {
	if w.limits.Files == 1 {
		if os.Remove(w.path) != nil {
			return
		}
	}
	for i := w.limits.Files - 1; i > 0; i-- {
		err := os.Rename(numbered(w.path, i-1), numbered(w.path, i))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	w.file.Close() //nolint:errcheck // every line was written by itself
	w.file = nil
}

// numbered returns the name of the i-th file, 0 being the newest.
func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

// Close closes the file. Lines that come later are dropped.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// Dropped returns how many lines could not be written and are not yet accounted
// for in the log.
func (w *Writer) Dropped() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Stream returns what cuts a byte stream into lines of this log. begun is the
// beginning of a line, as Rest returned it, or nil.
func (w *Writer) Stream(s Stream, begun []byte) *Cutter {
	return &Cutter{w: w, stream: s, rest: begun}
}

// Cutter cuts one stream of a container into lines. It is for one goroutine.
type Cutter struct {
	w      *Writer
	stream Stream
	rest   []byte // the beginning of a line, shorter than MaxText
}

// Write never fails.
func (c *Cutter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room := MaxText - len(c.rest)
		part := p[:min(len(p), room)]
		i := bytes.IndexByte(part, '\n')
		switch {
		case i >= 0:
			c.emit(false, part[:i])
			p = p[i+1:]
		case len(part) == room:
			c.emit(true, part)
			p = p[room:]
		default:
			c.rest = append(c.rest, part...)
			p = nil
		}
	}
	return n, nil
}

func (c *Cutter) emit(partial bool, text []byte) {
	if len(c.rest) > 0 {
		text = append(c.rest, text...)
		c.rest = c.rest[:0]
	}
	c.w.Write(c.stream, partial, text)
}

// Rest returns the beginning of a line that has had no end yet.
func (c *Cutter) Rest() []byte { return c.rest }

// Close writes what is left of a line that had no end.
func (c *Cutter) Close() {
	if len(c.rest) > 0 {
		c.emit(true, nil) // readers must not end a line that the program did not end
	}
}
