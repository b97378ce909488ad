package supervisor

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// streams are the standard streams of a process: the child's ends, and ours.
// With a terminal all are one.
type streams struct {
	pty   *os.File // our side of the terminal, or nil
	stdin *os.File // what the process reads; nil without
	out   *os.File // what it writes; the terminal's side with one
	err   *os.File // nil with a terminal

	ends []*os.File // the child's three, some of them the same
}

func (s *streams) tty() bool { return s.pty != nil }

// child returns the descriptors for the child.
func (s *streams) child() []uintptr {
	fds := make([]uintptr, 0, 5)
	for _, f := range s.ends {
		fds = append(fds, f.Fd())
	}
	return fds
}

// closeChild closes our copies of the child's ends.
func (s *streams) closeChild() {
	for _, f := range s.ends {
		f.Close() //nolint:errcheck // the child has its own, if it was started
	}
	s.ends = nil
}

// close closes our ends too.
func (s *streams) close() {
	s.closeChild()
	for _, f := range []*os.File{s.pty, s.stdin, s.out, s.err} {
		if f != nil {
			f.Close() //nolint:errcheck // nothing is written through it any more
		}
	}
}

func openStreams(tty, stdin bool) (*streams, error) {
	if tty {
		return openTerminal()
	}
	s := &streams{}
	var in, out, errOut *os.File
	var err error
	if stdin {
		in, s.stdin, err = pipe(true)
	} else {
		in, err = os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	s.ends = []*os.File{in}
	if out, s.out, err = pipe(false); err == nil {
		s.ends = append(s.ends, out)
		errOut, s.err, err = pipe(false)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.ends = append(s.ends, errOut)
	return s, nil
}

// pipe returns the child's end, which blocks as programs expect, and ours,
// which can be given deadlines. childReads says which end is the child's.
func pipe(childReads bool) (child, ours *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	c, o := p[1], p[0]
	if childReads {
		c, o = p[0], p[1]
	}
	if err := unix.SetNonblock(o, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(c), unix.Close(o))
	}
	return os.NewFile(uintptr(c), "child"), os.NewFile(uintptr(o), "pipe"), nil
}

func openTerminal() (*streams, error) {
	ptmx, tty, err := pty.Open()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Dup(int(ptmx.Fd()))
	if err == nil {
		unix.CloseOnExec(fd)
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, errors.Join(err, ptmx.Close(), tty.Close())
	}
	ptmx.Close() //nolint:errcheck // fd is the same
	m := os.NewFile(uintptr(fd), "ptmx")
	return &streams{pty: m, ends: []*os.File{tty, tty, tty}}, nil
}

// drain lets the output be read on for a while. After that, only what is
// already in a pipe is read.
func (s *streams) drain(d time.Duration) {
	deadline := time.Now().Add(d)
	for _, f := range []*os.File{s.pty, s.out, s.err} {
		if f != nil {
			f.SetReadDeadline(deadline) //nolint:errcheck // pipes have deadlines
		}
	}
}

// dryTime is how long a pipe must have nothing to be read after the drain.
const dryTime = 20 * time.Millisecond

// buffers are those of copyOut, which every program run for a client needs two
// of: made anew each time they would be most of podinit's garbage.
var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// copyOut passes what a process writes to write, until its end, or until write
// fails, or after drain until nothing is left, or, where stop says so, right
// when the read deadline has passed. The end of a terminal is EIO.
func copyOut(write func([]byte) (int, error), from *os.File, stop func() bool) {
	buf := buffers.Get().(*[16 << 10]byte) //nolint:forcetypeassert,errcheck // nothing else is put there
	defer buffers.Put(buf)
	late := false
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			late = false
			if _, werr := write(buf[:n]); werr != nil {
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !late && !stop():
			late = true
			from.SetReadDeadline(time.Now().Add(dryTime)) //nolint:errcheck // pipes have deadlines
		default:
			return
		}
	}
}
