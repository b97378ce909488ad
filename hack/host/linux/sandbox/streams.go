//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sizeInterval is how often the size of the caller's terminal is looked at:
// this process is in another session, so no signal tells it of changes.
const sizeInterval = 250 * time.Millisecond

// streams join this process's standard streams to those of a program in the
// zone.
type streams struct {
	theirs []*os.File // the program's ends, ours to close once it runs
	input  *os.File   // where our standard input goes
	output []output
	master *os.File // of a terminal

	copying sync.WaitGroup // output only: the input may never end
	stop    chan struct{}
	restore func()
}

// output is one stream that comes out of the zone.
type output struct {
	from, to *os.File
}

// connectPipes gives cmd three pipes, as zlogin does without a terminal.
func connectPipes(cmd *exec.Cmd) (*streams, error) {
	s := &streams{stop: make(chan struct{}), restore: func() {}}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, errW
	s.theirs = []*os.File{inR, outW, errW}
	s.input = inW
	s.output = []output{{outR, os.Stdout}, {errR, os.Stderr}}
	return s, nil
}

// connectTerminal gives cmd a terminal of the zone's own devpts. It is found
// through /dev/pts alone, without following a link, and checked, because the
// zone may have put anything there.
func connectTerminal(cmd *exec.Cmd) (*streams, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/dev/pts/ptmx", &unix.OpenHow{
		Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/pts/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("terminal: unlock: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, fmt.Errorf("terminal: %w", errno)
	}
	slave := os.NewFile(peer, "/dev/pts/"+strconv.Itoa(n))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	s := &streams{
		theirs: []*os.File{slave}, input: master, master: master,
		output: []output{{master, os.Stdout}}, stop: make(chan struct{}), restore: func() {},
	}
	s.size(nil)
	s.restore = makeRaw(int(os.Stdin.Fd()))
	return s, nil
}

// abandon undoes what connect did when the program could not be started.
func (s *streams) abandon() { s.restore() }

// copy starts carrying bytes both ways.
func (s *streams) copy() {
	for _, f := range s.theirs {
		_ = f.Close() // the program has its own
	}
	go func() { // ends with our input or with this process
		_, _ = io.Copy(s.input, os.Stdin)
		if s.master == nil {
			_ = s.input.Close()
			return
		}
		_, _ = s.input.Write([]byte{4}) // what a terminal says for the end of input
	}()
	for _, o := range s.output {
		s.copying.Go(o.copy)
	}
	if s.master != nil {
		s.copying.Go(s.followSize)
	}
}

// copy carries output until the program's end is closed, or finish says so.
func (o output) copy() {
	_, err := io.Copy(o.to, o.from)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		o.drain()
	}
	_ = o.from.Close() // a program that goes on writing gets SIGPIPE
}

// drain copies what is there already and waits for nothing.
func (o output) drain() {
	raw, err := o.from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	_ = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if n <= 0 || err != nil {
				return
			}
			if _, err := o.to.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

// finish ends the copying after the program has ended: what it wrote is passed
// on, but what others in the zone may still write to its pipes is not awaited.
func (s *streams) finish() {
	close(s.stop)
	for _, o := range s.output {
		_ = o.from.SetReadDeadline(aLongTimeAgo)
	}
	s.copying.Wait()
	s.restore()
}

// followSize keeps the zone's terminal as large as the caller's.
func (s *streams) followSize() {
	tick := time.NewTicker(sizeInterval)
	defer tick.Stop()
	var last *unix.Winsize
	for {
		last = s.size(last)
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

// size sets the size of the zone's terminal if the caller's is not last, and
// returns the caller's, nil if it is no terminal.
func (s *streams) size(last *unix.Winsize) *unix.Winsize {
	now, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	if last == nil || *last != *now {
		raw, err := s.master.SyscallConn()
		if err != nil {
			return now
		}
		_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, now) })
	}
	return now
}

// makeRaw switches the caller's terminal, if fd is one, to passing on every
// key, and returns what undoes that.
func makeRaw(fd int) (restore func()) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	t := *old
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}
