//go:build linux

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// initMain is a zone's first process: it builds the zone, waits for the boot,
// and becomes the zone's init. It ends when the socket is closed before.
func initMain() error {
	runtime.LockOSThread() // the bounding set is a thread's
	unix.CloseOnExec(controlFD)
	unix.Umask(0o022)
	control := os.NewFile(controlFD, "control")
	in, out := json.NewDecoder(control), json.NewEncoder(control)
	var b *build
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var err error
		switch {
		case o.Build != nil:
			b = o.Build
			err = b.run()
		case b == nil:
			err = errors.New("boot before build")
		default:
			err = b.exec(o.Exec)
		}
		a := answer{}
		if err != nil {
			a = failure(err)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// run turns this process's namespaces into the zone.
func (b *build) run() error {
	s := b.Sandbox
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	// From here on no mount of ours is seen outside, and of theirs only what
	// comes below the source of a lofs mount.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from the host: %w", err)
	}
	if err := openConsole(b.Console); err != nil {
		return err
	}
	root, err := mountRoot(s.Root)
	if err != nil {
		return err
	}
	defer root.close()
	if err := root.mountAll(s.Mounts); err != nil {
		return err
	}
	if err := root.pivot(); err != nil {
		return err
	}
	hostname := s.Hostname
	if hostname == "" {
		hostname = s.Name
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("hostname %q: %w", hostname, err)
	}
	return loopbackUp()
}

// openConsole makes the file at path, or its /dev/null, this process's output;
// its input is empty. A zone's init thus starts without a terminal.
func openConsole(path string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // duplicated
	console, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	defer console.Close() //nolint:errcheck // duplicated
	for fd, f := range []*os.File{null, console, console} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("console: %w", err)
		}
	}
	return nil
}

// exec replaces this process by the zone's init. It returns only on failure.
func (b *build) exec(argv []string) error {
	if err := boundCapabilities(b.Sandbox.Caps.Locked); err != nil {
		return err
	}
	// lxinit leaves its successor this one variable and no open files.
	err := unix.Exec(argv[0], argv, []string{"container=zone"})
	return &os.PathError{Op: "exec", Path: argv[0], Err: err}
}

// loopbackUp brings lo up in this network namespace, as a zone has lo0.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}
