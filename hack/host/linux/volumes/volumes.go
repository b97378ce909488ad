//go:build linux

// Package volumes keeps the contents of the simulated host's file systems and
// snapshots on Linux: as subvolumes of a btrfs image behind a loop device, or
// as directories, with overlay mounts for clones, where that cannot be had.
//
// Everything it mounts belongs to the mount namespace of the process that
// calls it and goes with that: the image's loop device detaches itself when
// its last mount is gone. Objects are directories named by their number, so
// nothing but the image (or the directory) outlives a crash.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zfs"
)

// Kind is a way of keeping contents.
type Kind string

// The kinds. Auto is the first of the others that works.
const (
	Auto    Kind = ""
	Btrfs   Kind = "btrfs"   // clones cost nothing, quotas are enforced
	Overlay Kind = "overlay" // clones cost nothing, quotas are refused
	Plain   Kind = "plain"   // clones are copies, quotas are refused
)

// Options are those of Open.
type Options struct {
	Kind Kind
	Size uint64 // bytes of a new btrfs image, which is sparse; 0 means 20 GiB
}

// driver is what differs between the kinds.
type driver interface {
	create(dir string, id uint64, groups []uint64) error
	snapshot(from, to string, groups []uint64, readOnly bool) error
	destroy(dir string) error
	rollback(dir, snap string) error
	setReadOnly(dir string, on bool) error
	setQuota(group, limit uint64, members []string) error
	setRefQuota(dir string, limit uint64) error
	regroup(dir string, from, to []uint64) error
	usage(root string) (map[uint64]uint64, error)
	capacity() (uint64, error)
	close() error
}

// Volumes implements zfs.Backend.
type Volumes struct {
	kind   Kind
	root   string // holds one directory per object
	driver driver

	mu sync.Mutex // serialises changes
}

var _ zfs.Backend = (*Volumes)(nil)

// Open makes or finds the pool's contents below dir, an existing directory of
// which it becomes the only user.
func Open(dir string, o Options) (*Volumes, error) {
	if o.Size == 0 {
		o.Size = 20 << 30
	}
	kind := o.Kind
	for _, k := range []Kind{Overlay, Plain} { // what was begun goes on
		if _, err := os.Stat(filepath.Join(dir, string(k))); kind == Auto && err == nil {
			kind = k
		}
	}
	if kind == Btrfs || kind == Auto {
		root := filepath.Join(dir, "btrfs")
		d, err := openBtrfs(filepath.Join(dir, "pool.img"), root, o.Size)
		if err == nil {
			return &Volumes{kind: Btrfs, root: root, driver: d}, nil
		}
		if kind == Btrfs {
			return nil, fmt.Errorf("volumes: btrfs image: %w", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "pool.img")); err == nil {
			return nil, errors.New("volumes: there is a btrfs image here that cannot be mounted")
		}
	}
	if kind == Overlay || kind == Auto {
		root := filepath.Join(dir, "overlay")
		d, err := openOverlay(root)
		if err == nil {
			return &Volumes{kind: Overlay, root: root, driver: d}, nil
		}
		if kind == Overlay {
			return nil, fmt.Errorf("volumes: overlay: %w", err)
		}
		if err := errors.Join(os.RemoveAll(root), os.RemoveAll(root+".layers")); err != nil { // both are empty
			return nil, fmt.Errorf("volumes: %w", err)
		}
	}
	root := filepath.Join(dir, "plain")
	if err := os.Mkdir(root, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	return &Volumes{kind: Plain, root: root, driver: plain{root}}, nil
}

// Kind says how contents are kept.
func (v *Volumes) Kind() Kind { return v.kind }

// Close unmounts the image. Mounts of file systems must be gone.
func (v *Volumes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.driver.close()
}

// Sync writes everything that is held in memory, so that Usage is exact.
func (v *Volumes) Sync() error {
	f, err := os.Open(v.root)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return unix.Syncfs(int(f.Fd()))
}

// Dir implements zfs.Backend.
func (v *Volumes) Dir(id uint64) string {
	return filepath.Join(v.root, strconv.FormatUint(id, 10))
}

// do runs one change with what it says of failures.
func (v *Volumes) do(ctx context.Context, what string, id uint64, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	err := f()
	var refused zfs.Refused
	switch {
	case err == nil || errors.As(err, &refused):
		return err
	case errors.Is(err, unix.EDQUOT), errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("object %d: %s: %w: %w", id, what, zfs.ErrNoSpace, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("object %d: %s: %w: %w", id, what, zfs.ErrBusy, err)
	}
	return fmt.Errorf("object %d: %s: %w", id, what, err)
}

// Create implements zfs.Backend.
func (v *Volumes) Create(ctx context.Context, id uint64, groups []uint64) error {
	return v.do(ctx, "create", id, func() error { return v.driver.create(v.Dir(id), id, groups) })
}

// Snapshot implements zfs.Backend.
func (v *Volumes) Snapshot(ctx context.Context, id, snap uint64, groups []uint64) error {
	return v.do(ctx, "snapshot", id, func() error {
		return v.driver.snapshot(v.Dir(id), v.Dir(snap), groups, true)
	})
}

// Clone implements zfs.Backend.
func (v *Volumes) Clone(ctx context.Context, snap, id uint64, groups []uint64) error {
	return v.do(ctx, "clone", snap, func() error {
		return v.driver.snapshot(v.Dir(snap), v.Dir(id), groups, false)
	})
}

// Destroy implements zfs.Backend.
func (v *Volumes) Destroy(ctx context.Context, id uint64) error {
	return v.do(ctx, "destroy", id, func() error { return v.driver.destroy(v.Dir(id)) })
}

// Rollback implements zfs.Backend.
func (v *Volumes) Rollback(ctx context.Context, id, snap uint64) error {
	return v.do(ctx, "rollback", id, func() error { return v.driver.rollback(v.Dir(id), v.Dir(snap)) })
}

// SetReadOnly implements zfs.Backend.
func (v *Volumes) SetReadOnly(ctx context.Context, id uint64, on bool) error {
	return v.do(ctx, "read-only", id, func() error { return v.driver.setReadOnly(v.Dir(id), on) })
}

// SetQuota implements zfs.Backend.
func (v *Volumes) SetQuota(ctx context.Context, group, limit uint64, members []uint64) error {
	var dirs []string
	for _, id := range members {
		dirs = append(dirs, v.Dir(id))
	}
	return v.do(ctx, "quota", group, func() error { return v.driver.setQuota(group, limit, dirs) })
}

// SetRefQuota implements zfs.Backend.
func (v *Volumes) SetRefQuota(ctx context.Context, id, limit uint64) error {
	return v.do(ctx, "refquota", id, func() error { return v.driver.setRefQuota(v.Dir(id), limit) })
}

// Regroup implements zfs.Backend.
func (v *Volumes) Regroup(ctx context.Context, id uint64, from, to []uint64) error {
	return v.do(ctx, "quota", id, func() error { return v.driver.regroup(v.Dir(id), from, to) })
}

// Usage implements zfs.Backend.
func (v *Volumes) Usage(ctx context.Context) (map[uint64]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return v.driver.usage(v.root)
}

// Capacity implements zfs.Backend.
func (v *Volumes) Capacity(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return v.driver.capacity()
}

// Send implements zfs.Backend.
func (v *Volumes) Send(ctx context.Context, snap uint64, w io.Writer) error {
	return writeTree(ctx, v.Dir(snap), w)
}

// Receive implements zfs.Backend.
func (v *Volumes) Receive(ctx context.Context, id uint64, r io.Reader) error {
	return readTree(ctx, v.Dir(id), r)
}
