package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
)

// ErrLocked means that another podinit runs the host pod already.
var ErrLocked = errors.New("another podinit runs this pod")

// lockHost takes the lock of a host pod. It tells the agent, of whatever age, that the pod is being run and by
// which process; the kernel gives it back with the process.
func (c Config) lockHost() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.Host, podinit.HostLockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("podinit: lock: %w", err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("podinit: lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil //nolint:errcheck // the kernel gives the lock back
}

// readHost reads where the volumes of a host pod are.
func (c *Config) readHost() error {
	data, err := os.ReadFile(filepath.Join(c.Host, podinit.HostFile))
	if err != nil {
		return fmt.Errorf("podinit: host pod: %w", err)
	}
	h, err := podinit.ParseHostPod(data)
	c.volumes = h.Volumes
	return err
}

// Detach makes this process independent of whoever started it: it leaves its
// session, and its standard streams become the console file of the host pod.
func Detach(dir string) error {
	console, err := os.OpenFile(filepath.Join(dir, podinit.HostConsole), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer console.Close() //nolint:errcheck // its duplicates stay open
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // as above
	for fd, f := range []*os.File{null, console, console} {
		if err := duplicate(int(f.Fd()), fd); err != nil {
			return err
		}
	}
	if _, err := syscall.Setsid(); err != nil && !errors.Is(err, syscall.EPERM) {
		return err // EPERM: it leads a session already
	}
	return nil
}

// Sweep ends what a host pod has left behind: every process with a container's
// root, and every mount in one. It is for a pod whose podinit is gone.
func Sweep(ctx context.Context, config Config) error {
	unlock, err := config.lockHost()
	if err != nil {
		return err
	}
	defer unlock()
	s := &Supervisor{config: config, log: config.Log, reaper: newReaper()}
	defer s.reaper.close()
	stop := s.reapMeanwhile()
	defer stop()
	if err := s.killLeft(ctx); err != nil {
		return err
	}
	return s.unmountLeft()
}
