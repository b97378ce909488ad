package zones

import (
	"io/fs"
	"path"
	"sync"
	"syscall"
)

// Paths is the file system of the global zone as zoneadm and zoneadmd use it.
type Paths interface {
	// Lstat describes path itself, or fails with fs.ErrNotExist.
	Lstat(path string) (PathInfo, error)

	// Resolve returns path without symbolic links, "." and "..", as
	// resolvepath(2). It fails with fs.ErrNotExist if there is no such path.
	Resolve(path string) (string, error)

	// MkdirAll makes path and its missing parents, as mkdirp(3GEN).
	MkdirAll(path string, perm fs.FileMode) error

	Chmod(path string, perm fs.FileMode) error
	Chown(path string, uid int) error

	// WriteFile replaces the content of a file.
	WriteFile(path string, data []byte, perm fs.FileMode) error
}

// PathInfo is what Paths knows of one file.
type PathInfo struct {
	Mode fs.FileMode
	UID  int
}

// MemoryPaths is a file system in memory for tests. It is permissive: a path
// that nobody set is a directory of root with mode 0700, or 0755 if its last
// element is "root". Make it with NewMemoryPaths.
type MemoryPaths struct {
	mu    sync.Mutex
	set   map[string]PathInfo
	gone  map[string]bool
	links map[string]string
	data  map[string][]byte
}

// NewMemoryPaths returns a file system in which everything is as it should be.
func NewMemoryPaths() *MemoryPaths {
	return &MemoryPaths{set: map[string]PathInfo{}, gone: map[string]bool{}, links: map[string]string{}, data: map[string][]byte{}}
}

// Set says what is at path.
func (m *MemoryPaths) Set(path string, info PathInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set[path] = info
	delete(m.gone, path)
}

// Remove makes path absent.
func (m *MemoryPaths) Remove(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone[path] = true
	delete(m.set, path)
	delete(m.data, path)
}

// Link makes path a symbolic link to an absolute target.
func (m *MemoryPaths) Link(path, target string) {
	m.Set(path, PathInfo{Mode: fs.ModeSymlink | 0o777})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links[path] = target
}

// Data returns what was written to path.
func (m *MemoryPaths) Data(path string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[path]
}

// Lstat implements Paths.
func (m *MemoryPaths) Lstat(name string) (PathInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lstat(name)
}

func (m *MemoryPaths) lstat(name string) (PathInfo, error) {
	for p := name; ; p = path.Dir(p) {
		if m.gone[p] {
			return PathInfo{}, &fs.PathError{Op: "lstat", Path: name, Err: syscall.ENOENT}
		}
		if p == "/" || p == "." {
			break
		}
	}
	if info, ok := m.set[name]; ok {
		return info, nil
	}
	if path.Base(name) == "root" {
		return PathInfo{Mode: fs.ModeDir | 0o755}, nil
	}
	return PathInfo{Mode: fs.ModeDir | 0o700}, nil
}

// Resolve implements Paths.
func (m *MemoryPaths) Resolve(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	for range 32 {
		if _, err := m.lstat(name); err != nil {
			return "", err
		}
		prefix, target, ok := m.linkIn(name)
		if !ok {
			return name, nil
		}
		name = path.Join(target, name[len(prefix):])
	}
	return "", &fs.PathError{Op: "resolvepath", Path: name, Err: syscall.ELOOP}
}

func (m *MemoryPaths) linkIn(name string) (prefix, target string, ok bool) {
	for p := name; p != "/" && p != "."; p = path.Dir(p) {
		if m.set[p].Mode&fs.ModeSymlink != 0 {
			prefix, target, ok = p, m.links[p], true
		}
	}
	return prefix, target, ok
}

// MkdirAll implements Paths.
func (m *MemoryPaths) MkdirAll(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := name; p != "/" && p != "."; p = path.Dir(p) {
		if m.gone[p] {
			delete(m.gone, p)
			m.set[p] = PathInfo{Mode: fs.ModeDir | perm}
		}
	}
	return nil
}

// Chmod implements Paths.
func (m *MemoryPaths) Chmod(name string, perm fs.FileMode) error {
	return m.change(name, func(i *PathInfo) { i.Mode = i.Mode.Type() | perm })
}

// Chown implements Paths.
func (m *MemoryPaths) Chown(name string, uid int) error {
	return m.change(name, func(i *PathInfo) { i.UID = uid })
}

func (m *MemoryPaths) change(name string, f func(*PathInfo)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	info, err := m.lstat(name)
	if err != nil {
		return err
	}
	f(&info)
	m.set[name] = info
	return nil
}

// WriteFile implements Paths.
func (m *MemoryPaths) WriteFile(name string, data []byte, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set[name] = PathInfo{Mode: perm}
	m.data[name] = append([]byte(nil), data...)
	delete(m.gone, name)
	return nil
}
