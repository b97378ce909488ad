//go:build linux

package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host"
	linuxmounts "reddwarf.io/reddwarf/hack/host/linux/mounts"
	"reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// world is a simulated host whose mounts are real, in a mount namespace of the
// test's own thread, with an NFS server and a directory that pods may see.
type world struct {
	*Host
	t     *testing.T
	model *host.Model
	data  string // allowed
	nas   string // what the server nas exports as /
}

func newWorld(t *testing.T) *world {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount")
	}
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := &world{t: t, data: filepath.Join(dir, "data"), nas: filepath.Join(dir, "servers", "nas")}
	for _, d := range []string{w.data, filepath.Join(w.nas, "export", "deep")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.model = host.NewModel(host.WithBackends(host.Backends{Mounts: linuxmounts.Backend{}}), host.Paths(zones.HostPaths{}),
		host.NFS(linuxmounts.Servers{Dir: filepath.Join(dir, "servers")}))
	if err := w.model.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Host = New(w.model, filepath.Join(dir, "mounts"))
	if err := w.Setup(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.model.Reboot(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// lines is the mount table without what is not ours.
func (w *world) lines() []string {
	out, err := w.model.Run(w.t.Context(), command.New("mount", "-p"))
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, w.dir) {
			all = append(all, line)
		}
	}
	return all
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func TestShowPath(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(w.data, "d", "file"), "hello")
	w.write(filepath.Join(w.data, "a b", "file"), "blank")
	l, err := net.Listen("unix", filepath.Join(w.data, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // the test is over
	if err := unix.Mkfifo(filepath.Join(w.data, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(w.data, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"inside": "d", "out": "/etc", "up": "../../..", "d/out": "../.."} {
		if err := os.Symlink(to, filepath.Join(w.data, name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		path Path
		want string // of the error; empty for none
		dir  bool
	}{
		{Path{Name: "d", Kind: Directory}, "", true},
		{Path{Name: "", Kind: Directory}, "", true},
		{Path{Name: "inside"}, "", true},
		{Path{Name: "a b"}, "", true},
		{Path{Name: "d/file", Kind: File, ReadOnly: true}, "", false},
		{Path{Name: "sock", Kind: Socket}, "", false},
		{Path{Name: "sock"}, "", false},
		{Path{Name: "new/deep", Kind: DirectoryOrCreate}, "", true},
		{Path{Name: "new/any"}, "", true},
		{Path{Name: "new/file", Kind: FileOrCreate}, "", false},
		{Path{Name: "absent/file", Kind: FileOrCreate}, "no such file", false},
		{Path{Name: "fixed", Kind: DirectoryOrCreate, Fixed: true}, "nothing may be made in", false},
		{Path{Name: "gone", Kind: Directory}, "does not exist", false},
		{Path{Name: "gone", Kind: File}, "does not exist", false},
		{Path{Name: "d/file", Kind: Directory}, "is not a directory", false},
		{Path{Name: "d", Kind: File}, "is not a file", false},
		{Path{Name: "d", Kind: Socket}, "is not a socket", false},
		{Path{Name: "pipe"}, "is a device or a pipe", false},
		{Path{Name: "null"}, "is a device or a pipe", false},
		{Path{Name: "out"}, "leads out of", false},
		{Path{Name: "up"}, "leads out of", false},
		{Path{Name: "d/out/etc/passwd", Kind: File}, "leads out of", false},
		{Path{Name: "out/made", Kind: DirectoryOrCreate}, "leads out of", false},
	} {
		tt.path.Root = w.data
		name := fmt.Sprintf("v%d", i)
		got, err := w.ShowPath(t.Context(), "uid1", name, tt.path)
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: %v, want %q", tt.path, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt.path, err)
			continue
		}
		want, err := os.Stat(filepath.Join(w.data, tt.path.Name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.Stat(got.Point)
		if err != nil || !os.SameFile(want, have) || got.Dir != tt.dir {
			t.Errorf("%+v: shows %+v, %v", tt.path, got, err)
		}
		again, err := w.ShowPath(t.Context(), "uid1", name, tt.path)
		if err != nil || again != got {
			t.Errorf("%+v again: %+v, %v", tt.path, again, err)
		}
		if tt.path.ReadOnly {
			if err := os.WriteFile(got.Point, nil, 0); !errors.Is(err, unix.EROFS) {
				t.Errorf("%+v: writing gives %v", tt.path, err)
			}
		}
	}
	if err := w.Hide(t.Context(), "uid1"); err != nil {
		t.Error(err)
	}
	if left := w.lines(); len(left) > 0 {
		t.Errorf("left mounted: %v", left)
	}
	if _, err := os.Stat(filepath.Join(w.data, "d", "file")); err != nil {
		t.Errorf("HIDING A VOLUME REMOVED WHAT IT SHOWED: %v", err)
	}
	if _, err := os.Stat("/etc/made"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("A DIRECTORY WAS MADE OUTSIDE: %v", err)
	}
	if uids, err := w.Owners(); err != nil || len(uids) > 0 {
		t.Errorf("owners %v, %v", uids, err)
	}
}

// swapper changes a directory into a link between the look-up and the mount.
type swapper struct {
	*host.Model
	swap func()
}

func (s *swapper) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if c.Name == "mount" && len(c.Args) > 1 {
		s.swap()
	}
	return s.Model.Run(ctx, c)
}

// TestSwappedPath plays a process that renames while a path is checked.
func TestSwappedPath(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(w.data, "d", "file"), "hello")
	p := Path{Root: w.data, Name: "d", Kind: Directory}
	s := &swapper{Model: w.model, swap: func() {
		if err := os.Rename(filepath.Join(w.data, "d"), filepath.Join(w.data, "was")); err != nil {
			t.Error(err)
		}
		if err := os.Symlink("/etc", filepath.Join(w.data, "d")); err != nil {
			t.Error(err)
		}
	}}
	h := New(s, w.dir)
	if _, err := h.ShowPath(t.Context(), "uid1", "v", p); err == nil || !strings.Contains(err.Error(), "became something else") {
		t.Errorf("ShowPath gives %v", err)
	}
	if left := w.lines(); len(left) > 0 {
		t.Errorf("WHAT IS OUTSIDE STAYS MOUNTED: %v", left)
	}
}

func TestExports(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(w.nas, "export", "file"), "far away")
	e := Export{Server: "nas", Path: "/export", Options: []string{"vers=4"}}
	first, err := w.ShowExport(t.Context(), "uid1", "data", e)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(first.Point, "file")); err != nil || string(text) != "far away" {
		t.Errorf("it shows %q, %v", text, err)
	}
	ro := e
	ro.ReadOnly = true
	second, err := w.ShowExport(t.Context(), "uid2", "data", ro)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second.Point, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing where it is read-only gives %v", err)
	}
	if err := os.WriteFile(filepath.Join(first.Point, "new"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if n := strings.Count(strings.Join(w.lines(), ""), "nas:/export"); n != 1 {
		t.Errorf("the export is mounted %d times:\n%s", n, w.lines())
	}
	// A new agent remembers nothing, and finds the same.
	later := New(w.model, w.dir)
	if again, err := later.ShowExport(t.Context(), "uid1", "data", e); err != nil || again != first {
		t.Errorf("a new agent: %+v, %v", again, err)
	}
	if err := later.Hide(t.Context(), "uid1"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(second.Point, "file")); err != nil || string(text) != "far away" {
		t.Errorf("the second pod sees %q, %v", text, err)
	}
	if err := later.Hide(t.Context(), "uid2"); err != nil {
		t.Fatal(err)
	}
	if err := later.Hide(t.Context(), "uid2"); err != nil {
		t.Errorf("hiding twice: %v", err)
	}
	if left := w.lines(); len(left) > 0 {
		t.Errorf("left mounted: %v", left)
	}
}

func TestExportFaults(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(filepath.Dir(w.nas), "away", ".down"), "")
	for _, tt := range []struct {
		e    Export
		want string
	}{
		{Export{Server: "nobody", Path: "/export"}, "nfs mount: nobody: Unknown host"},
		{Export{Server: "nas", Path: "/gone"}, "nas:/gone: No such file or directory"},
		{Export{Server: "away", Path: "/export"}, "RPC"},
		{Export{Server: "nas", Path: "export"}, `NFS path "export"`},
		{Export{Server: "a,b", Path: "/export"}, `NFS server "a,b"`},
		{Export{Server: "-o", Path: "/export"}, `NFS server "-o"`},
	} {
		if _, err := w.ShowExport(t.Context(), "uid1", "data", tt.e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.e, err, tt.want)
		}
	}
	if err := w.Hide(t.Context(), "uid1"); err != nil {
		t.Error(err)
	}
	if err := w.ReleaseExports(t.Context()); err != nil {
		t.Error(err)
	}
	if homes, err := os.ReadDir(filepath.Join(w.dir, "nfs")); err != nil || len(homes) > 0 {
		t.Errorf("left of what never came up: %v, %v", homes, err)
	}
}

func TestExclusive(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(w.data, "d", "file"), "hello")
	p := Path{Root: w.data, Name: "d", Exclusive: true}
	e := Export{Server: "nas", Path: "/export", Exclusive: true}
	show := func(uid string) error {
		_, err := w.ShowPath(t.Context(), uid, "path", p)
		_, err2 := w.ShowExport(t.Context(), uid, "export", e)
		if errors.Is(err, ErrInUse) != errors.Is(err2, ErrInUse) {
			t.Errorf("pod %s: path %v, export %v", uid, err, err2)
		}
		return errors.Join(err, err2)
	}
	if err := show("uid1"); err != nil {
		t.Fatal(err)
	}
	if err := show("uid1"); err != nil {
		t.Errorf("the same pod again: %v", err)
	}
	if err := show("uid2"); !errors.Is(err, ErrInUse) {
		t.Errorf("a second pod: %v", err)
	}
	if err := errors.Join(w.Hide(t.Context(), "uid1"), w.Hide(t.Context(), "uid2")); err != nil {
		t.Fatal(err)
	}
	if err := show("uid2"); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
	if err := w.Hide(t.Context(), "uid2"); err != nil {
		t.Fatal(err)
	}
}

func TestParseTable(t *testing.T) {
	text := "rpool/x - /x zfs - no rw\n" +
		"/a b - c - /m/pods/u/v lofs - no ro,nodevices\n" +
		"nas:/export - /m/nfs/1 nfs - no rw,xattr\n" +
		"/m/nfs/1 - /m/pods/u/w lofs - no rw\n" +
		"/x - /mm/y lofs - no rw\n" +
		"fd - /dev/fd fd - no rw\nnonsense\n\n"
	want := []entry{
		{"/a b - c", "/m/pods/u/v", true}, {"nas:/export", "/m/nfs/1", false}, {"/m/nfs/1", "/m/pods/u/w", false},
	}
	if got := parseTable(text, "/m"); !reflect.DeepEqual(got, want) {
		t.Errorf("parseTable gives %+v", got)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add("/a b - c - /m/pods/u/v lofs - no ro,nodevices\n")
	f.Add("- - - - - - - \n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range parseTable(text, "/m") {
			if e.point != "/m" && !strings.HasPrefix(filepath.Clean(e.point), "/m/") {
				t.Errorf("%q is not ours", e.point)
			}
		}
	})
}

// TestTeardown leaves a host as it was, and only with what it made itself.
func TestTeardown(t *testing.T) {
	w := newWorld(t)
	w.write(filepath.Join(w.nas, "export", "file"), "far away")
	w.write(filepath.Join(w.data, "d", "file"), "near")
	if _, err := w.ShowExport(t.Context(), "uid1", "data", Export{Server: "nas", Path: "/export"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ShowPath(t.Context(), "uid2", "data", Path{Root: w.data, Name: "d", Kind: Directory}); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(w.dir, "nfs", "foreign", "file")
	w.write(foreign, "somebody's")
	if err := New(w.model, w.dir).Teardown(t.Context()); err == nil {
		t.Error("what nobody knows was removed, or left without a word")
	}
	if err := errors.Join(os.Remove(foreign), os.Remove(filepath.Dir(foreign))); err != nil {
		t.Fatalf("what nobody knows: %v", err)
	}
	for range 2 { // it may be repeated
		if err := New(w.model, w.dir).Teardown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if lines := w.lines(); len(lines) > 0 {
		t.Errorf("still mounted: %s", lines)
	}
	if _, err := os.Lstat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	for _, file := range []string{filepath.Join(w.nas, "export", "file"), filepath.Join(w.data, "d", "file")} {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("what was shown: %v", err)
		}
	}
}
