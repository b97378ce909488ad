//go:build linux

package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zfs"
)

// Mount implements zfs.Backend by a bind mount.
func (v *Volumes) Mount(ctx context.Context, id uint64, dir string, o zfs.MountOptions, overlay bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errors.New("failed to create mountpoint")
	}
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return unix.ENOTDIR
	}
	if !overlay {
		empty, err := isEmpty(dir)
		if err != nil {
			return err
		}
		if !empty {
			return zfs.ErrNotEmpty
		}
	}
	if err := unix.Mount(v.Dir(id), dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	err := v.Remount(ctx, id, dir, o)
	if err == nil {
		// What is mounted below later shows through the lofs mounts of zones,
		// which are made as its slaves.
		err = unix.Mount("", dir, "", unix.MS_SHARED, "")
	}
	if err != nil {
		return errors.Join(err, unix.Unmount(dir, 0))
	}
	return nil
}

// Remount implements zfs.Backend.
func (v *Volumes) Remount(_ context.Context, _ uint64, dir string, o zfs.MountOptions) error {
	var flags uintptr = unix.MS_BIND | unix.MS_REMOUNT
	for _, f := range []struct {
		on   bool
		flag uintptr
	}{
		{o.ReadOnly, unix.MS_RDONLY}, {o.NoDevices, unix.MS_NODEV}, {o.NoSetuid, unix.MS_NOSUID},
		{o.NoExec, unix.MS_NOEXEC}, {o.NoAtime, unix.MS_NOATIME},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	if err := remount(dir, flags); err != nil {
		return fmt.Errorf("remount %s: %w", dir, err)
	}
	return nil
}

// remount changes the flags of a mount.
func remount(dir string, flags uintptr) error {
	err := unix.Mount("", dir, "", flags, "")
	if errors.Is(err, unix.EPERM) {
		return remountLocked(dir, flags)
	}
	return err
}

// remountLocked is a remount with those flags that a user namespace may not
// take off left as they are: how the times of access are kept, and what the
// file system below was mounted without.
func remountLocked(dir string, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	flags &^= unix.MS_NOATIME
	for _, f := range []struct {
		is   int64
		flag uintptr
	}{
		{unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV}, {unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_RELATIME, unix.MS_RELATIME},
	} {
		if st.Flags&f.is != 0 {
			flags |= f.flag
		}
	}
	return unix.Mount("", dir, "", flags, "")
}

// Unmount implements zfs.Backend.
func (v *Volumes) Unmount(_ context.Context, _ uint64, dir string, force bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(dir, flags)
	if errors.Is(err, unix.EBUSY) {
		return zfs.ErrBusy
	}
	return err
}

// RemoveDir implements zfs.Backend.
func (v *Volumes) RemoveDir(dir string) {
	_ = unix.Rmdir(dir) // zfs(8) does not mind either if it is in use
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
