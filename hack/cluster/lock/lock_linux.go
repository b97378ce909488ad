// Package lock keeps a folder to one process, and tells others which process
// that is.
//
// It uses a POSIX record lock, not flock(2): the kernel names its holder, as
// seen from the asker's pid namespace, so no file with a process id can go
// stale. Such a lock is lost when the process closes any descriptor of the
// file, so nothing else may open it.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld means that another process has the lock.
var ErrHeld = errors.New("in use by another process")

// Lock is a lock that this process holds until it ends or calls Release.
type Lock struct{ file *os.File }

// Acquire takes the lock of the file at path, which it makes if needed.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, wholeFile())
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAGAIN) {
		err = ErrHeld
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, f.Close()))
	}
	return &Lock{f}, nil
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }

// Holder returns the process that holds the lock of the file at path, 0 if
// there is none. A file that is not there is not locked.
func Holder(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("lock: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	l := wholeFile()
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, l); err != nil {
		return 0, fmt.Errorf("lock %s: %w", path, err)
	}
	if l.Type == unix.F_UNLCK {
		return 0, nil
	}
	if l.Pid <= 0 {
		return 0, fmt.Errorf("lock %s: %w outside this pid namespace", path, ErrHeld)
	}
	return int(l.Pid), nil
}

// Terminate sends SIGTERM to the holder of the lock and waits until it has
// ended. It does nothing if there is no holder.
func Terminate(ctx context.Context, path string) error {
	pid, err := Holder(path)
	if err != nil || pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only a handle
	// The number may have gone to another process before the handle was made.
	if again, err := Holder(path); err != nil || again != pid {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	return waitEnd(ctx, fd, pid)
}

// waitEnd waits until the process of a pidfd has ended: it is readable then.
func waitEnd(ctx context.Context, fd, pid int) error {
	const slice = 200 * time.Millisecond // how late an ended ctx may be noticed
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(slice/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("process %d: %w", pid, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("process %d still runs: %w", pid, context.Cause(ctx))
		}
	}
}

func wholeFile() *unix.Flock_t {
	return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
}
