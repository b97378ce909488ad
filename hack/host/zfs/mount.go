package zfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// mountError is why zfs_mount or zfs_unmount of libzfs fail: what it names
// after "cannot mount" and the reason.
type mountError struct{ subject, reason string }

// Error returns libzfs' message.
func (e *mountError) Error() string { return e.subject + ": " + e.reason }

// mountable returns where a file system is to be mounted; false where it
// never is: zfs_is_mountable in the global zone.
func (m *Model) mountable(n *node) (string, bool) {
	dir := m.setting(n, "mountpoint")
	if dir == "none" || dir == "legacy" || m.setting(n, "canmount") == "off" || m.on(n, "zoned") {
		return "", false
	}
	return path.Clean(dir), true
}

// mountOptions are the options a mount of n has.
func (m *Model) mountOptions(n *node) MountOptions {
	get := func(name string) bool {
		if v, ok := n.temporary[name]; ok {
			return v == "on"
		}
		return m.on(n, name)
	}
	return MountOptions{
		ReadOnly: get("readonly"), NoDevices: !get("devices"), NoSetuid: !get("setuid"),
		NoExec: !get("exec"), NoAtime: !get("atime"),
	}
}

// mountNode is zfs_mount of libzfs. A file system that is not mountable is
// silently left alone.
func (m *Model) mountNode(ctx context.Context, n *node, overlay bool) error {
	dir, ok := m.mountable(n)
	if !ok || n.Mounted != "" {
		return nil
	}
	if _, taken := m.mountedAt(dir); taken && !overlay {
		return &mountError{"cannot mount '" + n.Name + "'", "mountpoint or dataset is busy"}
	}
	err := m.backend.Mount(ctx, n.ID, dir, m.mountOptions(n), overlay)
	switch {
	case errors.Is(err, ErrNotEmpty):
		return &mountError{"cannot mount '" + dir + "'", "directory is not empty"}
	case errors.Is(err, ErrBusy):
		return &mountError{"cannot mount '" + n.Name + "'", "mountpoint or dataset is busy"}
	case err != nil:
		return &mountError{"cannot mount '" + n.Name + "'", err.Error()}
	}
	n.Mounted = dir
	return nil
}

// unmountNode is zfs_unmount. A file system that is not mounted is left alone;
// one that shows others' mount points is busy.
func (m *Model) unmountNode(ctx context.Context, n *node, force bool) error {
	if n.Mounted == "" {
		return nil
	}
	busy := &mountError{"cannot unmount '" + n.Mounted + "'", "Device busy"}
	if len(m.mountsBelow(n.Mounted)) > 0 {
		return busy
	}
	err := m.backend.Unmount(ctx, n.ID, n.Mounted, force)
	switch {
	case errors.Is(err, ErrBusy):
		return busy
	case err != nil:
		return &mountError{"cannot unmount '" + n.Mounted + "'", err.Error()}
	}
	n.Mounted, n.temporary = "", nil
	return nil
}

// mountAll mounts what is to be mounted at boot, parents first, and goes on
// after failures.
func (m *Model) mountAll(ctx context.Context) error {
	all := m.filesystems()
	slices.SortStableFunc(all, func(a, b *node) int {
		return cmp.Compare(m.setting(a, "mountpoint"), m.setting(b, "mountpoint"))
	})
	var errs []error
	for _, n := range all {
		if m.setting(n, "canmount") == "on" {
			errs = append(errs, m.mountNode(ctx, n, false))
		}
	}
	return errors.Join(errs...)
}

// mountedAt returns the dataset whose mount point is dir.
func (m *Model) mountedAt(dir string) (string, bool) {
	for _, n := range m.byID {
		if n.Mounted == dir {
			return n.Name, true
		}
	}
	return "", false
}

func (m *Model) mountsBelow(dir string) []string {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	var dirs []string
	for _, n := range m.byID {
		if strings.HasPrefix(n.Mounted, prefix) && n.Mounted != dir {
			dirs = append(dirs, n.Mounted)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// usedByZones says whether a zone has n mounted.
func (m *Model) usedByZones(n *node) bool {
	for _, counts := range m.sources {
		if counts[n.ID] > 0 {
			return true
		}
	}
	return false
}

// Source implements the zones' Datasets: it returns the directory that shows a
// file system whose mountpoint is legacy, and makes it busy until Release. The
// errors are those that zoneadm prints in verify_fs_zfs, without what comes
// before them.
func (m *Model) Source(dataset, zone string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.byName[dataset]
	switch {
	case n == nil:
		return "", fmt.Errorf("could not access zfs dataset '%s'", dataset)
	case n.Snapshot:
		return "", fmt.Errorf("'%s' is not a file system", dataset)
	case m.setting(n, "mountpoint") != "legacy":
		return "", fmt.Errorf("zfs '%s' mountpoint is not \"legacy\"", dataset)
	}
	if m.sources[zone] == nil {
		m.sources[zone] = map[uint64]int{}
	}
	m.sources[zone][n.ID]++
	return m.backend.Dir(n.ID), nil
}

// Release undoes every Source of the zone.
func (m *Model) Release(zone string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sources, zone)
}

// MountpointOf returns the dataset that is mounted at dir.
func (m *Model) MountpointOf(dir string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mountedAt(path.Clean(dir))
}

// MountsBelow returns the mount points strictly below dir, sorted.
func (m *Model) MountsBelow(dir string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mountsBelow(path.Clean(dir))
}
