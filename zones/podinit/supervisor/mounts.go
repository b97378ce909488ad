package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
)

// mounter makes mounts, on some systems by running a program.
type mounter struct {
	reaper *reaper
	host   bool // in the global zone
}

// mountFlags are what a bind mount adds to its source.
type mountFlags struct {
	readOnly bool
	noSetuid bool // programs do not change their user, which no_new_privs means
}

// wish is one mount to make: source is below from, target below the container's
// root.
type wish struct {
	from, source string
	target       string
	flags        mountFlags
	subPath      string // source, where the pod says it; a directory that is missing is made
	optional     bool   // go on without, if the source is missing or the target cannot be made
}

// wishes lists a container's mounts, outer targets before inner ones.
func (c *container) wishes() []wish {
	conf := c.s.config
	list := systemWishes(conf.Host != "")
	if c.s.spec.HostSystem {
		list = append(list, hostSystemWishes()...)
	}
	for _, m := range c.spec.Mounts {
		w := wish{target: path.Clean(m.Target), flags: mountFlags{readOnly: m.ReadOnly}}
		if m.File != "" {
			w.from, w.source, w.flags.readOnly = conf.spec(), m.File, true
		} else {
			w.from, w.source, w.subPath = conf.volume(m.Volume), m.SubPath, m.SubPath
			// A zone mounts what only the host may write read-only; in the
			// global zone nothing stands between.
			w.flags.readOnly = m.ReadOnly || conf.volumes[m.Volume].ReadOnly
			if info, err := os.Lstat(w.from); err == nil && !info.IsDir() && m.SubPath == "" {
				// One file or socket: it is named in its directory, which is ours.
				w.from, w.source = path.Split(w.from)
			}
		}
		list = append(list, w)
	}
	if p := c.spec.TerminationMessagePath; p != "" {
		list = append(list, wish{
			from: conf.run(), source: messageFile(c.spec.Name), target: path.Clean(p), optional: true,
		})
	}
	depth := func(w wish) int { return strings.Count(w.target, "/") }
	slices.SortStableFunc(list, func(a, b wish) int { return depth(a) - depth(b) })
	return list
}

// hostSystemWishes are what a container of a native zone has: its libc and
// programs are the host's, which the brand mounts into the zone, because an
// image brings neither.
func hostSystemWishes() []wish {
	ro := mountFlags{readOnly: true}
	return []wish{
		{from: "/", source: "usr", target: "/usr", flags: ro},
		{from: "/", source: "lib", target: "/lib", flags: ro},
		{from: "/", source: "native/sbin", target: "/sbin", flags: ro},
	}
}

func messageFile(container string) string { return container + ".message" }

// home is where the container's root is mounted.
func (c *container) home() string {
	if c.spec.Spare > 0 {
		return c.s.config.spare(c.spec.Spare)
	}
	return c.s.config.root(c.spec.Name)
}

// mount makes the container's root ready and returns its path. What a failure
// leaves behind unmount takes away.
func (c *container) mount() (string, error) {
	root := c.home()
	if info, err := os.Lstat(root); err != nil || !info.IsDir() {
		return "", fmt.Errorf("no root file system at %s", root)
	}
	if err := c.clearMessage(); err != nil {
		c.s.log.Printf("container %s: termination message: %v", c.spec.Name, err)
	}
	flags := mountFlags{readOnly: c.spec.ReadOnlyRoot, noSetuid: c.spec.NoNewPrivileges && !hasNoNewPrivileges()}
	for _, m := range c.spec.Mounts {
		if err := c.s.volumes[m.Volume]; err != nil {
			return "", fmt.Errorf("volume %s: %w", m.Volume, err)
		}
	}
	list := c.wishes()
	if flags != (mountFlags{}) {
		// The mount points must be there before the root is read-only.
		for _, w := range list {
			if err := c.prepare(root, w); err != nil {
				return "", err
			}
		}
		view := c.s.config.view(c.spec.Name)
		if err := os.MkdirAll(view, 0o755); err != nil {
			return "", err
		}
		if err := c.s.mounter().bind(&place{path: root, dir: true}, &place{path: view, dir: true}, flags); err != nil {
			return "", fmt.Errorf("mount of the root: %w", err)
		}
		root = view
	}
	for _, w := range list {
		if err := c.grant(root, w); err != nil {
			return "", fmt.Errorf("mount of %s: %w", w.target, err)
		}
	}
	return root, nil
}

// prepare makes a mount point. One inside another mount is made when that is
// there.
func (c *container) prepare(root string, w wish) error {
	for _, outer := range c.wishes() {
		if strings.HasPrefix(w.target, outer.target+"/") {
			return nil
		}
	}
	src, err := w.find()
	if err != nil {
		return nil // grant reports it
	}
	defer src.close()
	at, err := walk(root, w.target, src.kind())
	if err != nil {
		return fmt.Errorf("mount point %s: %w", w.target, err)
	}
	at.close()
	return nil
}

func (p *place) kind() kind {
	if p.dir {
		return directory
	}
	return file
}

// find returns the source of a mount. Where a subPath does not lead to it, that
// is for the pod's author or another container to mend.
func (w wish) find() (*place, error) {
	if w.subPath == "" {
		return walk(w.from, w.source, existing)
	}
	p, err := walkInside(w.from, w.source, directory)
	if err != nil {
		return nil, &configError{fmt.Errorf("failed to prepare subPath %q for the volumeMount at %s: %w", w.subPath, w.target, err)}
	}
	return p, nil
}

// configError means that a container could not be started as it is configured
// while things are as they are: it has not failed, and is tried again.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// grant makes one mount.
func (c *container) grant(root string, w wish) error {
	src, err := w.find()
	if err != nil {
		if w.optional && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer src.close()
	at, err := walk(root, w.target, src.kind())
	if err != nil {
		if w.optional {
			c.s.log.Printf("container %s: %v", c.spec.Name, err)
			return nil
		}
		return err
	}
	defer at.close()
	if at.dir != src.dir {
		return fmt.Errorf("%s is a file on one side and a directory on the other", w.target)
	}
	return c.s.mounter().bind(src, at, w.flags)
}

// Unmounting is tried this often with this pause before it is forced.
const (
	unmountTries = 20
	unmountPause = 25 * time.Millisecond
)

// unmount takes away everything mounted below the container's root, by whoever
// it was mounted. Only when that is done may the root be rolled back.
func (c *container) unmount() error {
	root, view := c.home(), c.s.config.view(c.spec.Name)
	return c.s.mounter().unmountAll(func(p string) bool {
		return strings.HasPrefix(p, root+"/") || p == view || strings.HasPrefix(p, view+"/")
	})
}

// unmountAll takes away every mount that ours accepts, newest first.
func (m mounter) unmountAll(ours func(point string) bool) error {
	for try := 0; ; try++ {
		points, err := mountPoints()
		if err != nil {
			return fmt.Errorf("mount table: %w", err)
		}
		var last error
		left := 0
		for _, p := range slices.Backward(points) {
			if !ours(p) {
				continue
			}
			if err := m.unmount(p, try >= unmountTries); err != nil {
				left, last = left+1, fmt.Errorf("unmount %s: %w", p, err)
			}
		}
		if left == 0 {
			return nil
		}
		if try >= unmountTries+3 {
			return last
		}
		time.Sleep(unmountPause)
	}
}

// clearMessage makes the file for the termination message anew, writable by
// whatever user the container runs as.
func (c *container) clearMessage() error {
	name := filepath.Join(c.s.config.run(), messageFile(c.spec.Name))
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.spec.TerminationMessagePath == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o666), f.Close())
}

// message reads the last bytes of the termination message.
func (c *container) message() string {
	if c.spec.TerminationMessagePath == "" {
		return ""
	}
	f, err := os.Open(filepath.Join(c.s.config.run(), messageFile(c.spec.Name)))
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	start := max(0, info.Size()-podinit.MaxMessage)
	buf := make([]byte, min(info.Size(), podinit.MaxMessage))
	n, err := f.ReadAt(buf, start)
	if err != nil && n == 0 {
		return ""
	}
	return strings.ToValidUTF8(string(buf[:n]), "\uFFFD")
}

// unescape reads the octal escapes of a mount table.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
