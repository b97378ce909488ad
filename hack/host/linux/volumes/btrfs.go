//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// btrfs keeps objects as subvolumes. Quotas are btrfs' simple quotas: space is
// charged to the subvolume that first wrote it, so a clone is charged for what
// it changes, which is how ZFS accounts a clone.
type btrfs struct {
	root string
}

// openBtrfs mounts the image at root, after it has made it where there is
// none.
func openBtrfs(image, root string, size uint64) (*btrfs, error) {
	if err := os.Mkdir(root, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	_, err := os.Stat(image)
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		if err := makeImage(image, size); err != nil {
			return nil, errors.Join(err, os.RemoveAll(image))
		}
	}
	if err := mountImage(image, root); err != nil {
		if fresh {
			err = errors.Join(err, os.Remove(image))
		}
		return nil, err
	}
	b := &btrfs{root: root}
	if fresh {
		if err := withDir(root, func(fd int) error { return ioctl(fd, iocQuotaCtl, words(enableSimpleQuota, 0)) }); err != nil {
			return nil, errors.Join(fmt.Errorf("simple quotas: %w", err), b.close(), os.Remove(image))
		}
	}
	return b, nil
}

// makeImage formats a sparse file.
func makeImage(image string, size uint64) error {
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(size)), f.Close()); err != nil {
		return err
	}
	out, err := exec.Command("mkfs.btrfs", "-q", "-K", "-m", "single", "-d", "single", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.btrfs: %w: %s", err, out)
	}
	return nil
}

// mountImage mounts an image through a loop device that detaches itself.
// Commits are as frequent as a pool's transaction groups.
func mountImage(image, root string) error {
	loop, err := attachLoop(image)
	if err != nil {
		return err
	}
	err = unix.Mount(loop.Name(), root, "btrfs", unix.MS_NOATIME, "commit=5")
	if err != nil {
		err = fmt.Errorf("mount %s: %w", loop.Name(), err)
	}
	return errors.Join(err, loop.Close()) // closing detaches it if it is not mounted
}

// attachLoop returns an open loop device for the image.
func attachLoop(image string) (*os.File, error) {
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close() //nolint:errcheck // the device has its own reference
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close() //nolint:errcheck // nothing is written to it
	for range 64 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		loop, err := openLoop(n)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{
			Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
		})
		if err == nil {
			return loop, nil
		}
		if err := errors.Join(err, loop.Close()); !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach loop device: %w", err)
		} // else somebody else was faster
	}
	return nil, errors.New("every loop device is taken at once by others")
}

// openLoop opens a loop device, whose node it makes where /dev is a private
// one.
func openLoop(n int) (*os.File, error) {
	name := "/dev/loop" + strconv.Itoa(n)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR, 0)
}

func (b *btrfs) close() error { return unix.Unmount(b.root, 0) }

// qgroup is the number of the qgroup for the quota of a file system, which
// other objects are members of.
func qgroup(group uint64) uint64 { return 1<<48 | group }

func qgroups(groups []uint64) []uint64 {
	var ids []uint64
	for _, g := range groups {
		ids = append(ids, qgroup(g))
	}
	return ids
}

func (b *btrfs) create(dir string, _ uint64, groups []uint64) error {
	if err := makeSubvolume(dir, "", qgroups(groups), false); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func (b *btrfs) snapshot(from, to string, groups []uint64, readOnly bool) error {
	return makeSubvolume(to, from, qgroups(groups), readOnly)
}

func (b *btrfs) destroy(dir string) error { return destroySubvolume(dir) }

func (b *btrfs) setReadOnly(dir string, on bool) error {
	s, err := inspect(dir)
	if err != nil || s.readOnly == on {
		return err
	}
	return setSubvolumeReadOnly(dir, on)
}

// control calls a qgroup ioctl on the file system.
func (b *btrfs) control(request uintptr, values ...uint64) error {
	return withDir(b.root, func(fd int) error { return ioctl(fd, request, words(values...)) })
}

func (b *btrfs) setQuota(group, limit uint64, members []string) error {
	g := qgroup(group)
	if limit == 0 {
		for _, dir := range members {
			if err := b.assign(dir, g, false); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		err := b.control(iocQgroupCreate, 0, g)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) {
			// Where it has members of the past, a group without a limit is harmless.
			return b.limit(g, ^uint64(0))
		}
		return err
	}
	err := b.control(iocQgroupCreate, 1, g)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make qgroup: %w", err)
	}
	if err == nil {
		for _, dir := range members {
			if err := b.assign(dir, g, true); err != nil {
				return err
			}
		}
	}
	return b.limit(g, limit)
}

// limit sets what may be charged to a qgroup; all ones is no limit.
func (b *btrfs) limit(qgroup, bytes uint64) error {
	err := b.control(iocQgroupLimit, qgroup, limitMaxReferenced, bytes, 0, 0, 0)
	if errors.Is(err, unix.ENOENT) && bytes == ^uint64(0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("limit qgroup: %w", err)
	}
	return nil
}

func (b *btrfs) assign(dir string, group uint64, member bool) error {
	s, err := inspect(dir)
	if err != nil {
		return err
	}
	var on uint64
	if member {
		on = 1
	}
	err = b.control(iocQgroupAssign, on, s.id, group)
	if member && errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("qgroup member: %w", err)
	}
	return nil
}

func (b *btrfs) setRefQuota(dir string, limit uint64) error {
	s, err := inspect(dir)
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = ^uint64(0)
	}
	return b.limit(s.id, limit)
}

func (b *btrfs) regroup(dir string, from, to []uint64) error {
	for _, g := range from {
		if err := b.assign(dir, qgroup(g), false); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, g := range to {
		if err := b.assign(dir, qgroup(g), true); err != nil {
			return err
		}
	}
	return nil
}

// usage reads what is charged to each subvolume as of the last commit.
func (b *btrfs) usage(root string) (map[uint64]uint64, error) {
	charged := map[uint64]uint64{}
	err := withDir(root, func(fd int) error {
		return search(fd, quotaTree, qgroupInfoKey, 0, 0, func(_, id uint64, item []byte) {
			if id < 1<<48 && len(item) >= 16 {
				charged[id] = order.Uint64(item[8:])
			}
		})
	})
	if err != nil {
		return nil, err
	}
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
		s, err := inspect(filepath.Join(root, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // destroyed meanwhile
		}
		if err != nil {
			return nil, err
		}
		sizes[id] = charged[s.id]
	}
	return sizes, nil
}

func (b *btrfs) capacity() (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.root, &st); err != nil {
		return 0, err
	}
	return st.Blocks * uint64(st.Bsize), nil
}

// rollback restores the contents of a snapshot. Where the one was made from
// the other, inodes that neither has changed since are passed over.
func (b *btrfs) rollback(dir, snap string) error {
	fs, err := inspect(dir)
	if err != nil {
		return err
	}
	old, err := inspect(snap)
	if err != nil {
		return err
	}
	if fs.readOnly {
		if err := setSubvolumeReadOnly(dir, false); err != nil {
			return err
		}
	}
	err = b.restore(dir, snap, fs.parent == old.uuid || old.parent == fs.uuid)
	if fs.readOnly {
		err = errors.Join(err, setSubvolumeReadOnly(dir, true))
	}
	return err
}

func (b *btrfs) restore(dir, snap string, related bool) error {
	c := copier{reflink: true}
	if related {
		if err := b.control(iocSync); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		var err error
		if c.now, err = inodes(dir); err != nil {
			return err
		}
		if c.then, err = inodes(snap); err != nil {
			return err
		}
	}
	return c.restore(dir, snap)
}

// inodes reads every inode item of a subvolume.
func inodes(dir string) (map[uint64][inodeItemBytes]byte, error) {
	all := map[uint64][inodeItemBytes]byte{}
	err := withDir(dir, func(fd int) error {
		return search(fd, 0, inodeItemKey, 256, ^uint64(255), func(ino, _ uint64, item []byte) {
			var i [inodeItemBytes]byte
			copy(i[:], item)
			all[ino] = i
		})
	})
	return all, err
}
