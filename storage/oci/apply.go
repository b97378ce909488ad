package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Names in a layer that delete instead of make, from the OCI image
// specification.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // of aufs' own bookkeeping; means nothing to others
)

const (
	maxPath = 4096
	maxID   = 1<<31 - 1 // illumos' largest user or group id
)

// budget is what a pull may still write.
type budget struct{ bytes, entries int64 }

// apply unpacks a layer's archive onto the directory dir, which holds the
// layers below it. Nothing outside dir is read or written, whatever the
// archive says. Nobody else may change dir meanwhile.
//
// Paths mean what they would mean to a process chrooted to dir: a symbolic
// link in the middle is followed there, one at the end is never. A name with
// ".." is refused. Devices and named pipes are left out, because a container
// has its own /dev; extended attributes are left out, because illumos has no
// place for Linux' ones. With owner unset all belongs to the agent's user.
func apply(ctx context.Context, dir string, r io.Reader, b *budget, owner bool) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	a := &applier{
		tree:   tree{root: root},
		ctx:    ctx,
		budget: b,
		owner:  owner,
		made:   map[string]bool{},
		dirs:   map[string]*tar.Header{},
		buf:    make([]byte, 128<<10),
	}
	archive := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return a.finishDirs()
		}
		if errors.Is(err, tar.ErrHeader) {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if err != nil {
			return err
		}
		if err := a.entry(h, archive); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

// applier applies one layer.
type applier struct {
	tree
	ctx    context.Context // of apply, whose only helper this is
	budget *budget
	owner  bool
	buf    []byte

	// made holds what this layer made, and with false the directories on the
	// way there: whiteouts are about the layers below only.
	made map[string]bool

	// dirs are the directories whose attributes are set at the end, because
	// what is made in them changes their times, and their modes may forbid it.
	dirs map[string]*tar.Header
}

func (a *applier) entry(h *tar.Header, content io.Reader) error {
	if a.budget.entries--; a.budget.entries < 0 {
		return fmt.Errorf("%w: too many files", ErrTooLarge)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is not a directory", ErrUnsafe)
		}
		a.dirs["."] = h
		return nil
	}
	parent, base := path.Split(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(parent, base)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil
	default:
		return fmt.Errorf("%w: entry of type %q", ErrUnsupported, h.Typeflag)
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return fmt.Errorf("%w: owner %d:%d", ErrUnsupported, h.Uid, h.Gid)
	}
	dir, err := a.resolve(parent, true)
	if err != nil {
		return err
	}
	return a.place(path.Join(dir, base), h, content)
}

// place makes the entry at p, all parents of which are real directories.
func (a *applier) place(p string, h *tar.Header, content io.Reader) error {
	var target string
	if h.Typeflag == tar.TypeLink {
		var err error
		if target, err = a.linkTarget(h.Linkname); err != nil {
			return err
		}
		if target == p {
			return nil
		}
	}
	have, err := a.root.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		have = nil
	case err != nil:
		return err
	case !have.IsDir() || h.Typeflag != tar.TypeDir:
		// Never write into what is there: it may be linked from elsewhere.
		if err := a.remove(p); err != nil {
			return err
		}
	}
	a.note(p)
	switch h.Typeflag {
	case tar.TypeDir:
		a.dirs[p] = h
		if have != nil && have.IsDir() {
			return nil
		}
		return a.root.Mkdir(p, 0o755)
	case tar.TypeSymlink:
		return a.symlink(p, h)
	case tar.TypeLink:
		return a.root.Link(target, p)
	}
	return a.file(p, h, content)
}

func (a *applier) symlink(p string, h *tar.Header) error {
	if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
		return fmt.Errorf("%w: symbolic link to %q", ErrUnsafe, h.Linkname)
	}
	if err := a.root.Symlink(h.Linkname, p); err != nil {
		return err
	}
	if a.owner {
		return a.root.Lchown(p, h.Uid, h.Gid)
	}
	return nil
}

// linkTarget finds what a hard link is to: a name of the archive's own space,
// here or in a layer below.
func (a *applier) linkTarget(s string) (string, error) {
	name, err := cleanName(s)
	if err != nil {
		return "", fmt.Errorf("hard link to %q: %w", s, err)
	}
	parent, base := path.Split(name)
	dir, err := a.resolve(parent, false)
	if err != nil {
		return "", fmt.Errorf("hard link to %q: %w", s, err)
	}
	target := path.Join(dir, base)
	fi, err := a.root.Lstat(target)
	if err != nil {
		return "", fmt.Errorf("hard link to %q: %w", s, err)
	}
	if fi.IsDir() {
		return "", fmt.Errorf("%w: hard link to the directory %q", ErrUnsafe, s)
	}
	return target, nil
}

func (a *applier) file(p string, h *tar.Header, content io.Reader) (err error) {
	f, err := a.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = a.root.Chtimes(p, clampTime(h.AccessTime, h.ModTime), clampTime(h.ModTime))
		}
	}()
	if _, err := io.CopyBuffer(budgetWriter{a, f}, content, a.buf); err != nil {
		return err
	}
	return a.attributes(f, h)
}

// attributes sets owner and mode of an open file, in this order: a change of
// the owner takes the set-uid bit away.
func (a *applier) attributes(f *os.File, h *tar.Header) error {
	if a.owner {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return f.Chmod(h.FileInfo().Mode() & bits)
}

// finishDirs sets the attributes of directories, the deepest first.
func (a *applier) finishDirs() error {
	names := make([]string, 0, len(a.dirs))
	for p := range a.dirs {
		names = append(names, p)
	}
	slices.SortFunc(names, func(x, y string) int { return strings.Count(y, "/") - strings.Count(x, "/") })
	for _, p := range names {
		if err := a.finishDir(p, a.dirs[p]); err != nil {
			return fmt.Errorf("directory %q: %w", p, err)
		}
	}
	return nil
}

func (a *applier) finishDir(p string, h *tar.Header) (err error) {
	fi, err := a.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
		return nil // replaced by a later entry
	}
	if err != nil {
		return err
	}
	f, err := a.root.Open(p)
	if err != nil {
		return err
	}
	err = errors.Join(a.attributes(f, h), f.Close())
	if err != nil {
		return err
	}
	return a.root.Chtimes(p, clampTime(h.AccessTime, h.ModTime), clampTime(h.ModTime))
}

// whiteout removes what the layers below have at a name, or all that they have
// in a directory.
func (a *applier) whiteout(parent, base string) error {
	dir, err := a.resolve(parent, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if base == opaqueMarker {
		return a.removeLower(dir)
	}
	if strings.HasPrefix(base, aufsPrefix) {
		return nil
	}
	gone := strings.TrimPrefix(base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return fmt.Errorf("%w: whiteout of %q", ErrUnsafe, gone)
	}
	p := path.Join(dir, gone)
	made, onTheWay := a.made[p]
	switch {
	case made && !a.isDir(p):
		return nil // this layer's own
	case made || onTheWay:
		return a.removeLower(p)
	}
	return a.remove(p)
}

func (a *applier) isDir(p string) bool {
	fi, err := a.root.Lstat(p)
	return err == nil && fi.IsDir()
}

// removeLower removes from a directory what this layer has not made.
func (a *applier) removeLower(dir string) error {
	f, err := a.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed by another whiteout
	}
	if err != nil {
		return err
	}
	list, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range list {
		p := path.Join(dir, e.Name())
		made, ours := a.made[p]
		switch {
		case e.IsDir() && ours:
			err = a.removeLower(p)
		case !made:
			err = a.remove(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// note records that this layer made p.
func (a *applier) note(p string) {
	a.made[p] = true
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if _, ok := a.made[d]; ok {
			return
		}
		a.made[d] = false
	}
}

// budgetWriter writes a file as far as the budget goes and ctx lasts.
type budgetWriter struct {
	a *applier
	w io.Writer
}

// Write implements io.Writer.
func (w budgetWriter) Write(p []byte) (int, error) {
	if w.a.ctx.Err() != nil {
		return 0, context.Cause(w.a.ctx)
	}
	if w.a.budget.bytes -= int64(len(p)); w.a.budget.bytes < 0 {
		return 0, fmt.Errorf("%w: too many bytes", ErrTooLarge)
	}
	return w.w.Write(p)
}

// clampTime returns the first of times that is set, moved to where every file
// system can keep it.
func clampTime(times ...time.Time) time.Time {
	first, last := time.Unix(0, 0), time.Unix(1<<32-1, 0)
	for _, t := range times {
		switch {
		case t.IsZero():
		case t.Before(first):
			return first
		case t.After(last):
			return last
		default:
			return t
		}
	}
	return first
}
