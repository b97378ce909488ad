//go:build linux

package volumes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zfs"
)

// hostFiles are the real ones.
type hostFiles struct{}

func (hostFiles) Open(name string) (io.ReadCloser, error) { return os.Open(name) }
func (hostFiles) Lstat(name string) (fs.FileInfo, error)  { return os.Lstat(name) }

// pool is zfs(8) over volumes, with everything mounted below a directory.
type pool struct {
	t     *testing.T
	model *zfs.Model
	dir   string
}

func newPool(t *testing.T, v *Volumes) *pool {
	t.Helper()
	p := &pool{t, zfs.New(zfs.Config{Pool: "tank", Backend: v}), t.TempDir()}
	must(t, p.model.Start(t.Context()))
	p.ok("set", "mountpoint="+p.dir, "tank")
	t.Cleanup(func() {
		p.ok("unmount", "-a", "-f")
		must(t, os.RemoveAll("/tank"))
	})
	return p
}

// run runs zfs with streams.
func (p *pool) run(in io.Reader, out io.Writer, args ...string) (code int, stderr string) {
	var errs bytes.Buffer
	inv := &program.Invocation{Argv: append([]string{"zfs"}, args...), Stdin: in, Stdout: out, Stderr: &errs, Files: hostFiles{}}
	code = p.model.Commands()["zfs"](context.Background(), inv)
	return code, errs.String()
}

// ok runs zfs, which must succeed.
func (p *pool) ok(args ...string) string {
	p.t.Helper()
	var out bytes.Buffer
	if code, errs := p.run(strings.NewReader(""), &out, args...); code != 0 || errs != "" {
		p.t.Fatalf("zfs %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out.String()
}

// fails runs zfs, which must fail with these words.
func (p *pool) fails(want string, args ...string) {
	p.t.Helper()
	var out bytes.Buffer
	code, errs := p.run(strings.NewReader(""), &out, args...)
	if code == 0 || !strings.Contains(errs, want) {
		p.t.Errorf("zfs %s: exit %d: %s, want %s", strings.Join(args, " "), code, errs, want)
	}
}

func (p *pool) size(property, dataset string) uint64 {
	p.t.Helper()
	n, err := strconv.ParseUint(strings.TrimSpace(p.ok("get", "-Hpo", "value", property, dataset)), 10, 64)
	must(p.t, err)
	return n
}

// The life of a pod's datasets, as storage will lead it, on every kind.
func TestPoolPodLife(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		p := newPool(t, v)
		p.ok("create", "-p", "tank/images/one")
		fill(t, p.dir+"/images/one")
		p.ok("snapshot", "tank/images/one@image")
		p.ok("hold", "reddwarf", "tank/images/one@image")
		want := describe(t, p.dir+"/images/one")
		p.ok("create", "-p", "tank/pods/u1")
		p.ok("clone", "-o", "mountpoint=legacy", "tank/images/one@image", "tank/pods/u1/c-app")
		p.ok("snapshot", "tank/pods/u1/c-app@start")

		source, err := p.model.Source("tank/pods/u1/c-app", "rdw-u1")
		must(t, err)
		root := p.dir + "/pods/u1/root"
		must(t, os.Mkdir(root, 0o755))
		must(t, unix.Mount(source, root, "", unix.MS_BIND, ""))
		defer unix.Unmount(root, unix.MNT_DETACH) //nolint:errcheck // it goes with the namespace
		if got := describe(t, root); got != want {
			t.Errorf("the container sees:\n%s\nwant:\n%s", got, want)
		}
		spoil(t, root)
		p.ok("rollback", "tank/pods/u1/c-app@start")
		if got := describe(t, root); got != want {
			t.Errorf("after rollback it sees:\n%s\nwant:\n%s", got, want)
		}
		p.fails("dataset is busy", "destroy", "-r", "tank/pods/u1/c-app")
		p.fails("snapshot has dependent clones", "destroy", "tank/images/one@image")
		must(t, unix.Unmount(root, 0))
		p.model.Release("rdw-u1")
		p.ok("destroy", "-r", "tank/pods/u1")
		if _, err := os.Stat(p.dir + "/pods/u1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the mount point is left: %v", err)
		}
		p.fails("dataset is busy", "destroy", "tank/images/one@image")
		p.ok("release", "reddwarf", "tank/images/one@image")
		p.ok("destroy", "-r", "tank/images/one")
	})
}

func TestPoolMounts(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		p := newPool(t, v)
		p.ok("create", "-p", "tank/a/b")
		must(t, os.WriteFile(p.dir+"/a/b/f", []byte("b"), 0o644))
		p.ok("rename", "tank/a", "tank/z")
		if data, err := os.ReadFile(p.dir + "/z/b/f"); err != nil || string(data) != "b" {
			t.Errorf("after rename: %q %v", data, err)
		}
		f, err := os.Open(p.dir + "/z/b/f")
		must(t, err)
		p.fails("Device busy", "unmount", "tank/z/b")
		p.fails("Device busy", "destroy", "-r", "tank/z")
		must(t, f.Close())
		p.ok("unmount", "tank/z/b")
		must(t, os.WriteFile(p.dir+"/z/b/hidden", nil, 0o644))
		p.fails("directory is not empty", "mount", "tank/z/b")
		p.ok("mount", "-O", "tank/z/b")
		p.ok("mount", "-o", "remount,ro", "tank/z/b")
		if err := os.WriteFile(p.dir+"/z/b/f", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write through mount -o ro: %v", err)
		}
		data, err := p.model.Save()
		must(t, err)
		must(t, p.model.Load(data))
		must(t, unix.Unmount(p.dir+"/z/b", 0)) // as if the namespace had gone
		must(t, os.Remove(p.dir+"/z/b/hidden"))
		must(t, p.model.Reboot(t.Context()))
		if _, err := os.Stat(p.dir + "/z/b/f"); err != nil {
			t.Errorf("after reboot: %v", err)
		}
	})
}

func TestPoolSendReceive(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		p := newPool(t, v)
		p.ok("create", "tank/a")
		fill(t, p.dir+"/a")
		p.ok("snapshot", "tank/a@1")
		spoil(t, p.dir+"/a")
		p.ok("snapshot", "tank/a@2")
		var full, more bytes.Buffer
		for _, s := range []struct {
			out  *bytes.Buffer
			args []string
		}{{&full, []string{"send", "tank/a@1"}}, {&more, []string{"send", "-i", "@1", "tank/a@2"}}} {
			if code, errs := p.run(nil, s.out, s.args...); code != 0 {
				t.Fatalf("zfs %v: %s", s.args, errs)
			}
		}
		receive := func(stream []byte, args ...string) string {
			t.Helper()
			_, errs := p.run(bytes.NewReader(stream), io.Discard, append([]string{"receive"}, args...)...)
			return errs
		}
		if errs := receive(more.Bytes(), "tank/b"); !strings.Contains(errs, "does not exist") {
			t.Errorf("incremental into nothing: %s", errs)
		}
		if errs := receive(full.Bytes(), "tank/b"); errs != "" {
			t.Fatal(errs)
		}
		if got, want := describe(t, p.dir+"/b"), describe(t, v.Dir(objectOf(t, v, p, "tank/a@1"))); got != want {
			t.Errorf("received:\n%s\nwant:\n%s", got, want)
		}
		if errs := receive(full.Bytes(), "tank/b"); !strings.Contains(errs, "must specify -F to overwrite it") {
			t.Errorf("again: %s", errs)
		}
		if errs := receive(more.Bytes(), "tank/b"); errs != "" {
			t.Fatal(errs)
		}
		if got, want := describe(t, p.dir+"/b"), describe(t, p.dir+"/a"); got != want {
			t.Errorf("received the increment:\n%s\nwant:\n%s", got, want)
		}
		if errs := receive(full.Bytes()[:full.Len()/2], "tank/c"); !strings.Contains(errs, "invalid backup stream") {
			t.Errorf("half a stream: %s", errs)
		}
		if errs := receive([]byte("not a stream, but long enough to be one"), "tank/c"); !strings.Contains(errs, "bad magic number") {
			t.Errorf("no stream: %s", errs)
		}
		p.fails("dataset does not exist", "list", "tank/c")
	})
}

// objectOf finds the object of a dataset in the model's saved state.
func objectOf(t *testing.T, v *Volumes, p *pool, name string) uint64 {
	t.Helper()
	data, err := p.model.Save()
	must(t, err)
	i := strings.Index(string(data), fmt.Sprintf("%q", name))
	if i < 0 {
		t.Fatalf("%s is not there", name)
	}
	var id uint64
	head := string(data[:i])
	if _, err := fmt.Sscanf(head[strings.LastIndex(head, `"id": `)+6:], "%d", &id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.Dir(id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPoolSpace(t *testing.T) {
	v := open(t, Btrfs)
	p := newPool(t, v)
	p.ok("create", "tank/img")
	_, err := writeUntilFull(t, p.dir+"/img/data", 8<<20)
	must(t, err)
	p.ok("snapshot", "tank/img@image")
	p.ok("create", "-o", "quota=6M", "tank/pod")
	p.ok("clone", "tank/img@image", "tank/pod/c")
	must(t, v.Sync())
	if n := p.size("referenced", "tank/pod/c"); n < 8<<20 || n > 9<<20 {
		t.Errorf("a fresh clone references %d bytes", n)
	}
	if n := p.size("used", "tank/pod/c"); n > 1<<20 {
		t.Errorf("a fresh clone uses %d bytes", n)
	}
	n, err := writeUntilFull(t, p.dir+"/pod/c/more", 32<<20)
	if !errors.Is(err, unix.EDQUOT) || n > 6<<20 {
		t.Errorf("the pod took %d bytes: %v", n, err)
	}
	must(t, v.Sync())
	if n := p.size("used", "tank/pod"); n < 4<<20 || n > 6<<20 {
		t.Errorf("the pod uses %d bytes", n)
	}
	if n := p.size("available", "tank/pod/c"); n > 2<<20 {
		t.Errorf("the clone has %d bytes left", n)
	}
	p.fails("size is less than current used or reserved space", "set", "quota=1M", "tank/pod")
	p.ok("set", "quota=none", "tank/pod")
	if _, err := writeUntilFull(t, p.dir+"/pod/c/more2", 16<<20); err != nil {
		t.Errorf("without a quota: %v", err)
	}
	p.ok("set", "quota=100M", "tank/pod")
	p.ok("rename", "tank/pod/c", "tank/free")
	if _, err := writeUntilFull(t, p.dir+"/free/more3", 120<<20); err != nil {
		t.Errorf("moved out of the quota: %v", err)
	}
	p.ok("set", "readonly=on", "tank/free")
	if err := os.WriteFile(filepath.Join(p.dir, "free/x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to readonly=on: %v", err)
	}
}

func TestPoolOfDirectoriesRefuses(t *testing.T) {
	for _, kind := range []Kind{Overlay, Plain} {
		t.Run(string(kind), func(t *testing.T) { testRefuses(t, newPool(t, open(t, kind))) })
	}
}

func testRefuses(t *testing.T, p *pool) {
	p.fails("simulated host: quotas need", "create", "-o", "quota=1G", "tank/a")
	p.fails("dataset does not exist", "list", "tank/a")
	p.ok("create", "-o", "readonly=on", "-o", "mountpoint=legacy", "tank/a")
	source, err := p.model.Source("tank/a", "z1")
	must(t, err)
	if err := os.WriteFile(source+"/x", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to readonly=on: %v", err)
	}
	p.model.Release("z1")
	p.ok("destroy", "tank/a")
}
