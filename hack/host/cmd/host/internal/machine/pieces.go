//go:build linux

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// showPieces is showMachine in a user namespace, where neither / can be in an
// overlay, because mounts are on it that its root may not take off, nor may that
// root write to what belongs to this machine's root. So root is a directory of
// the host's own, with this machine's directories in it: read-only, but for
// those in which hosts make files, which are overlays.
func showPieces(dir, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", root, err)
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := showPiece(dir, root, e); err != nil {
			return fmt.Errorf("/%s: %w", e.Name(), err)
		}
	}
	return nil
}

func showPiece(dir, root string, e fs.DirEntry) error {
	name, at := e.Name(), filepath.Join(root, e.Name())
	switch {
	case e.Type() == fs.ModeSymlink:
		to, err := os.Readlink("/" + name)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, at); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil // a host that boots again has it
	case !e.IsDir():
		return nil
	}
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	own := slices.DeleteFunc(hostDirs(), func(d string) bool { return !strings.HasPrefix(d, name+"/") })
	switch {
	case name == "proc" || name == "run" || name == "root":
		return nil // the host's own
	case len(own) > 0:
		return ownPiece(filepath.Join(dir, "fs", name), at, name, own)
	}
	return showMount("/"+name, root)
}

// ownPiece mounts an overlay of /name at at. What is in the upper layer decides
// whose a directory is, so there are those in which the host makes files.
func ownPiece(layer, at, name string, own []string) error {
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	for _, d := range append(own, "") {
		if err := os.MkdirAll(filepath.Join(upper, strings.TrimPrefix(d, name)), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	err := unix.Mount("host", at, "overlay", 0, fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s,userxattr", name, upper, work))
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}
