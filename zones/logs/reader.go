package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// Options says what to read of a log.
type Options struct {
	// Tail is how many lines of what is there are read, from the end; nil
	// means all, 0 none.
	Tail *int64

	Since      time.Time // earlier lines are left out; zero for none
	Stream     Stream    // only this stream; empty for both
	Timestamps bool      // begin each line with its time
	LimitBytes int64     // stop after that many bytes; 0 for no limit

	// Follow waits for more until Ended is closed and everything has been
	// read. Ended is closed when nothing more will be written; nil means never.
	Follow bool
	Ended  <-chan struct{}
}

// pollInterval is how often a follower looks for more. A zone's writer cannot
// wake it.
const pollInterval = 200 * time.Millisecond

// maxTail bounds what is remembered to find a tail; more means all.
const maxTail = 1 << 20

// maxFiles bounds the rotated files that are looked for.
const maxFiles = 16

// Read writes the log file name, below dir, to w: the text of its lines as the
// container wrote it. Rotated files come first. dir is trusted; what is below
// is a zone's: links and files that are not regular are refused.
//
// The error is fs.ErrNotExist if there is no such log, ctx's cause if that
// ended, and w's if it failed. Lines that are not in the format are left out.
func Read(ctx context.Context, dir, name string, o Options, w io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	s := &source{root: root, name: name}
	defer s.close()
	if err := s.openAll(); err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	if o.Tail != nil && *o.Tail >= 0 && *o.Tail < maxTail {
		if err := s.seekTail(*o.Tail, o.Stream); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
	}
	p := &printer{w: w, options: o, within: map[Stream]bool{}}
	err = pump(ctx, s, p, o)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// pump prints what there is and, if asked to, what comes.
func pump(ctx context.Context, s *source, p *printer, o Options) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for last := !o.Follow; ; {
		if err := s.drain(ctx, p); err != nil {
			return err
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.Ended:
			last = true // what was written before the end is read once more
		case <-tick.C:
		}
		if err := s.advance(ctx, p); err != nil {
			return err
		}
	}
}

// source is a log's files, oldest first, open. The first is being read.
type source struct {
	root  *os.Root
	name  string
	files []*lines
}

func (s *source) close() {
	for _, l := range s.files {
		l.f.Close() //nolint:errcheck // only read
	}
	s.files = nil
}

// openAll opens the log's files. They are opened from the newest: a rotation
// meanwhile shows a file twice rather than not at all. If the newest has
// changed when all are open, they are opened again.
func (s *source) openAll() error {
	for range 10 {
		s.close()
		found, err := s.openFrom(nil)
		if err != nil {
			return err
		}
		s.files = found
		if len(found) == 0 {
			return fmt.Errorf("%s: %w", s.name, fs.ErrNotExist)
		}
		newest := found[len(found)-1]
		info, err := s.root.Lstat(s.name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(info, newest.info) {
			return nil
		}
	}
	return fmt.Errorf("%s: it is rotated too fast", s.name)
}

// openFrom opens the files that are newer than after, or all; oldest first.
func (s *source) openFrom(after fs.FileInfo) ([]*lines, error) {
	var found []*lines
	for i := range maxFiles {
		l, err := openLines(s.root, numbered(s.name, i))
		if errors.Is(err, fs.ErrNotExist) && i == 0 {
			continue // between a rotation and the next line
		}
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			closeAll(found)
			return nil, err
		}
		if after != nil && os.SameFile(l.info, after) {
			l.f.Close() //nolint:errcheck // only read
			break
		}
		if n := len(found); n > 0 && os.SameFile(found[0].info, l.info) {
			l.f.Close() //nolint:errcheck // only read
			continue
		}
		found = append([]*lines{l}, found...)
	}
	return found, nil
}

func closeAll(all []*lines) {
	for _, l := range all {
		l.f.Close() //nolint:errcheck // only read
	}
}

// drain prints all files to their present ends and keeps the newest.
func (s *source) drain(ctx context.Context, p *printer) error {
	for {
		if err := s.files[0].each(ctx, p.print); err != nil {
			return err
		}
		if len(s.files) == 1 {
			return nil
		}
		s.files[0].f.Close() //nolint:errcheck // only read
		s.files = s.files[1:]
	}
}

// advance finds the files that came after the one being read. That one gets no
// more lines once it has been renamed, so it is read to its end first.
func (s *source) advance(ctx context.Context, p *printer) error {
	now := s.files[0]
	info, err := s.root.Lstat(s.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(info, now.info) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	if err := now.each(ctx, p.print); err != nil {
		return err
	}
	newer, err := s.openFrom(now.info)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	s.files = append(s.files, newer...)
	return nil
}

// seekTail puts the files to where the last n lines of a stream begin.
func (s *source) seekTail(n int64, stream Stream) error {
	for i := len(s.files) - 1; i >= 0; i-- {
		l := s.files[i]
		offsets, err := l.offsets(n, stream)
		if err != nil {
			return err
		}
		if n -= int64(len(offsets)); n > 0 && i > 0 {
			continue
		}
		if n == 0 {
			l.off = l.end
			if len(offsets) > 0 {
				l.off = offsets[0]
			}
		}
		closeAll(s.files[:i])
		s.files = s.files[i:]
		return nil
	}
	return nil
}

// openLines opens one file of a zone.
func openLines(root *os.Root, name string) (*lines, error) {
	for dir := name; dir != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil, fmt.Errorf("%s: a symbolic link", dir)
		}
	}
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	// It may have become something else meanwhile, of which an open must not
	// wait for a writer.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !opened.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &lines{f: f, info: opened}, nil
}

// errLimit ends a reading at Options.LimitBytes.
var errLimit = errors.New("logs: limit reached")

// printer writes the text of lines.
type printer struct {
	w       io.Writer
	options Options
	within  map[Stream]bool // in the middle of a line
	written int64
	buf     []byte
}

func (p *printer) print(l Line) error {
	if l.Time.Before(p.options.Since) || p.options.Stream != "" && l.Stream != p.options.Stream {
		return nil
	}
	p.buf = p.buf[:0]
	if p.options.Timestamps && !p.within[l.Stream] {
		p.buf = append(l.Time.UTC().AppendFormat(p.buf, timeForm), ' ')
	}
	p.buf = append(p.buf, l.Text...)
	if !l.Partial {
		p.buf = append(p.buf, '\n')
	}
	p.within[l.Stream] = l.Partial
	limited := p.options.LimitBytes > 0
	if left := p.options.LimitBytes - p.written; limited && int64(len(p.buf)) > left {
		p.buf = p.buf[:left]
	}
	n, err := p.w.Write(p.buf)
	p.written += int64(n)
	if err == nil && limited && p.written >= p.options.LimitBytes {
		err = errLimit
	}
	return err
}

// Path returns the name of an attempt's log below a zone's log directory. The
// container's name is a DNS label.
func Path(container string, attempt int) string {
	return path.Join(container, fmt.Sprintf("%d.log", attempt))
}
