package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit"
)

// What a group gets, as from a kubelet: reading and writing; in directories
// also their use, and new files belong to the group too.
const (
	groupFile = fs.FileMode(0o660)
	groupDir  = fs.FileMode(0o770) | fs.ModeSetgid
)

// readyVolumes makes the volumes ready, before any container can write to one.
// A fault is one of the containers that mount the volume.
func (s *Supervisor) readyVolumes() {
	for _, v := range s.spec.Volumes {
		if err := readyVolume(s.config.volume(v.Name), v); err != nil {
			s.log.Printf("volume %s: %v", v.Name, err)
			s.volumes[v.Name] = err
		}
	}
}

func readyVolume(dir string, v podinit.Volume) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	if !v.Keep {
		err = openUp(root, v.Mode)
	}
	if err == nil && v.Group != nil {
		err = giveToGroup(root, int(*v.Group), v.RootOnly)
	}
	return errors.Join(err, root.Close())
}

// openUp gives the root of a file system as it was made its mode, or lets
// everybody write there. One of ZFS has 0755, a tmpfs 1777: whoever changed
// that knew why.
func openUp(root *os.Root, wanted *int32) error {
	mode := fs.FileMode(0o777)
	if wanted != nil {
		mode = fs.FileMode(*wanted) & fs.ModePerm
		if *wanted&0o1000 != 0 {
			mode |= fs.ModeSticky
		}
	}
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 {
		return nil
	}
	m := info.Mode()
	if m != fs.ModeDir|0o755 && m != fs.ModeDir|fs.ModeSticky|0o777 {
		return nil
	}
	if wanted == nil && m.Perm() == mode {
		return nil // a tmpfs keeps its sticky bit, as with a kubelet
	}
	return root.Chmod(".", mode)
}

// giveToGroup makes group the group of everything below root. Nothing else
// runs here yet, and links are not followed in any case.
func giveToGroup(root *os.Root, group int, rootOnly bool) error {
	if rootOnly {
		info, err := root.Stat(".")
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && int(st.Gid) == group && info.Mode()&groupDir == groupDir {
			return nil
		}
	}
	// The root comes last: while it does not look done, the next start does
	// all of it again.
	err := fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return giveOne(root, name, group)
	})
	if err != nil {
		return err
	}
	return giveOne(root, ".", group)
}

func giveOne(root *os.Root, name string, group int) error {
	if err := root.Lchown(name, -1, group); err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	// Changing the group has taken a set-group-ID bit away.
	mode := info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) | groupFile
	if info.IsDir() {
		mode |= groupDir
	}
	if err := root.Chmod(name, mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	return nil
}

// read returns the content of a file of a volume. Whoever has put it there may
// have made it a link, which leads no further than the volume, or a device or
// pipe, which is not opened.
func (s *Supervisor) read(volume, path string) ([]byte, error) {
	p, err := walk(s.config.volume(volume), path, existing)
	if err != nil {
		return nil, refuse(podinit.ReasonNotFound, "%s", clip(err.Error()))
	}
	defer p.close()
	f, err := os.OpenFile(p.name(), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse(podinit.ReasonNotFound, "%s: %s", path, clip(err.Error()))
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, refuse(podinit.ReasonNotFound, "%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, podinit.MaxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > podinit.MaxFile:
		return nil, refuse(podinit.ReasonRequest, "%s: more than %d bytes", path, podinit.MaxFile)
	}
	return data, nil
}
