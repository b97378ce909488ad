package zones

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// mounts is mount_filesystems and what follows of a boot: it checks the zone's
// file systems and makes missing mount points. Those that the brand has of the
// global zone come first, then the configuration's in the order of their
// directories, then those that the brand makes inside the zone.
func (op *operation) mounts(k *kernelZone) ([]Mount, bool) {
	list := slices.Clone(k.config.Resources["fs"])
	slices.SortStableFunc(list, func(a, b *resource) int {
		return strings.Compare(a.Values["dir"], b.Values["dir"])
	})
	all := slices.Clone(k.brand.GlobalMounts)
	for _, r := range list {
		all = append(all, Mount{Type: r.Values["type"], Special: r.Values["special"], Dir: r.Values["dir"], Options: r.Options})
	}
	var done []Mount
	for _, m := range append(all, k.brand.Mounts...) {
		mount, ok := op.mountOne(k.root, m, done)
		if !ok {
			return nil, false
		}
		done = append(done, mount)
	}
	return done, true
}

func (op *operation) mountOne(root string, m Mount, done []Mount) (Mount, bool) {
	dir, kind, special := m.Dir, m.Type, m.Special
	invalid := func() (Mount, bool) {
		op.say("%s%s is not a valid mount point", root, dir)
		return Mount{}, false
	}
	missing, ok := op.validMountPath(root, dir, done)
	if !ok {
		return invalid()
	}
	if missing {
		if readOnly(dir, done) {
			op.say("Could not mkdir %s%s.", root, dir)
			op.say("It is on a read-only file system in this local zone.")
			op.say("Make sure %s%s exists in the global zone.", root, dir)
			op.say("failed to create mount point")
			return Mount{}, false
		}
		if err := op.m.paths.MkdirAll(shown(root, dir, done), 0o755); err != nil {
			op.say("mkdirp of %s%s failed: %s", root, dir, errnoText(err))
			op.say("failed to create mount point")
			return Mount{}, false
		}
		if _, ok := op.validMountPath(root, dir, done); !ok {
			return invalid()
		}
	}
	mount := Mount{Type: kind, Special: special, Dir: dir, Options: slices.Clone(m.Options)}
	switch kind {
	case "lofs":
		resolved, err := op.m.paths.Resolve(special)
		if err != nil {
			return op.mountFailed(kind, special, root+dir, errnoText(err))
		}
		mount.Special = resolved
		// zoneadmd never lets devices through a loopback mount.
		if !slices.Contains(mount.Options, "nodevices") {
			mount.Options = append(mount.Options, "nodevices")
		}
	case "zfs":
		source, err := op.m.datasets.Source(special, op.name)
		if err != nil {
			return op.mountFailed(kind, special, root+dir, err.Error())
		}
		mount.Special = source
	}
	return mount, true
}

func (op *operation) mountFailed(kind, special, dir, why string) (Mount, bool) {
	op.say("mount: %s: %s", special, why)
	op.say("\"/usr/lib/fs/%s/mount %s %s\" failed with exit code 1", kind, special, dir)
	return Mount{}, false
}

// validMountPath is valid_mount_path: every component below the root must be
// there as a directory, no symbolic link, in canonical form. Only the last may
// be missing, or be a file.
func (op *operation) validMountPath(root, dir string, done []Mount) (missing, ok bool) {
	if !strings.HasPrefix(dir, "/") {
		op.say("invalid mount directory, dir: \"%s\"", dir)
		return false, false
	}
	components := strings.Split(dir[1:], "/")
	at := ""
	for i, c := range components {
		at += "/" + c
		leaf := i == len(components)-1
		if c == "" || c == "." || c == ".." {
			op.say("%s%s is not a canonical path", root, at)
			return false, false
		}
		info, err := op.m.paths.Lstat(shown(root, at, done))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return true, true
		case err != nil:
			op.say("can't stat %s%s: %s", root, at, errnoText(err))
			return false, false
		case info.Mode&fs.ModeSymlink != 0:
			op.say("%s%s is a symlink", root, at)
			return false, false
		case !leaf && !info.Mode.IsDir():
			op.say("%s%s is not a directory", root, at)
			return false, false
		}
	}
	return false, true
}

// covering returns the index of the mount that dir lies in, or -1.
func covering(dir string, done []Mount) int {
	best := -1
	for i, m := range done {
		if within(dir, m.Dir) && (best < 0 || len(m.Dir) >= len(done[best].Dir)) {
			best = i
		}
	}
	return best
}

func readOnly(dir string, done []Mount) bool {
	i := covering(dir, done)
	return i >= 0 && slices.Contains(done[i].Options, "ro")
}

// shown returns the path of the global zone that will appear at dir in the
// zone, given the mounts so far. (A zone's mounts are made all at once, in its
// own mount namespace, so that they cannot be looked into before.)
func shown(root, dir string, done []Mount) string {
	i := covering(dir, done)
	if i < 0 {
		return path.Join(root, dir)
	}
	m := done[i]
	return path.Join(m.Special, dir[len(strings.TrimSuffix(m.Dir, "/")):])
}
