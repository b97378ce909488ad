package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Kind is what a path must be, or is made if it is missing.
type Kind string

// The kinds, as Kubernetes names them.
const (
	Any               Kind = "" // a directory is made if there is nothing
	Directory         Kind = "Directory"
	DirectoryOrCreate Kind = "DirectoryOrCreate"
	File              Kind = "File"
	FileOrCreate      Kind = "FileOrCreate"
	Socket            Kind = "Socket"
)

// Path is something of the host to show.
type Path struct {
	Root string // the directory that it must not lead out of
	Name string // below Root; empty for Root itself
	Kind Kind

	ReadOnly  bool // for the pod
	Fixed     bool // nothing may be made there
	Exclusive bool // for one pod at a time
}

func (p Path) full() string { return filepath.Join(p.Root, p.Name) }

// ErrOutside means that a path leads out of the directory that is allowed.
var ErrOutside = errors.New("leads out of the directory that is allowed")

// ShowPath shows a path of the host to a pod, as its volume name.
func (h *Host) ShowPath(ctx context.Context, uid, name string, p Path) (Shown, error) {
	point, err := h.point(uid, name)
	if err != nil {
		return Shown{}, err
	}
	root, err := os.OpenRoot(p.Root)
	if err != nil {
		return Shown{}, fmt.Errorf("mounts: %w", err)
	}
	defer root.Close() //nolint:errcheck // only a handle
	info, err := p.find(root)
	if err != nil {
		return Shown{}, err
	}
	if err := makePoint(point, info.IsDir()); err != nil {
		return Shown{}, fmt.Errorf("mounts: %w", err)
	}
	err = h.show(ctx, point, p.full(), p.ReadOnly, p.Exclusive, func(point string) error {
		got, err := os.Stat(point)
		if err != nil {
			return err
		}
		if !os.SameFile(info, got) {
			return fmt.Errorf("%s: became something else while it was mounted", p.full())
		}
		return nil
	})
	return Shown{Point: point, Dir: info.IsDir()}, err
}

// find looks the path up below root, and makes it where its kind says so.
func (p Path) find(root *os.Root) (fs.FileInfo, error) {
	name := p.Name
	if name == "" {
		name = "."
	}
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.create(root, name); err != nil {
			return nil, err
		}
		info, err = root.Stat(name)
	}
	if err != nil {
		return nil, p.explain(err)
	}
	return info, p.check(info.Mode())
}

// create makes the missing path, with the modes of a kubelet.
func (p Path) create(root *os.Root, name string) error {
	switch {
	case p.Kind != Any && p.Kind != DirectoryOrCreate && p.Kind != FileOrCreate:
		return fmt.Errorf("%s: %w", p.full(), fs.ErrNotExist)
	case p.Fixed:
		return fmt.Errorf("%s does not exist, and nothing may be made in %s", p.full(), p.Root)
	case p.Kind == FileOrCreate:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return p.explain(err)
		}
		return f.Close()
	}
	return p.explain(root.MkdirAll(name, 0o755))
}

// explain tells an escape, which os.Root has no error value for, from others.
func (p Path) explain(err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return fmt.Errorf("%s: %w, %s", p.full(), ErrOutside, p.Root)
	}
	return err
}

func (p Path) check(mode fs.FileMode) error {
	switch {
	case mode.Type()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeIrregular) != 0:
		return fmt.Errorf("%s is a device or a pipe: a zone's mounts have none", p.full())
	case (p.Kind == Directory || p.Kind == DirectoryOrCreate) && !mode.IsDir():
		return fmt.Errorf("%s is not a directory", p.full())
	case (p.Kind == File || p.Kind == FileOrCreate) && !mode.IsRegular():
		return fmt.Errorf("%s is not a file", p.full())
	case p.Kind == Socket && mode.Type() != fs.ModeSocket:
		return fmt.Errorf("%s is not a socket", p.full())
	}
	return nil
}
