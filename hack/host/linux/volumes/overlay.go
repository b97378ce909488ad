//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overlay keeps what was created as directories, as plain does, and clones as
// overlay mounts: what they change lies in a layer of their own, above those of
// their snapshot.
//
// A snapshot must not change with the file system that it is of, which goes on
// being used, and an overlay's upper layer cannot become a lower one while it is
// mounted. So a snapshot is a copy: of the whole directory for what was created,
// of the upper layer for a clone, which is nothing for a fresh one. Layers are
// therefore never shared with whoever writes to them.
//
// root/ID is what the object shows, a directory or a mount point, and
// root.layers/ID holds what an overlay of it is made of:
//
//	chain   the lower layers, top first, as paths relative to root
//	upper   what the object changed: of a clone, or the copy that a snapshot has
//	work    of a clone only
type overlay struct {
	plain
}

// maxLayers bounds the layers of one mount, whose paths have to fit into a page.
// A clone beyond it is a copy.
const maxLayers = 24

// openOverlay makes or finds the pool below root and mounts what is in it.
func openOverlay(root string) (*overlay, error) {
	o := &overlay{plain{root}}
	for _, d := range []string{root, o.layers("")} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if err := o.probe(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(o.layers(""))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := o.mount(filepath.Join(root, e.Name())); err != nil {
			return nil, errors.Join(err, o.close())
		}
	}
	return o, nil
}

// layers is the directory of an object's layers; dir is what the object shows.
func (o *overlay) layers(dir string) string {
	if dir == "" {
		return o.root + ".layers"
	}
	return filepath.Join(o.root+".layers", filepath.Base(dir))
}

func (o *overlay) upper(dir string) string { return filepath.Join(o.layers(dir), "upper") }

// probe tries whether overlays can be mounted here.
func (o *overlay) probe() error {
	dir, err := os.MkdirTemp(o.root, "probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // empty directories
	for _, d := range []string{"lower", "upper", "work", "at"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	at := filepath.Join(dir, "at")
	if err := mountOverlay(at, []string{filepath.Join(dir, "lower")}, filepath.Join(dir, "upper"), filepath.Join(dir, "work")); err != nil {
		return err
	}
	return unix.Unmount(at, 0)
}

// mountOverlay mounts layers at a directory; without upper it is read-only.
func mountOverlay(at string, lower []string, upper, work string) error {
	options := "lowerdir=" + strings.Join(lower, ":")
	if upper != "" {
		options += ",upperdir=" + upper + ",workdir=" + work
	}
	if userNamespace() {
		options += ",userxattr" // directories of a lower layer cannot be renamed then
	} else {
		options += ",redirect_dir=on,metacopy=off,index=off"
	}
	if err := unix.Mount("overlay", at, "overlay", unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("mount an overlay of %d layers: %w", len(lower), err)
	}
	return nil
}

// userNamespace reports whether this process is in one, where an overlay's
// marks have to be attributes that users may set.
func userNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[2] != "4294967295")
}

// chain returns the lower layers of an object as paths relative to root; layered says
// whether it is made of any.
func (o *overlay) chain(dir string) (lower []string, layered bool, err error) {
	text, err := os.ReadFile(filepath.Join(o.layers(dir), "chain"))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{filepath.Base(dir)}, false, nil
	}
	return strings.Fields(string(text)), true, err
}

// mount mounts an object that has layers.
func (o *overlay) mount(dir string) error {
	lower, layered, err := o.chain(dir)
	if err != nil || !layered {
		return err
	}
	for i := range lower {
		lower[i] = filepath.Join(o.root, lower[i])
	}
	work := filepath.Join(o.layers(dir), "work")
	if _, err := os.Stat(work); err == nil {
		return mountOverlay(dir, lower, o.upper(dir), work)
	}
	if len(lower) > 1 {
		return mountOverlay(dir, lower, "", "")
	}
	if err := unix.Mount(lower[0], dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return remount(dir, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOATIME)
}

func (o *overlay) snapshot(from, to string, groups []uint64, readOnly bool) error {
	lower, layered, err := o.chain(from)
	if err != nil {
		return err
	}
	copied := len(lower) >= maxLayers
	if readOnly {
		copied = copied || !layered
	}
	if copied {
		return o.plain.snapshot(from, to, groups, readOnly)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	if err := o.layer(from, to, lower, readOnly); err != nil {
		return errors.Join(err, o.destroy(to))
	}
	return nil
}

// layer makes the layers of a new object and mounts them.
func (o *overlay) layer(from, to string, lower []string, readOnly bool) error {
	own := o.layers(to)
	if err := os.MkdirAll(own, 0o700); err != nil {
		return err
	}
	if readOnly {
		copied, err := o.freeze(from, to)
		if err != nil {
			return err
		}
		if copied {
			lower = append([]string{filepath.Join("..", filepath.Base(o.layers("")), filepath.Base(to), "upper")}, lower...)
		}
	} else if err := o.freshLayer(from, to); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(own, "chain"), []byte(strings.Join(lower, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return o.mount(to)
}

// freshLayer makes an empty upper layer, whose directory is the clone's root.
func (o *overlay) freshLayer(from, to string) error {
	for _, d := range []string{o.upper(to), filepath.Join(o.layers(to), "work")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	return sameMeta(o.upper(to), from)
}

// freeze copies the upper layer of from, if there is anything in it.
func (o *overlay) freeze(from, to string) (copied bool, err error) {
	if _, err := os.Stat(o.upper(from)); err != nil {
		return false, ignoreMissing(err) // a snapshot without changes
	}
	empty, err := isEmpty(o.upper(from))
	if err != nil {
		return false, err
	}
	same, err := rootUnchanged(o.upper(from), filepath.Join(o.root, o.below(from)))
	if err != nil || empty && same {
		return false, err
	}
	if err := os.Mkdir(o.upper(to), 0o700); err != nil {
		return false, err
	}
	c := copier{reflink: canReflink(o.root)}
	return true, c.restore(o.upper(to), o.upper(from))
}

// below is the uppermost lower layer of an object.
func (o *overlay) below(dir string) string {
	lower, _, err := o.chain(dir)
	if err != nil || len(lower) == 0 {
		return filepath.Base(dir)
	}
	return lower[0]
}

// rootUnchanged reports whether the roots of two layers have the same owner,
// mode and times.
func rootUnchanged(a, b string) (bool, error) {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Stat(a, &x), unix.Stat(b, &y)); err != nil {
		return false, err
	}
	return x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && x.Mtim == y.Mtim, nil
}

// sameMeta gives a directory the owner, mode, times and attributes of another.
func sameMeta(dir, of string) error {
	d, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return err
	}
	defer unix.Close(d) //nolint:errcheck // only read
	s, err := openDir(unix.AT_FDCWD, of)
	if err != nil {
		return err
	}
	defer unix.Close(s) //nolint:errcheck // only read
	return copyMeta(d, s)
}

func (o *overlay) destroy(dir string) error {
	if err := o.plain.destroy(dir); err != nil {
		return err
	}
	return os.RemoveAll(o.layers(dir))
}

// setReadOnly marks the mount of a clone, which later bind mounts inherit.
func (o *overlay) setReadOnly(dir string, on bool) error {
	if _, layered, err := o.chain(dir); err != nil || !layered {
		return errors.Join(err, o.plain.setReadOnly(dir, on))
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_NOATIME)
	if on {
		flags |= unix.MS_RDONLY
	}
	return remount(dir, flags)
}

// rollback makes the clone as it was through its mount, which stays in use.
// Only what either layer holds can differ.
func (o *overlay) rollback(dir, snap string) error {
	_, layered, err := o.chain(dir)
	if err != nil {
		return err
	}
	if !layered {
		return o.plain.rollback(dir, snap)
	}
	changes := changeSet{}
	for _, upper := range []string{o.upper(dir), o.upper(snap)} {
		if err := changes.add(upper); err != nil {
			return err
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	readOnly := st.Flags&unix.ST_RDONLY != 0
	if readOnly {
		if err := o.setReadOnly(dir, false); err != nil {
			return err
		}
	}
	c := copier{changed: changes.has}
	err = c.restore(dir, snap)
	if readOnly {
		err = errors.Join(err, o.setReadOnly(dir, true))
	}
	return err
}

// changeSet are the paths that layers hold; true is a directory of which nothing
// of the layers below is seen at its place.
type changeSet map[string]bool

func (s changeSet) add(layer string) error {
	return filepath.WalkDir(layer, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == layer {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(layer, p)
		if err != nil || rel == "." {
			return err
		}
		s[rel] = s[rel] || d.IsDir() && replaces(p)
		return nil
	})
}

// replaces reports whether a directory of a layer hides those below it, or is
// another one of them that was moved.
func replaces(dir string) bool {
	for _, name := range []string{"opaque", "redirect"} {
		for _, space := range []string{"trusted", "user"} {
			if n, err := unix.Lgetxattr(dir, space+".overlay."+name, nil); err == nil && n > 0 {
				return true
			}
		}
	}
	return false
}

func (s changeSet) has(rel string) bool {
	if _, in := s[rel]; in {
		return true
	}
	for at := filepath.Dir(rel); at != "."; at = filepath.Dir(at) {
		if s[at] {
			return true
		}
	}
	return false
}

// usage charges a clone for what it changed.
func (o *overlay) usage(root string) (map[uint64]uint64, error) {
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
		dir := filepath.Join(root, e.Name())
		if _, layered, err := o.chain(dir); err != nil {
			return nil, err
		} else if layered {
			dir = o.upper(dir)
		}
		if sizes[id], err = diskUse(dir); err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
