package supervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// isLX says whether this is not Linux but an lx zone, whose system calls are
// illumos': its mount turns MS_BIND into a lofs mount, takes MS_RDONLY and
// MS_NOSUID at once, and refuses flags that it does not know, MS_REC among
// them (mount.c of the lx brand).
func isLX() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && bytes.HasPrefix(u.Version[:], []byte("BrandZ"))
}

// bind makes source visible at target.
func (mounter) bind(source, target *place, flags mountFlags) error {
	f := uintptr(unix.MS_BIND)
	if isLX() {
		// An open directory is busy to illumos, and cannot be mounted on.
		source.close()
		target.close()
		source.pin, target.pin = nil, nil
		if flags.readOnly {
			f |= unix.MS_RDONLY
		}
		if flags.noSetuid {
			f |= unix.MS_NOSUID
		}
		return unix.Mount(source.path, target.path, "lofs", f, "")
	}
	if err := unix.Mount(source.name(), target.name(), "", f|unix.MS_REC, ""); err != nil {
		return err
	}
	if flags == (mountFlags{}) {
		return nil
	}
	// Linux ignores the flags of a new bind mount: they need a second call, on
	// what is now mounted there, to which the pin does not lead. They hold for
	// what is mounted below too, as those of lofs.
	var attr unix.MountAttr
	if flags.readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if flags.noSetuid {
		attr.Attr_set |= unix.MOUNT_ATTR_NOSUID
	}
	return unix.MountSetattr(unix.AT_FDCWD, target.path, unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW, &attr)
}

// unmount takes one mount away. It may be busy for a moment after the last
// process of a container has gone.
func (mounter) unmount(path string, force bool) error {
	flags := 0
	switch {
	case force && isLX():
		flags = unix.MNT_FORCE
	case force:
		flags = unix.MNT_DETACH | unix.UMOUNT_NOFOLLOW
	case !isLX():
		flags = unix.UMOUNT_NOFOLLOW
	}
	return unix.Unmount(path, flags)
}

// mountPoints returns the directories on which something is mounted, in the
// order of the mounts.
func mountPoints() ([]string, error) {
	if f, err := os.Open("/proc/self/mountinfo"); err == nil {
		defer f.Close() //nolint:errcheck // only read
		return fieldOf(f, 4)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return fieldOf(f, 1)
}

func fieldOf(f *os.File, n int) ([]string, error) {
	var points []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > n {
			points = append(points, unescape(fields[n]))
		}
	}
	return points, lines.Err()
}

// systemWishes are what every container has. On the simulated host a container
// of the global zone has the host's commands too, as it has on illumos.
func systemWishes(host bool) []wish {
	list := []wish{
		{from: "/", source: "proc", target: "/proc"},
		{from: "/", source: "dev", target: "/dev"},
		{from: "/", source: "sys", target: "/sys", optional: true},
	}
	if host {
		list = append(list,
			wish{from: "/", source: "usr", target: "/usr", flags: mountFlags{readOnly: true}},
			wish{from: "/", source: "run", target: "/run"})
	}
	return list
}

// pinDir and pinFile return handles that name a directory or file itself.
func pinDir(r *os.Root) (*os.File, error) {
	return r.OpenFile(".", unix.O_PATH|unix.O_DIRECTORY, 0)
}

func pinFile(r *os.Root, name string) (*os.File, error) {
	f, err := r.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		err = fmt.Errorf("%s: became a symbolic link", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
