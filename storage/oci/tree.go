package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxLinks is how many symbolic links a path may lead through, as in most
// kernels.
const maxLinks = 40

// tree is a directory seen as the root of a container. os.Root alone refuses
// absolute links, which are common in images and mean something inside them;
// so links are resolved here, and os.Root sees only paths without any. Should
// the resolution ever be wrong, os.Root still lets nothing out.
type tree struct {
	root *os.Root

	// The last parent that was resolved: archives are sorted.
	lastName, lastDir string
}

// cleanName returns the path that an archive's name means: relative to the
// root, without "." and without an end slash. The root itself is ".".
func cleanName(s string) (string, error) {
	if len(s) > maxPath || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%w: a path that no system takes", ErrUnsafe)
	}
	var parts []string
	for part := range strings.SplitSeq(s, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("%w: a path with a .. element", ErrUnsafe)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

// resolve returns the directory that name leads to, as a path without symbolic
// links, and makes it if it is absent and create is set. The error wraps
// fs.ErrNotExist if it is absent.
func (t *tree) resolve(name string, create bool) (string, error) {
	if t.lastName == name && t.lastDir != "" {
		return t.lastDir, nil
	}
	todo := strings.Split(name, "/")
	var done []string
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..": // from a link; at the root it stays there
			done = done[:max(len(done)-1, 0)]
			continue
		}
		p := path.Join(append(done, part)...)
		fi, err := t.root.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) && create {
			if err := t.root.Mkdir(p, 0o755); err != nil {
				return "", err
			}
			done = append(done, part)
			continue
		}
		switch {
		case err != nil:
			return "", err
		case fi.IsDir():
			done = append(done, part)
			continue
		case fi.Mode()&fs.ModeSymlink == 0:
			return "", fmt.Errorf("%w: a path through the file %q", ErrUnsafe, p)
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%w: too many symbolic links at %q", ErrUnsafe, p)
		}
		target, err := t.root.Readlink(p)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = nil
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	dir := path.Join(done...)
	if dir == "" {
		dir = "."
	}
	t.lastName, t.lastDir = name, dir
	return dir, nil
}

// remove removes p and all below it, without following links.
func (t *tree) remove(p string) error {
	t.lastName, t.lastDir = "", ""
	return t.root.RemoveAll(p)
}
