//go:build unix

package zones

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// HostPaths is the file system that this process sees.
type HostPaths struct{}

// Lstat implements Paths.
func (HostPaths) Lstat(path string) (PathInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return PathInfo{}, err
	}
	uid := 0
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	return PathInfo{Mode: info.Mode(), UID: uid}, nil
}

// Resolve implements Paths.
func (HostPaths) Resolve(path string) (string, error) { return filepath.EvalSymlinks(path) }

// MkdirAll implements Paths.
func (HostPaths) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// Chmod implements Paths.
func (HostPaths) Chmod(path string, perm fs.FileMode) error { return os.Chmod(path, perm) }

// Chown implements Paths.
func (HostPaths) Chown(path string, uid int) error { return os.Chown(path, uid, -1) }

// WriteFile implements Paths.
func (HostPaths) WriteFile(path string, data []byte, perm fs.FileMode) error {
	return os.WriteFile(path, data, perm)
}
