package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kind is what a walk makes of a missing last component.
type kind int

const (
	existing  kind = iota // nothing: it is an error
	directory             // a directory
	file                  // an empty file
)

// maxLinks is how many symbolic links one walk follows, as on Linux.
const maxLinks = 40

// place is something below a root. Its path has no symbolic link at the time
// of the walk; pin, where the system has such handles, keeps naming the same
// thing whatever the path becomes.
type place struct {
	path string
	dir  bool
	pin  *os.File
}

// name returns the path by which to mount: the pin's where there is one.
func (p *place) name() string {
	if p.pin != nil {
		return fmt.Sprintf("/proc/self/fd/%d", p.pin.Fd())
	}
	return p.path
}

func (p *place) close() {
	if p.pin != nil {
		p.pin.Close() //nolint:errcheck // a path handle
	}
}

// walk finds path below root as a process chrooted to root would: links are
// followed, absolute ones from root, and ".." of root is root. Images and
// volumes are not ours, so at no moment is a path with foreign components
// given to the system as a whole. Missing directories are made on the way if
// last is not existing.
func walk(root, path string, last kind) (*place, error) {
	return (&walker{base: root, rest: split(path), perm: 0o755}).walk(path, last)
}

// walkInside is walk for a path of a volume: one that leads out of it, by a link
// or by itself, is an error, as for a kubelet. Whoever follows a link that is
// meant for the volume's other users finds something else than they. What it
// makes has the permissions of the volume's root.
func walkInside(root, path string, last kind) (*place, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	return (&walker{base: root, rest: split(path), perm: info.Mode() & modeBits, inside: true}).walk(path, last)
}

// modeBits are what a chmod sets. A new directory of an fsGroup's volume needs
// the set-group-ID bit like the others.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// errLeaves means that a path leads out of its volume.
var errLeaves = errors.New("leads out of the volume")

func (w *walker) walk(path string, last kind) (*place, error) {
	root := w.base
	defer w.close()
	if err := w.push(func() (*os.Root, error) { return os.OpenRoot(root) }, ""); err != nil {
		return nil, err
	}
	for len(w.rest) > 0 {
		name := w.rest[0]
		w.rest = w.rest[1:]
		p, err := w.step(name, last)
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", path, root, err)
		}
		if p != nil {
			return p, nil
		}
	}
	return w.here()
}

type walker struct {
	base   string
	rest   []string
	links  int
	perm   fs.FileMode // of directories that are made
	inside bool        // what would be cut off at the root is an error
	dirs   []*os.Root  // from base downwards
	names  []string
}

func split(path string) []string {
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	return parts
}

func (w *walker) top() *os.Root { return w.dirs[len(w.dirs)-1] }

func (w *walker) push(open func() (*os.Root, error), name string) error {
	r, err := open()
	if err != nil {
		return err
	}
	w.dirs, w.names = append(w.dirs, r), append(w.names, name)
	return nil
}

func (w *walker) pop(keep int) {
	for len(w.dirs) > keep {
		w.top().Close() //nolint:errcheck // a directory handle
		w.dirs, w.names = w.dirs[:len(w.dirs)-1], w.names[:len(w.names)-1]
	}
}

func (w *walker) close() { w.pop(0) }

// step goes one component on. It returns a place if that ended the walk at
// something other than a directory.
func (w *walker) step(name string, last kind) (*place, error) {
	if name == ".." {
		if w.inside && len(w.dirs) == 1 {
			return nil, errLeaves
		}
		w.pop(max(1, len(w.dirs)-1))
		return nil, nil
	}
	info, err := w.top().Lstat(name)
	if errors.Is(err, fs.ErrNotExist) && last != existing {
		if info, err = w.create(name, last); err != nil {
			return nil, err
		}
	}
	switch {
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, w.follow(name)
	case info.IsDir():
		dir := w.top()
		return nil, w.push(func() (*os.Root, error) { return dir.OpenRoot(name) }, name)
	case len(w.rest) > 0:
		return nil, fmt.Errorf("%s: not a directory", name)
	}
	return w.leaf(name)
}

// create makes the missing component: a directory unless it is the last.
func (w *walker) create(name string, last kind) (fs.FileInfo, error) {
	if len(w.rest) > 0 || last == directory {
		err := w.top().Mkdir(name, w.perm.Perm())
		if err == nil {
			err = w.top().Chmod(name, w.perm) // whatever the umask
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	} else {
		f, err := w.top().OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if f != nil {
			f.Close() //nolint:errcheck // nothing was written
		}
	}
	return w.top().Lstat(name)
}

func (w *walker) follow(name string) error {
	if w.links++; w.links > maxLinks {
		return errors.New("too many levels of symbolic links")
	}
	target, err := w.top().Readlink(name)
	if err != nil {
		return err
	}
	if filepath.IsAbs(target) {
		if w.inside {
			return errLeaves
		}
		w.pop(1)
	}
	w.rest = append(split(target), w.rest...)
	return nil
}

func (w *walker) path(more ...string) string {
	return filepath.Join(append(append([]string{w.base}, w.names...), more...)...)
}

// here is the place of the directory that the walk has come to.
func (w *walker) here() (*place, error) {
	pin, err := pinDir(w.top())
	if err != nil {
		return nil, err
	}
	return &place{path: w.path(), dir: true, pin: pin}, nil
}

func (w *walker) leaf(name string) (*place, error) {
	pin, err := pinFile(w.top(), name)
	if err != nil {
		return nil, err
	}
	return &place{path: w.path(name), pin: pin}, nil
}
