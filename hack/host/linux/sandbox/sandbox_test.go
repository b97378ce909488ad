//go:build linux

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

func TestInitIsProcessOneAndItsStatusIsReported(t *testing.T) {
	f := setup(t)
	for i, tt := range []struct {
		script string
		code   int
		signal unix.Signal
	}{
		{"echo pid $$; env; exit 7", 7, 0},
		{"exit 0", 0, 0},
	} {
		st := <-f.boot(t, i+1, tt.script, nil)
		if st.ExitStatus() != tt.code {
			t.Errorf("%q ended with %v, want %d", tt.script, st, tt.code)
		}
	}
	out := f.console(t, 1)
	if !strings.Contains(out, "pid 1\n") || !strings.Contains(out, "container=zone\n") || strings.Contains(out, "HOME=") {
		t.Errorf("console = %q", out)
	}
}

func TestKillOfInitFromTheHostIsReportedAsItsStatus(t *testing.T) {
	f := setup(t)
	ended := f.boot(t, 1, forever, nil)
	pid, err := f.Init(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := <-ended; !st.Signaled() || st.Signal() != unix.SIGKILL {
		t.Errorf("status %v, want killed by SIGKILL", st)
	}
}

func TestHaltIsSilentAndComplete(t *testing.T) {
	f := setup(t)
	ended := f.boot(t, 1, "sleep 1000 & sleep 1000 & "+forever, nil)
	pid, _ := f.Init(1)
	dirs := f.zones[1].group.dirs()
	if err := f.Halt(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case st := <-ended:
		t.Errorf("a halt was reported as init's own end: %v", st)
	default:
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("init is still there: %v", err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cgroup %s is still there: %v", dir, err)
		}
	}
	if err := f.Halt(t.Context(), 1); err != nil {
		t.Errorf("second halt: %v", err)
	}
	if _, err := f.Enter(t.Context(), 1, zones.Entry{Argv: []string{"/bin/true"}}); !errors.Is(err, ErrNoZone) {
		t.Errorf("enter after halt: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), f.dir) {
		t.Error("a mount of the zone is seen on the host")
	}
}

func TestBootOfWhatCannotBeExecutedFails(t *testing.T) {
	f := setup(t)
	if err := f.ready(t, 1, nil); err != nil {
		t.Fatal(err)
	}
	err := f.Boot(t.Context(), 1, []string{"/sbin/init"}, func(int) { t.Error("exited was called") })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("boot = %v, want not found", err)
	}
	if err := f.Halt(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestZoneSeesOnlyItself(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	for _, tt := range []struct{ script, want string }{
		{"cat /proc/1/comm", "sh\n"},
		{"cat /proc/sys/kernel/hostname", "web\n"},
		{"ls /", "bin\ndev\netc\nproc\nsbin\ntmp\n"},
		{"ls /dev/pts /dev/shm", "/dev/pts:\nptmx\n\n/dev/shm:\n"},
		{"echo x >/dev/null; dd if=/dev/zero bs=1 count=1 2>/dev/null | cat | busybox wc -c", "1\n"},
		{"[ $(ls -d /proc/[0-9]* | busybox wc -l) -lt 10 ] && echo few", "few\n"},
		{"busybox grep -c : /proc/net/dev", "1\n"},
		{"busybox cut -d: -f3 /proc/self/cgroup | busybox grep -c zone1", "0\n"},
	} {
		if out, errOut, _ := f.sh(t, 1, tt.script); out != tt.want {
			t.Errorf("%s = %q (%s), want %q", tt.script, out, errOut, tt.want)
		}
	}
	out, _, _ := f.sh(t, 1, "cat /proc/self/mountinfo")
	for line := range strings.Lines(out) {
		if p := strings.Fields(line)[4]; p != "/" && !strings.HasPrefix(p, "/dev") && p != "/proc" {
			t.Errorf("the zone sees a mount of the host: %s", line)
		}
	}
}

func TestCapabilitiesAreBounded(t *testing.T) {
	f := setup(t)
	if st := <-f.boot(t, 1, "cat /proc/self/status", nil); st != 0 {
		t.Fatalf("init: %v", st)
	}
	f.boot(t, 2, forever, nil)
	entered, _, _ := f.sh(t, 2, "cat /proc/self/status")
	var keep uint64
	for _, c := range zoneCapabilities() {
		keep |= 1 << c.number
	}
	for who, status := range map[string]string{"init": f.console(t, 1), "entered": entered} {
		got := make(map[string]string)
		for line := range strings.Lines(status) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			got[k] = v
		}
		bound, err := strconv.ParseUint(got["CapBnd"], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if bound&^keep != 0 || bound&(1<<unix.CAP_CHOWN) == 0 {
			t.Errorf("%s: CapBnd %x, want a part of %x", who, bound, keep)
		}
		if got["CapEff"] != got["CapBnd"] || got["NoNewPrivs"] != "0" {
			t.Errorf("%s: CapEff %s, NoNewPrivs %s", who, got["CapEff"], got["NoNewPrivs"])
		}
	}
	if _, errOut, st := f.sh(t, 2, "busybox mknod /tmp/sda b 8 0"); st.ExitStatus() == 0 || !strings.Contains(errOut, "not permitted") {
		t.Errorf("mknod: %v %s", st, errOut)
	}
}

func TestMounts(t *testing.T) {
	f := setup(t)
	host := filepath.Join(f.dir, "host")
	for _, d := range []string{"ro", "rw", "data"} {
		if err := os.MkdirAll(filepath.Join(host, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join(host, "file"), filepath.Join(f.root, "sbin/init")} {
		if err := os.WriteFile(name, []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.boot(t, 1, forever, func(s *zones.Sandbox) {
		s.Mounts = []zones.Mount{
			{Type: "lofs", Special: host + "/ro", Dir: "/ro", Options: []string{"ro", "nodevices"}},
			{Type: "lofs", Special: host + "/rw", Dir: "/deep/er/rw", Options: []string{"rw"}},
			{Type: "lofs", Special: host + "/file", Dir: "/sbin/init", Options: []string{"ro"}},
			{Type: "zfs", Special: host + "/data", Dir: "/deep/data"},
			{Type: "tmpfs", Special: "swap", Dir: "/scratch", Options: []string{"size=64k"}},
		}
	})
	for _, tt := range []struct{ script, want string }{
		{"touch /ro/x 2>&1", "touch: /ro/x: Read-only file system\n"},
		{"echo hello >/deep/er/rw/x; cat /deep/er/rw/x", "hello\n"},
		{"cat /sbin/init", host + "/file"},
		{"echo >/sbin/init", ""},
		{"echo there >/deep/data/y", ""},
		{"dd if=/dev/zero of=/scratch/big bs=1k count=200 2>/dev/null; busybox stat -c %s /scratch/big", "65536\n"},
	} {
		if out, _, _ := f.sh(t, 1, tt.script); out != tt.want {
			t.Errorf("%s = %q, want %q", tt.script, out, tt.want)
		}
	}
	for name, want := range map[string]string{"rw/x": "hello\n", "data/y": "there\n", "file": host + "/file"} {
		if b, err := os.ReadFile(filepath.Join(host, name)); err != nil || string(b) != want {
			t.Errorf("HOST PATH %s = %q, %v; want %q", name, b, err, want)
		}
	}
}

// TestLaterMounts: lofs shows what is mounted below its source after the zone
// was booted, and a read-only source does not make that read-only.
func TestLaterMounts(t *testing.T) {
	f := setup(t)
	base := filepath.Join(f.dir, "base")
	if err := os.MkdirAll(base+"/slot/1", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, unix.MS_SHARED} {
		if err := unix.Mount(base, base, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) }) //nolint:errcheck // the directory's removal would tell
	f.boot(t, 1, forever, func(s *zones.Sandbox) {
		s.Mounts = []zones.Mount{
			{Type: "lofs", Special: base + "/slot", Dir: "/e", Options: []string{"nodevices"}},
			{Type: "lofs", Special: base + "/slot", Dir: "/nosub", Options: []string{"nosub"}},
			{Type: "lofs", Special: base + "/slot", Dir: "/ro", Options: []string{"ro"}},
		}
	})
	if _, _, st := f.sh(t, 1, "mkdir /e/2 || busybox rmdir /e/1 || busybox mv /e/1 /e/3"); st.ExitStatus() == 0 {
		t.Error("the zone can change the mount points")
	}
	later := filepath.Join(base, "slot/1")
	if err := unix.Mount("later", later, "tmpfs", unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(later, unix.MNT_DETACH) }) //nolint:errcheck // as above
	if out, errOut, _ := f.sh(t, 1, "echo hello >/e/1/x; cat /e/1/x"); out != "hello\n" {
		t.Errorf("the zone sees %q %q", out, errOut)
	}
	if b, err := os.ReadFile(later + "/x"); string(b) != "hello\n" {
		t.Errorf("the host sees %q, %v", b, err)
	}
	if out, _, _ := f.sh(t, 1, "ls /nosub/1 /ro/1"); strings.Contains(out, "x") {
		t.Errorf("it shows where it must not: %q", out)
	}
	// What the zone mounts there is not the host's to see.
	f.sh(t, 1, "mkdir /e/1/inner && mount -t tmpfs inner /e/1/inner && touch /e/1/inner/secret")
	if left, err := filepath.Glob(later + "/inner/*"); len(left) > 0 || err != nil {
		t.Errorf("HOST PATH WAS CHANGED: %v, %v", left, err)
	}
}

func TestMountsThatAreRefused(t *testing.T) {
	f := setup(t)
	host := filepath.Join(f.dir, "host")
	if err := os.MkdirAll(filepath.Join(host, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"abs": host, "rel": "../host", "dir/in": "/etc", "dev": "etc"} {
		at := filepath.Join(f.root, link)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(f.dir, "host/file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for i, m := range []zones.Mount{
		{Type: "lofs", Special: host, Dir: "/abs"},
		{Type: "lofs", Special: host, Dir: "/abs/etc"},
		{Type: "lofs", Special: host, Dir: "/rel/new"},
		{Type: "lofs", Special: host, Dir: "/dir/in"},
		{Type: "lofs", Special: host, Dir: "/../../x"},
		{Type: "lofs", Special: host, Dir: "/a/../b"},
		{Type: "lofs", Special: host, Dir: "relative"},
		{Type: "lofs", Special: host, Dir: "/"},
		{Type: "lofs", Special: host + "/absent", Dir: "/tmp"},
		{Type: "lofs", Special: file, Dir: "/tmp/missing"},
		{Type: "lofs", Special: file, Dir: "/tmp"},
		{Type: "lofs", Special: host, Dir: "/tmp", Options: []string{"bogus"}},
		{Type: "nfs", Special: host, Dir: "/tmp"},
		{Type: "dev", Dir: "/dev"}, // a symlink here
	} {
		if err := f.ready(t, i, func(s *zones.Sandbox) { s.Mounts = []zones.Mount{m, {Type: "proc", Dir: "/proc"}} }); err == nil {
			t.Errorf("%+v was mounted", m)
			continue
		}
		if _, err := f.zone(i); err == nil {
			t.Errorf("%+v: a sandbox stayed", m)
		}
	}
	if left, _ := filepath.Glob(host + "/etc/*"); len(left) > 0 {
		t.Errorf("HOST PATH WAS CHANGED: %v", left)
	}
}

func TestCapsAreEffective(t *testing.T) {
	f := setup(t)
	for _, c := range []string{cpu, memory, pids} {
		if _, ok := f.groups.parents[c]; !ok {
			t.Skipf("no cgroup controller %s here", c)
		}
	}
	f.boot(t, 1, forever, func(s *zones.Sandbox) {
		s.Caps = zones.Caps{CPU: 50, Physical: 24 << 20, MaxLWPs: 100, CPUShares: 10}
	})
	// busybox tail keeps in memory what it reads.
	if _, _, st := f.sh(t, 1, "dd if=/dev/zero bs=1M count=64 | busybox tail -c 60m >/dev/null"); st == 0 {
		t.Error("60 MiB fitted into 24 MiB")
	}
	if _, errOut, _ := f.sh(t, 1, "i=0; while [ $i -lt 120 ]; do sleep 5 & i=$((i+1)); done"); !strings.Contains(errOut, "fork") {
		t.Errorf("120 processes started with at most 100 LWPs: %s", errOut)
	}
	if u, err := f.Usage(t.Context(), 1); err != nil || u.AllocFailures == 0 {
		t.Errorf("the zone met its memory cap, and usage = %+v, %v", u, err)
	}
	if err := f.SetCaps(t.Context(), 1, zones.Caps{}); err != nil {
		t.Fatal(err)
	}
	if _, _, st := f.sh(t, 1, "dd if=/dev/zero bs=1M count=64 | busybox tail -c 60m >/dev/null"); st != 0 {
		t.Error("the memory cap was not lifted")
	}
}

// illumos accepts a cap below what a zone uses: the zone gets nothing more.
func TestCapBelowUse(t *testing.T) {
	f := setup(t)
	if _, ok := f.groups.parents[memory]; !ok {
		t.Skip("no cgroup controller memory here")
	}
	f.boot(t, 1, forever, nil)
	f.sh(t, 1, "mkdir -p /hold && mount -t tmpfs hold /hold && dd if=/dev/zero of=/hold/file bs=1M count=40")
	before, err := f.Usage(t.Context(), 1)
	if err != nil || before.Swap < 40<<20 {
		t.Fatalf("with 40 MiB in tmpfs, usage = %+v, %v", before, err)
	}
	if err := f.SetCaps(t.Context(), 1, zones.Caps{Swap: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, _, st := f.sh(t, 1, "dd if=/dev/zero of=/hold/more bs=1M count=20"); st == 0 {
		t.Error("the zone got 20 MiB more than its cap")
	}
	f.sh(t, 1, "rm /hold/*")
	if _, err := f.Usage(t.Context(), 1); err != nil { // which looks whether the cap fits now
		t.Fatal(err)
	}
	if _, _, st := f.sh(t, 1, "dd if=/dev/zero of=/hold/file bs=1M count=20"); st == 0 {
		t.Error("20 MiB fitted into 16 MiB")
	}
	if _, _, st := f.sh(t, 1, "rm -f /hold/*; dd if=/dev/zero of=/hold/file bs=1M count=8"); st != 0 {
		t.Error("8 MiB did not fit into 16 MiB")
	}
}

func TestCapWithoutItsControllerIsRefused(t *testing.T) {
	f := setup(t)
	f.groups.parents = nil
	err := f.ready(t, 1, func(s *zones.Sandbox) { s.Caps.Physical = 1 << 20 })
	if !errors.Is(err, ErrNoController) || !strings.Contains(err.Error(), "zone.max-physical-memory") {
		t.Errorf("ready = %v", err)
	}
	f.boot(t, 2, forever, nil)
	if u, err := f.Usage(t.Context(), 2); err != nil || u.Processes == 0 {
		t.Errorf("usage without cgroups = %+v, %v", u, err)
	}
}

func TestUsage(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	f.sh(t, 1, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	u, err := f.Usage(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if u.CPUNanoseconds == 0 || u.RSS == 0 || u.Processes < 1 || u.LWPs < u.Processes {
		t.Errorf("usage = %+v", u)
	}
}

func TestManyZones(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	f := setup(t)
	const n = 50
	start := time.Now()
	for id := range n {
		f.boot(t, id, forever, nil)
	}
	t.Logf("%d zones booted in %v", n, time.Since(start))
}
