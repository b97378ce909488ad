//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// beneath keeps a look-up inside the directory it starts from and refuses
// symlinks, as valid_mount_path of zoneadmd's vplat.c does: the root of a zone
// is an image's, and an image must not choose where on the host we mount.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// root is the mounted root of a zone before the pivot.
type root struct {
	fd int
}

// mountRoot mounts the directory at dir onto itself, so that it can become the
// root of this mount namespace.
func mountRoot(dir string) (*root, error) {
	at, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open the zone's root", Path: dir, Err: err}
	}
	defer unix.Close(at) //nolint:errcheck // a path only
	tree, err := unix.OpenTree(at, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &fs.PathError{Op: "copy the mount of", Path: dir, Err: err}
	}
	// An image's device nodes are not devices in a zone.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
	if err == nil {
		err = attach(tree, at)
	}
	if err != nil {
		_ = unix.Close(tree)
		return nil, &fs.PathError{Op: "mount", Path: dir, Err: err}
	}
	return &root{fd: tree}, nil
}

func (r *root) close() { _ = unix.Close(r.fd) }

// attach puts the detached mount tree onto what at refers to.
func attach(tree, at int) error {
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountAll makes the zone's file systems in order. A zone whose brand names no
// mounts for /proc and /dev gets them first, so that others can lie below.
func (r *root) mountAll(mounts []zones.Mount) error {
	all := slices.Clone(mounts)
	for _, own := range []zones.Mount{{Type: "dev", Dir: "/dev"}, {Type: "proc", Dir: "/proc"}} {
		if !slices.ContainsFunc(mounts, func(m zones.Mount) bool { return m.Dir == own.Dir }) {
			all = slices.Insert(all, 0, own)
		}
	}
	for _, m := range all {
		if err := r.mount(m); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Type, m.Dir, err)
		}
	}
	return nil
}

func (r *root) mount(m zones.Mount) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	var tree int
	switch m.Type {
	case "lofs", "zfs":
		tree, err = lofs(m.Special, m.Type == "lofs")
	case "tmpfs":
		tree, err = newFS("tmpfs", map[string]string{"source": "swap", "mode": "1777", "size": o.size})
	case "proc", "lx_proc":
		tree, err = newFS("proc", nil)
	case "dev", "devfs", "lx_devfs":
		return r.mountDev(m.Dir)
	case "ctfs", "objfs", "mntfs":
		return nil // Linux has nothing of the kind, nor programs that look there
	default:
		return errors.New("the simulation has no such file system")
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // a path only
	attr := unix.MountAttr{Attr_set: o.attrs, Propagation: unix.MS_PRIVATE}
	if m.Type == "lofs" && o.through() {
		attr.Propagation = 0 // it stays a slave of the host's
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	return r.attach(tree, m.Dir)
}

// attach mounts tree at dir in the zone.
func (r *root) attach(tree int, dir string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	at, err := r.mountPoint(dir, isDir)
	if err != nil {
		return err
	}
	defer unix.Close(at) //nolint:errcheck // a path only
	return attach(tree, at)
}

// mountPoint opens dir in the zone. Missing directories are made; a missing
// file is not, as zoneadmd does not.
func (r *root) mountPoint(dir string, isDir bool) (int, error) {
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
		return -1, errors.New("not a canonical path below the zone's root")
	}
	at, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	names := strings.Split(dir[1:], "/")
	for i, name := range names {
		last := i == len(names)-1
		next, err := component(at, name, isDir || !last)
		_ = unix.Close(at)
		if err != nil {
			return -1, &fs.PathError{Op: "mount point", Path: "/" + path.Join(names[:i+1]...), Err: err}
		}
		at = next
	}
	return at, nil
}

// component opens name in the directory at, making it if it is a directory
// that is missing.
func component(at int, name string, isDir bool) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: beneath}
	if isDir {
		how.Flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Openat2(at, name, &how)
	if errors.Is(err, unix.ENOENT) && isDir {
		if err := unix.Mkdirat(at, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		fd, err = unix.Openat2(at, name, &how)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if !isDir && st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, errors.New("not a regular file, but what is mounted there is")
	}
	return fd, nil
}

// lofs returns a detached copy of the file or directory at special, a path of
// the host. lofs passes through what is mounted below, a dataset does not.
// The copy is a slave of the host's mount where that is shared.
func lofs(special string, deep bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if deep {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, special, flags)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: special, Err: err}
	}
	return tree, nil
}

// newFS returns a new, detached file system. Empty parameters are left out.
func newFS(kind string, params map[string]string) (int, error) {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd) //nolint:errcheck // a context only
	for k, v := range params {
		if v == "" {
			continue
		}
		if err := unix.FsconfigSetString(fsfd, k, v); err != nil {
			return -1, fmt.Errorf("%s=%s: %w", k, v, err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, fmt.Errorf("create %s: %w", kind, err)
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
}

// pivot makes r the root of this mount namespace and forgets the host's.
func (r *root) pivot() error {
	if err := unix.Fchdir(r.fd); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	// The old root ends up on top of the new one and is taken off it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("pivot: leave the host's root: %w", err)
	}
	return os.Chdir("/")
}

// options are the mount options of one file system.
type options struct {
	attrs uint64
	size  string // of a tmpfs
	nosub bool   // of a lofs
}

// through reports whether a lofs mount shows what is mounted below its source
// later. illumos' does unless it has nosub, and gives it its own options, which
// Linux cannot. So one with more options than every mount of a zone has shows
// nothing here: less than illumos, but nothing with other rights.
func (o options) through() bool { return !o.nosub && o.attrs == unix.MOUNT_ATTR_NODEV }

// parseOptions reads mount options. Whatever a zone mounts is nodevices.
func parseOptions(words []string) (options, error) {
	o := options{attrs: unix.MOUNT_ATTR_NODEV}
	for _, word := range words {
		for w := range strings.SplitSeq(word, ",") {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "ro":
				o.attrs |= unix.MOUNT_ATTR_RDONLY
			case "nosuid":
				o.attrs |= unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
			case "nosetuid":
				o.attrs |= unix.MOUNT_ATTR_NOSUID
			case "noexec":
				o.attrs |= unix.MOUNT_ATTR_NOEXEC
			case "size":
				o.size = value
			case "nosub":
				o.nosub = true
			case "", "rw", "nodevices", "devices", "setuid", "suid", "exec", "sub", "zonedevfs":
				// the default here, or what cannot be had in a zone
			default:
				if !strings.HasPrefix(key, "attrdir") {
					return options{}, fmt.Errorf("unknown mount option %q", w)
				}
			}
		}
	}
	return o, nil
}
