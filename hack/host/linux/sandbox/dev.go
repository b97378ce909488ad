//go:build linux

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// device is a character device that every zone has.
type device struct {
	name         string
	major, minor uint32
}

func zoneDevices() []device {
	return []device{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	}
}

// mountDev makes a /dev of the zone's own at dir: a few devices, a devpts that
// nobody shares, shared memory and the links that Linux programs expect.
func (r *root) mountDev(dir string) error {
	tree, err := newFS("tmpfs", map[string]string{"source": "dev", "mode": "0755", "size": "64k"})
	if err != nil {
		return err
	}
	dev := &root{fd: tree}
	defer dev.close()
	if err := r.attach(tree, dir); err != nil {
		return err
	}
	for _, d := range zoneDevices() {
		if err := dev.device(d); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := unix.Symlinkat(target, tree, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, sub := range []struct {
		dir, kind string
		params    map[string]string
	}{
		{"/pts", "devpts", map[string]string{"source": "devpts", "ptmxmode": "0666", "mode": "0620"}},
		{"/shm", "tmpfs", map[string]string{"source": "swap", "mode": "1777"}},
	} {
		fs, err := newFS(sub.kind, sub.params)
		if err != nil {
			return fmt.Errorf("%s: %w", sub.dir, err)
		}
		err = dev.attach(fs, sub.dir)
		_ = unix.Close(fs)
		if err != nil {
			return fmt.Errorf("%s: %w", sub.dir, err)
		}
	}
	return nil
}

// device makes one device. Where this process may not (in a user namespace),
// the host's own device is mounted instead.
func (r *root) device(d device) error {
	mode := uint32(unix.S_IFCHR | 0o666)
	err := unix.Mknodat(r.fd, d.name, mode, int(unix.Mkdev(d.major, d.minor)))
	if err == nil {
		return unix.Fchmodat(r.fd, d.name, 0o666, 0) // past the umask
	}
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := unix.Mknodat(r.fd, d.name, unix.S_IFREG|0o666, 0); err != nil {
		return err
	}
	tree, err := lofs("/dev/"+d.name, false)
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // a path only
	at, err := unix.Openat(r.fd, d.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at) //nolint:errcheck // a path only
	return attach(tree, at)
}
