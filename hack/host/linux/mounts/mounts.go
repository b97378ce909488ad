//go:build linux

// Package mounts makes the mounts of the simulated host's mount(8) real, and
// simulates NFS servers by directories.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/mounts"
)

// Backend makes mounts in the mount namespace that it runs in.
type Backend struct{}

var _ mounts.Backend = Backend{}

// Mount implements mounts.Backend. Like lofs, it passes through what is
// mounted below source, and its options hold there too.
func (Backend) Mount(_ context.Context, source, point string, o mounts.Options) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // a path only
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	for _, a := range []struct {
		on   bool
		flag uint64
	}{
		{o.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {o.NoDevices, unix.MOUNT_ATTR_NODEV},
		{o.NoSetuid, unix.MOUNT_ATTR_NOSUID}, {o.NoExec, unix.MOUNT_ATTR_NOEXEC},
	} {
		if a.on {
			attr.Attr_set |= a.flag
		}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Unmount implements mounts.Backend.
func (Backend) Unmount(_ context.Context, point string) error {
	// What lofs passed through from below goes with it.
	inner, err := below(point)
	if err != nil {
		return err
	}
	if len(inner) == 0 {
		return unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
	}
	return unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
}

// below lists the mount points below dir. Those that the model knows it has
// refused to leave behind.
func below(dir string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			all = append(all, f[4])
		}
	}
	return all, nil
}

// Servers are NFS servers, each a directory of its name below Dir: what is at
// /x in it the server exports as /x. One that has a file .down does not
// answer.
type Servers struct{ Dir string }

var _ mounts.Servers = Servers{}

// Export implements mounts.Servers.
func (s Servers) Export(server, path string) (string, error) {
	home := filepath.Join(s.Dir, filepath.Base(filepath.Clean("/"+server)))
	if info, err := os.Stat(home); err != nil || !info.IsDir() || server == "" {
		return "", fmt.Errorf("%s: %w", server, mounts.ErrNoHost)
	}
	if _, err := os.Lstat(filepath.Join(home, ".down")); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", server, mounts.ErrSilent)
	}
	dir := filepath.Join(home, filepath.Clean("/"+path))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%s:%s: %w", server, path, fs.ErrNotExist)
	}
	return dir, nil
}
