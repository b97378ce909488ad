package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Export is a directory of an NFS server.
type Export struct {
	Server, Path string
	Options      []string // of mount_nfs(8)

	ReadOnly  bool // for the pod
	Exclusive bool // for one pod at a time
}

// mountTime bounds the mounting of an export: mount(8) gives up by itself long
// before, because it is told not to try again.
const mountTime = time.Minute

// special is the export as mount_nfs(8) takes it.
func (e Export) special() (string, error) {
	server := e.Server
	if strings.Contains(server, ":") {
		server = "[" + strings.Trim(server, "[]") + "]"
	}
	switch {
	case server == "" || strings.ContainsAny(server, ", \t\n/") || strings.HasPrefix(server, "-"):
		return "", fmt.Errorf("mounts: NFS server %q", e.Server)
	case !filepath.IsAbs(e.Path) || strings.ContainsAny(e.Path, ",\t\n"):
		return "", fmt.Errorf("mounts: NFS path %q", e.Path)
	}
	return server + ":" + e.Path, nil
}

// ShowExport shows an export to a pod, as its volume name.
func (h *Host) ShowExport(ctx context.Context, uid, name string, e Export) (Shown, error) {
	point, err := h.point(uid, name)
	if err != nil {
		return Shown{}, err
	}
	special, err := e.special()
	if err != nil {
		return Shown{}, err
	}
	options := slices.Concat([]string{"nosuid", "retry=0"}, e.Options)
	sum := sha256.Sum256([]byte(special + "\n" + strings.Join(options, ",")))
	home := filepath.Join(h.dir, "nfs", hex.EncodeToString(sum[:12]))

	unlock := h.lock(home)
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	table, err := h.table(ctx)
	if err != nil {
		return Shown{}, err
	}
	if !slices.ContainsFunc(table, func(e entry) bool { return e.point == home }) {
		if err := makePoint(home, true); err != nil {
			return Shown{}, fmt.Errorf("mounts: %w", err)
		}
		if err := h.command(ctx, "mount", "-F", "nfs", "-o", strings.Join(options, ","), special, home); err != nil {
			return Shown{}, err
		}
	}
	if err := makePoint(point, true); err != nil {
		return Shown{}, fmt.Errorf("mounts: %w", err)
	}
	// What is below home cannot change under us, so there is nothing to compare.
	err = h.show(ctx, point, home, e.ReadOnly, e.Exclusive, func(string) error { return nil })
	return Shown{Point: point, Dir: true}, err
}

// release unmounts an export that no pod shows any more.
func (h *Host) release(ctx context.Context, home string) error {
	unlock := h.lock(home)
	defer unlock()
	table, err := h.table(ctx)
	if err != nil {
		return err
	}
	mounted := false
	for _, e := range table {
		if e.special == home {
			return nil
		}
		mounted = mounted || e.point == home
	}
	if mounted {
		if err := h.unmount(ctx, home); err != nil {
			return err
		}
	}
	if err := os.Remove(home); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mounts: %w", err)
	}
	return nil
}

// lock keeps others from what has that name.
func (h *Host) lock(name string) (unlock func()) {
	h.mu.Lock()
	m := h.locks[name]
	if m == nil {
		m = new(sync.Mutex)
		h.locks[name] = m
	}
	h.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// ReleaseExports unmounts the exports that no pod shows: those that were
// mounted for a pod which then did not come to show them.
func (h *Host) ReleaseExports(ctx context.Context) error {
	homes, err := os.ReadDir(filepath.Join(h.dir, "nfs"))
	if err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	var errs []error
	for _, e := range homes {
		errs = append(errs, h.release(ctx, filepath.Join(h.dir, "nfs", e.Name())))
	}
	return errors.Join(errs...)
}
