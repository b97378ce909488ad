//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// copier makes one tree equal to another in place: contents, hard links,
// owners, modes, times and extended attributes. It never follows a symbolic
// link, so a process that changes the tree meanwhile can spoil only that tree.
type copier struct {
	reflink bool // share data where the file system can

	// now and then are the inode items of the two trees. An inode that has the
	// same in both has not been touched since the trees were one.
	now, then map[uint64][inodeItemBytes]byte

	// changed, if not nil, says of a path below the top whether it may differ.
	changed func(rel string) bool

	top    int               // the tree that is changed
	placed map[uint64]string // inode of the source with several links → its first path
}

// restore makes the tree at dir equal to the one at snap.
func (c *copier) restore(dir, snap string) error {
	dst, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return err
	}
	defer unix.Close(dst) //nolint:errcheck // only read
	src, err := openDir(unix.AT_FDCWD, snap)
	if err != nil {
		return err
	}
	defer unix.Close(src) //nolint:errcheck // only read
	c.top, c.placed = dst, map[uint64]string{}
	if err := c.dir(dst, src, ""); err != nil {
		return fmt.Errorf("restore %s: %w", dir, err)
	}
	return nil
}

// openDir opens a directory that is none by way of a symbolic link.
func openDir(at int, name string) (int, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// names lists a directory, sorted.
func names(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), ".")
	defer f.Close() //nolint:errcheck // only read
	all, err := f.Readdirnames(-1)
	slices.Sort(all)
	return all, err
}

// dir makes one directory equal, whose path below the top is rel.
func (c *copier) dir(dst, src int, rel string) error {
	want, err := names(src)
	if err != nil {
		return err
	}
	have, err := names(dst)
	if err != nil {
		return err
	}
	for _, name := range have {
		if _, found := slices.BinarySearch(want, name); !found {
			if err := removeAll(dst, name); err != nil {
				return err
			}
		}
	}
	for _, name := range want {
		if err := c.entry(dst, src, name, rel+name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return copyMeta(dst, src)
}

// entry makes one name equal.
func (c *copier) entry(dst, src int, name, rel string) error {
	var want, have unix.Stat_t
	if err := unix.Fstatat(src, name, &want, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	err := unix.Fstatat(dst, name, &have, unix.AT_SYMLINK_NOFOLLOW)
	exists := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	kind := want.Mode & unix.S_IFMT
	sameKind := exists && have.Mode&unix.S_IFMT == kind
	if kind == unix.S_IFDIR {
		return c.subdir(dst, src, name, rel, exists, sameKind)
	}
	if kind == unix.S_IFREG && want.Nlink > 1 {
		if first, done := c.placed[want.Ino]; done {
			return c.link(dst, name, first, exists, have.Ino)
		}
		c.placed[want.Ino] = rel
	}
	if sameKind && (c.untouched(want.Ino, have.Ino) || c.changed != nil && !c.changed(rel)) {
		return nil
	}
	keep := sameKind && kind == unix.S_IFREG && (have.Ino == want.Ino && c.then != nil || have.Nlink == 1 && want.Nlink == 1)
	if exists && !keep {
		if err := removeAll(dst, name); err != nil {
			return err
		}
	}
	if kind == unix.S_IFREG {
		return c.file(dst, src, name)
	}
	return copySpecial(dst, src, name, want)
}

// untouched says whether an inode is as it was when the trees were one.
func (c *copier) untouched(want, have uint64) bool {
	if want != have || c.then == nil {
		return false
	}
	then, ok1 := c.then[want]
	now, ok2 := c.now[have]
	return ok1 && ok2 && then == now
}

func (c *copier) subdir(dst, src int, name, rel string, exists, sameKind bool) error {
	if exists && !sameKind {
		if err := removeAll(dst, name); err != nil {
			return err
		}
	}
	if !sameKind {
		if err := unix.Mkdirat(dst, name, 0o700); err != nil {
			return err
		}
	}
	d, err := openDir(dst, name)
	if err != nil {
		return err
	}
	defer unix.Close(d) //nolint:errcheck // only read
	s, err := openDir(src, name)
	if err != nil {
		return err
	}
	defer unix.Close(s) //nolint:errcheck // only read
	return c.dir(d, s, rel+"/")
}

// link makes name another link of a file that is in place already.
func (c *copier) link(dst int, name, first string, exists bool, have uint64) error {
	var at unix.Stat_t
	if err := unix.Fstatat(c.top, first, &at, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if exists && have == at.Ino {
		return nil
	}
	if exists {
		if err := removeAll(dst, name); err != nil {
			return err
		}
	}
	return unix.Linkat(c.top, first, dst, name, 0)
}

// file copies a regular file, over the one of that name if there is one.
func (c *copier) file(dst, src int, name string) error {
	s, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(s), name)
	defer in.Close() //nolint:errcheck // only read
	d, err := unix.Openat(dst, name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.ETXTBSY) { // a program that still runs keeps the old file
		if err := removeAll(dst, name); err != nil {
			return err
		}
		d, err = unix.Openat(dst, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(d), name)
	defer out.Close() //nolint:errcheck // Sync is not asked for, and metadata is set below
	if err := c.data(out, in); err != nil {
		return err
	}
	return copyMeta(d, s)
}

func (c *copier) data(out, in *os.File) error {
	if c.reflink {
		return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
	}
	_, err := out.ReadFrom(in)
	return err
}

// copySpecial makes a symbolic link, device, socket or FIFO.
func copySpecial(dst, src int, name string, want unix.Stat_t) error {
	if want.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil {
			return err
		}
	} else if err := unix.Mknodat(dst, name, want.Mode, int(want.Rdev)); err != nil {
		return err
	}
	d, err := unix.Openat(dst, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d) //nolint:errcheck // a path only
	if err := unix.Fchownat(d, "", int(want.Uid), int(want.Gid), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if want.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(descriptorPath(d), want.Mode&0o7777); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dst, name, []unix.Timespec{want.Atim, want.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// descriptorPath is a path that leads to what is open.
func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// copyMeta gives an open file or directory the other's owner, extended
// attributes, mode and times, in the order in which none undoes another.
func copyMeta(dst, src int) error {
	var want, have unix.Stat_t
	if err := errors.Join(unix.Fstat(src, &want), unix.Fstat(dst, &have)); err != nil {
		return err
	}
	if want.Uid != have.Uid || want.Gid != have.Gid {
		if err := unix.Fchown(dst, int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	if err := unix.Fstat(dst, &have); err != nil {
		return err
	}
	if want.Mode != have.Mode {
		if err := unix.Fchmod(dst, want.Mode&0o7777); err != nil {
			return err
		}
	}
	if want.Mtim != have.Mtim || want.Atim != have.Atim {
		return unix.UtimesNanoAt(dst, "", []unix.Timespec{want.Atim, want.Mtim}, unix.AT_EMPTY_PATH)
	}
	return nil
}

func copyXattrs(dst, src int) error {
	want, err := xattrs(src)
	if err != nil {
		return err
	}
	have, err := xattrs(dst)
	if err != nil {
		return err
	}
	for name := range have {
		if _, keep := want[name]; !keep {
			if err := unix.Fremovexattr(dst, name); err != nil {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
		}
	}
	for name, value := range want {
		if old, is := have[name]; is && old == value {
			continue
		}
		if err := unix.Fsetxattr(dst, name, []byte(value), 0); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// xattrs reads the extended attributes of what is open.
func xattrs(fd int) (map[string]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size+256)
	if size, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	all := map[string]string{}
	buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
	start := 0
	for i, b := range list[:size] {
		if b != 0 {
			continue
		}
		name := string(list[start:i])
		start = i + 1
		n, err := unix.Fgetxattr(fd, name, buf)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		all[name] = string(buf[:n])
	}
	return all, nil
}

// removeAll removes a name and what is below it, following no link.
func removeAll(at int, name string) error {
	err := unix.Unlinkat(at, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := openDir(at, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	all, err := names(fd)
	if err != nil {
		return err
	}
	for _, n := range all {
		if err := removeAll(fd, n); err != nil {
			return err
		}
	}
	return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
}
