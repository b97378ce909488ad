package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// ReclaimPod destroys the roots and volumes of a pod, whose zone must be gone,
// and all that is in its directory but the entries keep. An absent pod is fine.
//
// What a pod left behind is its own work, so nothing here trusts it: it may have
// filled its quota, be of any depth, or hold what is still mounted.
func (s *Store) ReclaimPod(ctx context.Context, uid string, keep ...string) error {
	if err := checkWord("pod", uid); err != nil {
		return err
	}
	name := s.podName(uid)
	p, err := s.get(ctx, name, uidProperty, "quota", "mounted")
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case !p[uidProperty].local(uid):
		return fmt.Errorf("storage: dataset %s: %w", name, ErrForeign)
	}
	out, err := s.zfs(ctx, "list", "-Hp", "-o", "name", "-t", "filesystem", "-d", "1", name)
	if err != nil {
		return err
	}
	rows, err := parseRows(out, 1)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if !strings.HasPrefix(r[0], name+"/") {
			continue
		}
		err := retryBusy(ctx, func() error {
			_, err := s.zfs(ctx, "destroy", "-r", r[0])
			return err
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	// At its quota a file system renames nothing.
	if p["quota"].value != "0" && p["quota"].value != "none" {
		if _, err := s.zfs(ctx, "set", "quota=none", name); err != nil {
			return err
		}
	}
	if p["mounted"].value != "yes" {
		if err := s.mount(ctx, name); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(s.PodDir(uid))
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	defer root.Close() //nolint:errcheck // only a handle
	if err := empty(ctx, root, keep); err != nil {
		return fmt.Errorf("storage: what pod %s has left in %s cannot be removed: %w", uid, s.PodDir(uid), err)
	}
	return nil
}

// aside is what names begin with that empty gives to directories.
const aside = ".gone-"

// empty removes everything below root but the entries keep.
//
// A directory is moved to the top before anything in it is touched. So no path is
// long and no directory deep, and nothing that is mounted is walked: neither
// rename(2) nor unlink(2) takes a mount point.
func empty(ctx context.Context, root *os.Root, keep []string) error {
	next := 0
	// remove removes an entry, or moves it aside if it is a directory with entries.
	remove := func(dir string, e fs.DirEntry) error {
		name := path.Join(dir, e.Name())
		err := root.Remove(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !e.IsDir() {
			return ignoreAbsent(err)
		}
		for {
			to := aside + strconv.Itoa(next)
			next++
			if _, err := root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
				return root.Rename(name, to)
			}
		}
	}
	for {
		top, err := entries(root, ".")
		if err != nil {
			return err
		}
		top = slices.DeleteFunc(top, func(e fs.DirEntry) bool { return slices.Contains(keep, e.Name()) })
		if len(top) == 0 {
			return nil
		}
		for _, e := range top {
			if !e.IsDir() || !strings.HasPrefix(e.Name(), aside) {
				if err := remove(".", e); err != nil {
					return err
				}
				continue
			}
			for {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				in, err := entries(root, e.Name())
				if err != nil {
					return err
				}
				for _, child := range in {
					if err := remove(e.Name(), child); err != nil {
						return err
					}
				}
				if len(in) == 0 {
					break
				}
			}
			if err := ignoreAbsent(root.Remove(e.Name())); err != nil {
				return err
			}
		}
	}
}

// batch is how many entries of a directory are looked at together.
const batch = 1000

// entries returns some of the entries of a directory, none only if it is empty.
func entries(root *os.Root, dir string) ([]fs.DirEntry, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	list, err := d.ReadDir(batch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, errors.Join(err, d.Close())
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Freeing returns how many bytes of destroyed datasets the pool has yet to give
// back, which ZFS does in the background.
func (s *Store) Freeing(ctx context.Context) (int64, error) {
	pool, _, _ := strings.Cut(s.name, "/")
	out, err := s.run.Run(ctx, command.New("zpool", "get", "-Hp", "-o", "value", "freeing", pool))
	if err != nil {
		return 0, fmt.Errorf("storage: %w", err)
	}
	return parseSize(strings.TrimSpace(string(out)))
}
