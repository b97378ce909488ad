// Package mounts shows directories of the host and of NFS servers to pods,
// through mount(8) and umount(8) in the global zone.
//
// Everything that a pod shows is a lofs mount at DIR/pods/UID/NAME, which the
// pod's zone mounts in turn. It pins what was checked: a path is looked up
// below an allowed directory, without leaving it, then mounted, then compared
// with what was looked up. So nobody who can rename things there can have the
// zone show something else. An NFS export is mounted once, at DIR/nfs/ID, for
// all pods that show it.
//
// The package's one surprising rule: it remembers nothing. Which mounts there
// are, and whether an export is still in use, the mount table says.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// DefaultDir is where mounts are made. It is empty after a boot, as the mount
// table is.
const DefaultDir = "/var/run/reddwarf/mounts"

// Host is the global zone's mounts. Its methods may be called from several
// goroutines, as long as no two work on the same pod.
type Host struct {
	run command.Runner
	dir string

	mu    sync.Mutex
	locks map[string]*sync.Mutex // held while an export comes, goes or gets a user
}

// New returns the mounts below dir. Setup comes next.
func New(r command.Runner, dir string) *Host {
	return &Host{run: r, dir: dir, locks: map[string]*sync.Mutex{}}
}

// Setup makes the directory, which only root may enter, and finds out what
// mount(8) will call it.
func (h *Host) Setup() error {
	for _, d := range []string{h.dir, filepath.Join(h.dir, "pods"), filepath.Join(h.dir, "nfs")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("mounts: %w", err)
		}
	}
	real, err := filepath.EvalSymlinks(h.dir)
	if err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	h.dir = real
	return nil
}

// Shown is where something is for the pod's zone to mount.
type Shown struct {
	Point string
	Dir   bool // a directory, not a file or a socket
}

// ErrInUse means that another pod shows what is to be shown to one only.
var ErrInUse = errors.New("already in use by another pod")

// word is what a UID and the name of a volume are made of.
var word = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?$`)

func (h *Host) point(uid, name string) (string, error) {
	if !word.MatchString(uid) || !word.MatchString(name) {
		return "", fmt.Errorf("mounts: pod %q, volume %q: not usable as names", uid, name)
	}
	return filepath.Join(h.dir, "pods", uid, name), nil
}

// Hide takes away all that a pod shows, and exports that nobody shows any more.
// It fails while the pod's zone has it mounted. A pod that shows nothing is fine.
func (h *Host) Hide(ctx context.Context, uid string) error {
	if !word.MatchString(uid) {
		return fmt.Errorf("mounts: pod %q: not usable as a name", uid)
	}
	home := filepath.Join(h.dir, "pods", uid)
	if _, err := os.Lstat(home); errors.Is(err, os.ErrNotExist) {
		return nil // points are made before anything is mounted on them
	}
	table, err := h.table(ctx)
	if err != nil {
		return err
	}
	var specials []string
	for _, e := range slices.Backward(table) {
		if filepath.Dir(e.point) != home {
			continue
		}
		if err := h.unmount(ctx, e.point); err != nil {
			return err
		}
		specials = append(specials, e.special)
	}
	for _, special := range specials {
		if filepath.Dir(special) == filepath.Join(h.dir, "nfs") {
			if err := h.release(ctx, special); err != nil {
				return err
			}
		}
	}
	// Only what is empty goes: what is mounted would not be.
	points, err := os.ReadDir(home)
	if err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	for _, p := range points {
		if err := os.Remove(filepath.Join(home, p.Name())); err != nil {
			return fmt.Errorf("mounts: %w", err)
		}
	}
	if err := os.Remove(home); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	return nil
}

// Owners returns the UIDs of the pods that may show something.
func (h *Host) Owners() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(h.dir, "pods"))
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, nil
}

// Teardown takes away everything that was made, for a host that leaves its
// cluster. No zone may show any of it any more. What is gone already is fine.
func (h *Host) Teardown(ctx context.Context) error {
	if _, err := os.Lstat(h.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := h.Setup(); err != nil { // what mount(8) calls the directory
		return err
	}
	uids, err := h.Owners()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if err := h.Hide(ctx, uid); err != nil {
			return err
		}
	}
	if err := h.ReleaseExports(ctx); err != nil {
		return err
	}
	for _, d := range []string{filepath.Join(h.dir, "pods"), filepath.Join(h.dir, "nfs"), h.dir} {
		if err := os.Remove(d); err != nil { // only what is empty goes
			return fmt.Errorf("mounts: %w", err)
		}
	}
	return nil
}

// show mounts special at the pod's point, unless same says that what is there
// is it. It returns only what passed same after the mount.
func (h *Host) show(ctx context.Context, point, special string, readOnly, exclusive bool, same func(point string) error) error {
	if exclusive {
		defer h.lock("only " + special)()
	}
	table, err := h.table(ctx)
	if err != nil {
		return err
	}
	for _, e := range table {
		if exclusive && e.special == special && e.point != point && filepath.Dir(filepath.Dir(e.point)) == filepath.Join(h.dir, "pods") {
			return fmt.Errorf("%s: %w", special, ErrInUse)
		}
	}
	if slices.ContainsFunc(table, func(e entry) bool { return e.point == point && e.special == special && e.readOnly == readOnly }) {
		if same(point) == nil {
			return nil
		}
	}
	for _, e := range table {
		if e.point == point {
			if err := h.unmount(ctx, point); err != nil {
				return err
			}
		}
	}
	options := "rw,nodevices"
	if readOnly {
		options = "ro,nodevices"
	}
	if err := h.command(ctx, "mount", "-F", "lofs", "-o", options, special, point); err != nil {
		return err
	}
	if err := same(point); err != nil {
		return errors.Join(err, h.unmount(context.WithoutCancel(ctx), point))
	}
	return nil
}

// makePoint makes what is mounted upon.
func makePoint(point string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(point), 0o700); err != nil {
		return err
	}
	if info, err := os.Lstat(point); err == nil {
		if info.IsDir() == dir {
			return nil
		}
		if err := os.Remove(point); err != nil { // not what is mounted: that cannot be removed
			return err
		}
	}
	if dir {
		return os.Mkdir(point, 0o700)
	}
	f, err := os.OpenFile(point, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// unmountTime bounds an unmount, which must happen although the caller's
// context may have ended.
const unmountTime = 30 * time.Second

func (h *Host) unmount(ctx context.Context, point string) error {
	ctx, cancel := context.WithTimeout(ctx, unmountTime)
	defer cancel()
	err := h.command(ctx, "umount", point)
	if gone(err) {
		return nil
	}
	return err
}

func (h *Host) command(ctx context.Context, name string, args ...string) error {
	_, err := h.run.Run(ctx, command.New(name, args...))
	if err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	return nil
}

// gone reports whether umount(8) failed because nothing is mounted there.
func gone(err error) bool {
	var ce *command.Error
	if !errors.As(err, &ce) {
		return false
	}
	for line := range strings.Lines(ce.Stderr) {
		if strings.HasPrefix(line, "umount: warning: ") && strings.HasSuffix(line, " not in mnttab\n") {
			return true
		}
	}
	return false
}
