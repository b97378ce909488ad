//go:build linux

package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
	"reddwarf.io/reddwarf/hack/host/system"
)

// makeRoot gives this mount namespace the host's file system: this machine's,
// seen through an overlay, so that whatever the host writes is its own.
// Other file systems of this machine are there too, read-only but for /tmp.
// The lab's directory is the one thing that is the same inside and outside.
func makeRoot(b *boot) error {
	h := Host{Lab: b.Lab, Name: b.Config.Name}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer exe.Close() //nolint:errcheck // only read
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := filepath.Join(h.dir(), "root")
	if err := checkPlace(h.dir()); err != nil {
		return err
	}
	show := showMachine
	if userns.Inside() {
		show = showPieces
	}
	if err := show(h.dir(), root); err != nil {
		return err
	}
	if err := unix.Mount(b.Lab.Dir, filepath.Join(root, b.Lab.Dir), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", b.Lab.Dir, err)
	}
	if err := makeRun(h.dir(), filepath.Join(root, "run"), exe); err != nil {
		return err
	}
	if err := b.writeFiles(root); err != nil {
		return err
	}
	if err := installZonePrograms(root); err != nil {
		return err
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	return pivot(root)
}

// checkPlace refuses directories of a lab in which hosts cannot be.
func checkPlace(dir string) error {
	if strings.ContainsAny(dir, ",:\\") {
		return fmt.Errorf("the lab's directory %q must not contain a comma, colon or backslash", dir)
	}
	if below(dir, []string{"/run", "/proc", "/sys", "/dev"}) {
		return fmt.Errorf("the lab's directory %s is where every host has its own: choose another one", dir)
	}
	return nil
}

// showMachine makes root an overlay of / and shows other file systems in it.
func showMachine(dir, root string) error {
	points, err := mountPoints()
	if err != nil {
		return err
	}
	if err := overlay(dir, root); err != nil {
		return err
	}
	for _, p := range points {
		if err := showMount(p, root); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// overlay mounts / at root with a writable layer in dir. Where the file system
// of dir cannot be one, it is kept in memory.
func overlay(dir, root string) error {
	layer := filepath.Join(dir, "fs")
	for _, d := range []string{layer, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	mount := func() error {
		upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		return unix.Mount("host", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work))
	}
	err := mount()
	if errors.Is(err, unix.EINVAL) {
		fmt.Fprintf(os.Stderr, "host: %s cannot hold an overlay's layer: the host's files are kept in memory\n", layer)
		if err := unix.Mount("host", layer, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("overlay: %w", err)
		}
		err = mount()
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// mountPoints returns the outermost mount points below / that the host is to
// see.
func mountPoints() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	covered := []string{"/proc", "/run"} // the host has its own
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		p, err := strconv.Unquote(`"` + strings.ReplaceAll(f[4], `"`, `\"`) + `"`) // blanks are \040
		if err != nil || p == "/" || below(p, covered) {
			continue
		}
		points, covered = append(points, p), append(covered, p)
	}
	return points, nil
}

func below(p string, dirs []string) bool {
	for _, d := range dirs {
		if p == d || strings.HasPrefix(p, d+"/") {
			return true
		}
	}
	return false
}

// showMount shows what is mounted at p, and below, at the same path in root.
func showMount(p, root string) error {
	if _, err := os.Stat(filepath.Join(root, p)); err != nil {
		return nil //nolint:nilerr // hidden by another mount
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // a path only
	if p != "/dev" && p != "/sys" && p != "/tmp" {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return err
		}
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, filepath.Join(root, p), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// makeRun makes the host's /run, which is volatile: in it are the host's
// directory in the lab and the links by which its commands are called.
func makeRun(dir, run string, exe *os.File) error {
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("swap", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	under := func(p string) string { return filepath.Join(run, strings.TrimPrefix(p, "/run/")) }
	for _, d := range []string{under(homeDir), under(binDir), filepath.Join(run, "zones"), filepath.Join(run, "lock")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(dir, under(homeDir), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", homeDir, err)
	}
	// A copy, so that a newer build does not change a host that is up.
	if err := copyProgram(under(binary), exe); err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	for _, name := range Commands() {
		if err := os.Symlink(filepath.Base(binary), filepath.Join(under(binDir), name)); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram(to string, exe io.Reader) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, exe)
	return errors.Join(err, f.Close())
}

// hostDirs are the directories that a host of illumos has and in which it, or
// what runs on it, makes files.
func hostDirs() []string {
	return []string{
		"etc/zones", "opt/reddwarf/lib", "usr/bin", "usr/lib/brand", "usr/lib/inet", "usr/lib/simhost", "usr/sbin",
		"var/log", "var/lib", "zones",
	}
}

// writeFiles makes the files and directories that a host of illumos has.
func (b *boot) writeFiles(root string) error {
	for _, dir := range hostDirs() {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"etc/os-release": system.OSRelease(b.Config.Distro),
		"etc/nodename":   b.Config.Name + "\n",
		"etc/hostname":   b.Config.Name + "\n",
		"etc/hosts":      "127.0.0.1 localhost\n::1 localhost\n" + b.Config.Address.Addr().String() + " " + b.Config.Name + "\n",
	} {
		at := filepath.Join(root, name)
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err // it may be a link to somewhere else
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// installZonePrograms puts the programs where zones see them.
func installZonePrograms(root string) error {
	dir := filepath.Join(root, zoneDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	exe, err := os.Open(filepath.Join(root, binary))
	if err != nil {
		return err
	}
	defer exe.Close() //nolint:errcheck // only read
	program := filepath.Join(dir, "host")
	if err := os.Remove(program); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // of a host that boots again
	}
	if err := copyProgram(program, exe); err != nil {
		return err
	}
	for at, name := range zonePrograms() {
		link := filepath.Join(root, at)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		named := filepath.Join(dir, name)
		if err := os.Remove(named); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// The last link but one has the name by which the program knows itself.
		if err := errors.Join(os.Symlink("host", named), os.Symlink(filepath.Join(zoneDir, name), link)); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes root the root of this mount namespace and forgets the old one.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	_, err := spaces.Find(os.Getpid())
	if err != nil {
		return fmt.Errorf("/proc does not show this process: %w", err)
	}
	return nil
}
