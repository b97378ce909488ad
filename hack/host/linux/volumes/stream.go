//go:build linux

package volumes

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// xattrRecord is the PAX record of an extended attribute, as GNU tar and star
// write it.
const xattrRecord = "SCHILY.xattr."

// treeWriter writes a tree as a tar archive in which order is that of names,
// so equal trees give equal archives but for their times.
type treeWriter struct {
	ctx   context.Context
	tar   *tar.Writer
	links map[uint64]string
}

// writeTree writes what is below dir, and dir itself as ".".
func writeTree(ctx context.Context, dir string, w io.Writer) error {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	t := &treeWriter{ctx, tar.NewWriter(w), map[uint64]string{}}
	if err := t.dir(fd, "."); err != nil {
		return err
	}
	return t.tar.Close()
}

func (t *treeWriter) dir(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := t.header(fd, name+"/", st, ""); err != nil {
		return err
	}
	all, err := names(fd)
	if err != nil {
		return err
	}
	for _, n := range all {
		if err := t.entry(fd, n, path.Join(name, n)); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return t.ctx.Err()
}

func (t *treeWriter) entry(at int, name, full string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := openDir(at, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // only read
		return t.dir(fd, full)
	case unix.S_IFREG:
		return t.file(at, name, full, st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(at, name, buf)
		if err != nil {
			return err
		}
		return t.header(-1, full, st, string(buf[:n]))
	case unix.S_IFSOCK:
		return nil // bound by a process that is not part of the contents
	}
	return t.header(-1, full, st, "")
}

func (t *treeWriter) file(at int, name, full string, st unix.Stat_t) error {
	if first, again := t.links[st.Ino]; again {
		return t.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: full, Linkname: first, Format: tar.FormatPAX})
	}
	if st.Nlink > 1 {
		t.links[st.Ino] = full
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() //nolint:errcheck // only read
	if err := t.header(fd, full, st, ""); err != nil {
		return err
	}
	_, err = io.Copy(t.tar, f)
	return err
}

// header writes the header of what has the stat st; fd is negative where its
// attributes cannot be read.
func (t *treeWriter) header(fd int, name string, st unix.Stat_t, target string) error {
	h := &tar.Header{
		Name: name, Linkname: target, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if fd >= 0 {
		all, err := xattrs(fd)
		if err != nil {
			return err
		}
		for k, v := range all {
			h.PAXRecords[xattrRecord+k] = v
		}
	}
	return t.tar.WriteHeader(h)
}

// readTree unpacks an archive of writeTree into an empty directory. The
// archive is not trusted: no name leads out of the directory.
func readTree(ctx context.Context, dir string, r io.Reader) error {
	root, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return err
	}
	defer unix.Close(root) //nolint:errcheck // only read
	in := tar.NewReader(r)
	var dirs []*tar.Header // times and modes of directories last
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
		if err := readEntry(root, h, in); err != nil {
			return fmt.Errorf("archive: %q: %w", h.Name, err)
		}
	}
	if len(dirs) == 0 {
		return errors.New("archive: it is empty")
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		fd, err := beneath(root, dirs[i].Name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		err = errors.Join(setMeta(fd, dirs[i]), unix.Close(fd))
		if err != nil {
			return fmt.Errorf("archive: %q: %w", dirs[i].Name, err)
		}
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// beneath opens a path that stays below root and passes no symbolic link.
func beneath(root int, name string, flags int, mode uint32) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Mode: uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

func readEntry(root int, h *tar.Header, in io.Reader) error {
	name := path.Clean(h.Name)
	if name == "." {
		return nil
	}
	parent, err := beneath(root, path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent) //nolint:errcheck // only read
	base := path.Base(name)
	switch h.Typeflag {
	case tar.TypeDir:
		return unix.Mkdirat(parent, base, 0o700)
	case tar.TypeReg:
		fd, err := beneath(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), base)
		_, err = io.Copy(f, in)
		return errors.Join(err, setMeta(fd, h), f.Close())
	case tar.TypeLink:
		from, err := beneath(root, path.Dir(path.Clean(h.Linkname)), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(from) //nolint:errcheck // only read
		return unix.Linkat(from, path.Base(h.Linkname), parent, base, 0)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return err
		}
		return setLinkMeta(parent, base, h)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
		dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if err := unix.Mknodat(parent, base, kind|uint32(h.Mode)&0o7777, int(dev)); err != nil {
			return err
		}
		return setLinkMeta(parent, base, h)
	}
	return fmt.Errorf("entry of type %q", h.Typeflag)
}

func headerTimes(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{t, t}
}

// setMeta gives an open file or directory what its header says.
func setMeta(fd int, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		if name, is := strings.CutPrefix(k, xattrRecord); is {
			if err := unix.Fsetxattr(fd, name, []byte(v), 0); err != nil {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
		}
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", headerTimes(h), unix.AT_EMPTY_PATH)
}

// setLinkMeta does so for what cannot be opened.
func setLinkMeta(at int, name string, h *tar.Header) error {
	if err := unix.Fchownat(at, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(at, name, headerTimes(h), unix.AT_SYMLINK_NOFOLLOW)
}
