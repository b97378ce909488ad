//go:build linux

package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zfs"
)

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill puts one of everything into a file system.
func fill(t testing.TB, dir string) {
	t.Helper()
	past := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
	must(t, os.WriteFile(dir+"/file", []byte("content\n"), 0o640))
	must(t, os.Mkdir(dir+"/sub", 0o751))
	must(t, os.WriteFile(dir+"/sub/setuid", bytes.Repeat([]byte("x"), 200_000), 0o755))
	must(t, os.Chown(dir+"/sub/setuid", 33, 44))
	must(t, os.Chmod(dir+"/sub/setuid", 0o755|os.ModeSetuid))
	must(t, os.Link(dir+"/sub/setuid", dir+"/hard"))
	must(t, os.Symlink("../etc/passwd", dir+"/sub/link"))
	must(t, unix.Lchown(dir+"/sub/link", 5, 6))
	must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, unix.Setxattr(dir+"/file", "user.note", []byte("v\x00w"), 0))
	must(t, unix.Setxattr(dir+"/sub", "trusted.t", []byte("1"), 0))
	must(t, os.Mkdir(dir+"/sticky", 0o777))
	must(t, os.Chmod(dir+"/sticky", 0o777|os.ModeSticky))
	for _, name := range []string{"file", "sub/setuid", "sub", "sticky", ""} {
		must(t, os.Chtimes(filepath.Join(dir, name), past, past))
	}
}

// spoil changes everything.
func spoil(t testing.TB, dir string) {
	t.Helper()
	must(t, os.WriteFile(dir+"/file", []byte("CONTENT\n"), 0o600))
	must(t, os.Chtimes(dir+"/file", time.Unix(1, 0), time.Unix(1, 0)))
	must(t, os.Remove(dir+"/hard"))
	must(t, os.WriteFile(dir+"/hard", []byte("no link any more"), 0o600))
	must(t, os.Rename(dir+"/sub", dir+"/elsewhere"))
	must(t, os.Symlink("/etc", dir+"/sub"))
	must(t, os.RemoveAll(dir+"/null"))
	must(t, os.MkdirAll(dir+"/null/deep/er", 0o755))
	must(t, os.WriteFile(dir+"/null/deep/er/f", nil, 0o644))
	must(t, unix.Removexattr(dir+"/elsewhere", "trusted.t"))
	must(t, os.Chmod(dir, 0o700))
	must(t, os.Chown(dir+"/sticky", 1, 1))
}

// describe says everything about a tree: one line for each name.
func describe(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	links := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x %d.%d links=%d", len(data), data[:min(len(data), 16)], st.Mtim.Sec, st.Mtim.Nsec, st.Nlink)
			if first, again := links[st.Ino]; again {
				fmt.Fprintf(&b, " =%s", first)
			}
			links[st.Ino] = rel
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", target)
		case unix.S_IFCHR:
			fmt.Fprintf(&b, " %x", st.Rdev)
		case unix.S_IFDIR:
			fmt.Fprintf(&b, " %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		for _, name := range []string{"user.note", "trusted.t"} {
			buf := make([]byte, 64)
			if n, err := unix.Lgetxattr(path, name, buf); err == nil {
				fmt.Fprintf(&b, " %s=%q", name, buf[:n])
			}
		}
		b.WriteString("\n")
		return nil
	})
	must(t, err)
	return b.String()
}

func TestSnapshotCloneDestroy(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		fill(t, v.Dir(1))
		want := describe(t, v.Dir(1))
		must(t, v.Snapshot(ctx, 1, 2, nil))
		spoil(t, v.Dir(1))
		if got := describe(t, v.Dir(2)); got != want {
			t.Errorf("snapshot:\n%s\nwant:\n%s", got, want)
		}
		must(t, v.Clone(ctx, 2, 3, nil))
		if got := describe(t, v.Dir(3)); got != want {
			t.Errorf("clone:\n%s\nwant:\n%s", got, want)
		}
		must(t, os.WriteFile(v.Dir(3)+"/file", []byte("clone"), 0o644))
		must(t, v.Destroy(ctx, 1))
		if got := describe(t, v.Dir(2)); got != want {
			t.Errorf("snapshot after its file system went:\n%s\nwant:\n%s", got, want)
		}
		must(t, v.Destroy(ctx, 3))
		must(t, v.Destroy(ctx, 2))
		if left, err := os.ReadDir(filepath.Dir(v.Dir(1))); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

func TestRollbackInPlace(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		fill(t, v.Dir(1))
		must(t, v.Snapshot(ctx, 1, 2, nil))
		must(t, v.Clone(ctx, 2, 3, nil))
		must(t, v.Snapshot(ctx, 3, 4, nil))
		want := describe(t, v.Dir(4))

		shown := t.TempDir()
		must(t, unix.Mount(v.Dir(3), shown, "", unix.MS_BIND, ""))
		defer unix.Unmount(shown, 0) //nolint:errcheck // it goes with the namespace
		held, err := os.Open(shown + "/sub")
		must(t, err)
		defer held.Close() //nolint:errcheck // only read

		for round := range 3 {
			spoil(t, shown)
			must(t, v.Rollback(ctx, 3, 4))
			if got := describe(t, shown); got != want {
				t.Fatalf("round %d:\n%s\nwant:\n%s", round, got, want)
			}
		}
		if got := describe(t, v.Dir(4)); got != want {
			t.Errorf("the snapshot changed:\n%s", got)
		}
	})
}

// A file whose times and size were put back is still recognised as changed.
func TestRollbackSeesHiddenChanges(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		fill(t, v.Dir(1))
		must(t, v.Snapshot(ctx, 1, 2, nil))
		want := describe(t, v.Dir(2))
		var st unix.Stat_t
		must(t, unix.Stat(v.Dir(1)+"/file", &st))
		f, err := os.OpenFile(v.Dir(1)+"/file", os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("tampered"), 0)
		must(t, err)
		must(t, f.Close())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, v.Dir(1)+"/file", []unix.Timespec{st.Atim, st.Mtim}, 0))
		must(t, v.Rollback(ctx, 1, 2))
		if got := describe(t, v.Dir(1)); got != want {
			t.Errorf("after rollback:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestSendReceive(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		fill(t, v.Dir(1))
		must(t, v.Snapshot(ctx, 1, 2, nil))
		var stream bytes.Buffer
		must(t, v.Send(ctx, 2, &stream))
		must(t, v.Create(ctx, 3, nil))
		must(t, v.Receive(ctx, 3, bytes.NewReader(stream.Bytes())))
		if got, want := describe(t, v.Dir(3)), describe(t, v.Dir(2)); got != want {
			t.Errorf("received:\n%s\nwant:\n%s", got, want)
		}
		must(t, v.Create(ctx, 4, nil))
		if err := v.Receive(ctx, 4, bytes.NewReader(stream.Bytes()[:stream.Len()/2])); err == nil {
			t.Error("half a stream was received")
		}
	})
}

func TestMountOptions(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		dir := filepath.Join(t.TempDir(), "a/b")
		must(t, v.Mount(ctx, 1, dir, zfs.MountOptions{}, false))
		must(t, os.WriteFile(dir+"/f", nil, 0o644))
		must(t, v.Remount(ctx, 1, dir, zfs.MountOptions{ReadOnly: true, NoDevices: true}))
		if err := os.WriteFile(dir+"/g", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write to a read-only mount: %v", err)
		}
		f, err := os.Open(dir + "/f")
		must(t, err)
		if err := v.Unmount(ctx, 1, dir, false); !errors.Is(err, zfs.ErrBusy) {
			t.Errorf("unmount in use: %v", err)
		}
		must(t, f.Close())
		must(t, v.Unmount(ctx, 1, dir, false))
		must(t, os.WriteFile(dir+"/hidden", nil, 0o644))
		if err := v.Mount(ctx, 1, dir, zfs.MountOptions{}, false); !errors.Is(err, zfs.ErrNotEmpty) {
			t.Errorf("mount over files: %v", err)
		}
		must(t, v.Mount(ctx, 1, dir, zfs.MountOptions{}, true))
		must(t, v.Unmount(ctx, 1, dir, false))
	})
}

func TestReadOnly(t *testing.T) {
	eachKind(t, testReadOnly)
}

func testReadOnly(t *testing.T, v *Volumes) {
	ctx := t.Context()
	must(t, v.Create(ctx, 1, nil))
	fill(t, v.Dir(1))
	must(t, v.Snapshot(ctx, 1, 2, nil))
	must(t, v.SetReadOnly(ctx, 1, true))
	if err := os.WriteFile(v.Dir(1)+"/g", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only file system: %v", err)
	}
	must(t, v.Rollback(ctx, 1, 2))
	if err := os.WriteFile(v.Dir(1)+"/g", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write after rollback: %v", err)
	}
	must(t, v.SetReadOnly(ctx, 1, false))
	must(t, os.WriteFile(v.Dir(1)+"/g", nil, 0o644))
}

// writeUntilFull writes to a file until it fails and returns how much went in.
func writeUntilFull(t *testing.T, name string, most int64) (int64, error) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // written with sync below
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var sum int64
	for sum < most {
		n, err := f.Write(chunk)
		sum += int64(n)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func TestQuota(t *testing.T) {
	v := open(t, Btrfs)
	ctx := t.Context()
	must(t, v.Create(ctx, 1, nil)) // an image of 20 MiB
	_, err := writeUntilFull(t, v.Dir(1)+"/image", 20<<20)
	must(t, err)
	must(t, v.Snapshot(ctx, 1, 2, nil))
	must(t, v.Create(ctx, 10, nil)) // the pod
	must(t, v.SetQuota(ctx, 10, 16<<20, []uint64{10}))
	must(t, v.Clone(ctx, 2, 11, []uint64{10})) // a container
	must(t, v.Create(ctx, 12, []uint64{10}))   // a volume with a limit of its own
	must(t, v.SetQuota(ctx, 12, 4<<20, []uint64{12}))

	n, err := writeUntilFull(t, v.Dir(12)+"/big", 64<<20)
	if !errors.Is(err, unix.EDQUOT) || n > 4<<20 {
		t.Errorf("volume took %d bytes: %v", n, err)
	}
	n, err = writeUntilFull(t, v.Dir(11)+"/big", 64<<20)
	if !errors.Is(err, unix.EDQUOT) || n > 16<<20 || n < 8<<20 {
		t.Errorf("clone took %d bytes: %v", n, err)
	}
	must(t, v.Sync())
	used, err := v.Usage(ctx)
	must(t, err)
	if used[1] < 20<<20 || used[11] > 16<<20 || used[11] < 8<<20 || used[12] > 4<<20 || used[2] > 1<<20 {
		t.Errorf("charged: %v", used)
	}
	must(t, v.Snapshot(ctx, 1, 13, nil))
	must(t, v.Rollback(ctx, 11, 2))
	must(t, v.Sync())
	must(t, v.SetQuota(ctx, 10, 64<<20, nil))
	if n, err = writeUntilFull(t, v.Dir(11)+"/big", 20<<20); err != nil {
		t.Errorf("after the quota was raised: %d bytes: %v", n, err)
	}
	must(t, v.SetQuota(ctx, 10, 0, []uint64{10, 11, 12}))
}

func TestDirectoriesRefuseQuota(t *testing.T) {
	for _, kind := range []Kind{Overlay, Plain} {
		t.Run(string(kind), func(t *testing.T) {
			v := open(t, kind)
			must(t, v.Create(t.Context(), 1, nil))
			must(t, v.Snapshot(t.Context(), 1, 2, nil))
			must(t, v.Clone(t.Context(), 2, 3, nil))
			for _, id := range []uint64{1, 3} {
				var refused zfs.Refused
				if err := v.SetQuota(t.Context(), id, 1<<20, []uint64{id}); !errors.As(err, &refused) {
					t.Errorf("quota: %v", err)
				}
				must(t, v.SetQuota(t.Context(), id, 0, []uint64{id}))
			}
		})
	}
}

// A clone of an image costs nothing, nor do a fresh clone's snapshot and its
// rollback; a changed one costs what was changed.
func TestOverlayCost(t *testing.T) {
	v := open(t, Overlay)
	ctx := t.Context()
	must(t, v.Create(ctx, 1, nil))
	must(t, os.WriteFile(v.Dir(1)+"/big", bytes.Repeat([]byte("x"), 4<<20), 0o644))
	must(t, os.WriteFile(v.Dir(1)+"/small", []byte("y"), 0o644))
	must(t, v.Snapshot(ctx, 1, 2, nil))
	must(t, v.Clone(ctx, 2, 3, nil))
	must(t, v.Snapshot(ctx, 3, 4, nil))
	must(t, os.WriteFile(v.Dir(3)+"/small", []byte("z"), 0o644))
	must(t, v.Snapshot(ctx, 3, 5, nil))
	must(t, v.Rollback(ctx, 3, 4))
	sizes, err := v.Usage(ctx)
	must(t, err)
	if sizes[2] < 4<<20 {
		t.Errorf("the image takes %d bytes", sizes[2])
	}
	for _, id := range []uint64{3, 4, 5} {
		if sizes[id] > 1<<20 {
			t.Errorf("object %d takes %d bytes", id, sizes[id])
		}
	}
	for id, want := range map[uint64]string{2: "y", 3: "y", 4: "y", 5: "z"} {
		if got, err := os.ReadFile(v.Dir(id) + "/small"); err != nil || string(got) != want {
			t.Errorf("object %d holds %q, %v; want %q", id, got, err, want)
		}
	}
}

// The same in a user namespace, in which mounts keep flags that nobody may take
// off.
func TestOverlayCostInUserNamespace(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("needs the right to mount")
	}
	all := []syscall.SysProcIDMap{{HostID: 0, ContainerID: 0, Size: 65536}}
	self := exec.Command("/proc/self/exe", "-test.run=^TestOverlayCost$", "-test.v")
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: all, GidMappings: all,
	}
	out, err := self.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("no user namespaces here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOverlayCost ") {
		t.Errorf("%v: %s", err, out)
	}
}

// Clones of clones go on beyond what one mount can hold.
func TestNestedClones(t *testing.T) {
	eachKind(t, func(t *testing.T, v *Volumes) {
		ctx := t.Context()
		must(t, v.Create(ctx, 1, nil))
		fill(t, v.Dir(1))
		want := describe(t, v.Dir(1))
		const depth = 2*maxLayers + 3
		id := uint64(1)
		for n := range depth {
			must(t, v.Snapshot(ctx, id, id+1, nil))
			must(t, v.Clone(ctx, id+1, id+2, nil))
			id += 2
			must(t, os.WriteFile(fmt.Sprintf("%s/level%d", v.Dir(id), n), []byte("x"), 0o644))
			if n > 0 {
				must(t, os.Remove(fmt.Sprintf("%s/level%d", v.Dir(id), n-1)))
			}
		}
		must(t, os.Remove(fmt.Sprintf("%s/level%d", v.Dir(id), depth-1)))
		past := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
		must(t, os.Chtimes(v.Dir(id), past, past))
		if got := describe(t, v.Dir(id)); got != want {
			t.Errorf("after %d clones of clones:\n%s\nwant:\n%s", depth, got, want)
		}
		for ; id > 1; id -= 2 {
			must(t, v.Destroy(ctx, id))
			must(t, v.Destroy(ctx, id-1))
		}
	})
}

// Directories and overlays are found again, and Close leaves no mount.
func TestReopenOverlay(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("needs the right to mount")
	}
	dir := t.TempDir()
	ctx := t.Context()
	var before [4]string
	for round := range 2 {
		v, err := Open(dir, Options{Kind: Kind(map[int]string{0: "overlay", 1: ""}[round])})
		must(t, err)
		if round == 0 {
			must(t, v.Create(ctx, 0, nil))
			fill(t, v.Dir(0))
			must(t, v.Snapshot(ctx, 0, 1, nil))
			must(t, v.Clone(ctx, 1, 2, nil))
			spoil(t, v.Dir(2))
			must(t, v.Snapshot(ctx, 2, 3, nil))
		}
		for id := range before {
			got := describe(t, v.Dir(uint64(id)))
			if round == 1 && got != before[id] {
				t.Errorf("object %d was\n%s\nand is\n%s", id, before[id], got)
			}
			before[id] = got
		}
		if err := os.WriteFile(v.Dir(3)+"/x", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write to a snapshot: %v", err)
		}
		must(t, v.Close())
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
}

// An image is found again, and Close leaves neither mount nor loop device.
func TestReopen(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("needs the right to mount")
	}
	dir := t.TempDir()
	for round := range 2 {
		v, err := Open(dir, Options{Kind: Btrfs, Size: 1 << 30})
		if err != nil {
			t.Skipf("no btrfs here: %v", err)
		}
		if round == 0 {
			must(t, v.Create(t.Context(), 7, nil))
			fill(t, v.Dir(7))
		} else if _, err := os.Stat(v.Dir(7) + "/sub/setuid"); err != nil {
			t.Error(err)
		}
		must(t, v.Close())
	}
	out, err := exec.Command("losetup", "-j", filepath.Join(dir, "pool.img")).Output()
	if err == nil && len(out) != 0 {
		t.Errorf("loop device left: %s", out)
	}
}

// BenchmarkPod is what a pod costs: two clones with a snapshot each, under one
// quota, and their removal.
func BenchmarkPod(b *testing.B) {
	v := open(b, Btrfs)
	ctx := b.Context()
	must(b, v.Create(ctx, 1, nil))
	fill(b, v.Dir(1))
	must(b, v.Snapshot(ctx, 1, 2, nil))
	next := uint64(10)
	spent := map[string]time.Duration{}
	timed := func(what string, err error, since time.Time) {
		must(b, err)
		spent[what] += time.Since(since)
	}
	var pods []uint64
	for b.Loop() {
		pod := next
		next += 10
		now := time.Now()
		timed("create", v.Create(ctx, pod, nil), now)
		now = time.Now()
		timed("quota", v.SetQuota(ctx, pod, 1<<30, []uint64{pod}), now)
		now = time.Now()
		timed("clone", v.Clone(ctx, 2, pod+1, []uint64{pod}), now)
		now = time.Now()
		timed("snapshot", v.Snapshot(ctx, pod+1, pod+2, []uint64{pod}), now)
		now = time.Now()
		timed("rollback", v.Rollback(ctx, pod+1, pod+2), now)
		pods = append(pods, pod)
	}
	now := time.Now()
	_, err := v.Usage(ctx)
	timed("usage", err, now)
	for _, pod := range pods {
		now := time.Now()
		timed("destroy", errors.Join(v.Destroy(ctx, pod+2), v.Destroy(ctx, pod+1)), now)
	}
	for what, d := range spent {
		b.ReportMetric(float64(d.Microseconds())/float64(len(pods)), what+"-µs/pod")
	}
}
