//go:build linux

package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zfs"
)

// plain keeps objects as directories. A snapshot and a clone are copies, which
// share data where the file system below can (FICLONE).
type plain struct {
	root string
}

// errNoQuota is what directories cannot do.
const errNoQuota = zfs.Refused("quotas need a btrfs image, which this machine cannot mount")

func (p plain) create(dir string, _ uint64, groups []uint64) error {
	if len(groups) > 0 {
		return errNoQuota
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask
}

func (p plain) snapshot(from, to string, _ []uint64, _ bool) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	if err := p.rollback(to, from); err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	return nil
}

func (p plain) destroy(dir string) error {
	if err := unmountAll(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (p plain) rollback(dir, snap string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	readOnly := st.Flags&unix.ST_RDONLY != 0
	if readOnly {
		if err := p.setReadOnly(dir, false); err != nil {
			return err
		}
	}
	c := copier{reflink: canReflink(p.root)}
	err := c.restore(dir, snap)
	if readOnly {
		err = errors.Join(err, p.setReadOnly(dir, true))
	}
	return err
}

// canReflink tries whether files below dir can share data.
func canReflink(dir string) bool {
	a, err := os.CreateTemp(dir, ".reflink")
	if err != nil {
		return false
	}
	defer a.Close()           //nolint:errcheck // an experiment
	defer os.Remove(a.Name()) //nolint:errcheck // an experiment
	b, err := os.CreateTemp(dir, ".reflink")
	if err != nil {
		return false
	}
	defer b.Close()           //nolint:errcheck // an experiment
	defer os.Remove(b.Name()) //nolint:errcheck // an experiment
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil
}

// setReadOnly makes the directory a mount of itself, and that read-only: later
// bind mounts of it inherit this. Zones that have it already keep what they
// have.
func (p plain) setReadOnly(dir string, on bool) error {
	if err := unmountAll(dir); err != nil || !on {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return remount(dir, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
}

// unmountAll takes down what setReadOnly has made.
func unmountAll(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // it is not a mount
	}
	return err
}

func (p plain) setQuota(_, limit uint64, _ []string) error {
	if limit != 0 {
		return errNoQuota
	}
	return nil
}

func (p plain) setRefQuota(_ string, limit uint64) error { return p.setQuota(0, limit, nil) }

func (p plain) regroup(_ string, _, to []uint64) error {
	if len(to) > 0 {
		return errNoQuota
	}
	return nil
}

// usage adds up the blocks of files.
func (p plain) usage(root string) (map[uint64]uint64, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	sizes := map[uint64]uint64{}
	for _, e := range entries {
		id, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		if sizes[id], err = diskUse(filepath.Join(root, e.Name())); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// diskUse is what the files below dir take on the disk; one with several links
// counts once.
func diskUse(dir string) (bytes uint64, err error) {
	seen := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it has just been removed, or never was
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			bytes += uint64(st.Blocks) * 512
		}
		return nil
	})
	return bytes, err
}

func (p plain) capacity() (uint64, error) { return 0, nil }

func (p plain) close() error {
	entries, err := os.ReadDir(p.root)
	for _, e := range entries {
		err = errors.Join(err, unmountAll(filepath.Join(p.root, e.Name())))
	}
	return err
}
