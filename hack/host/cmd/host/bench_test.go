//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the host program under its names.
func TestMain(m *testing.M) {
	if !strings.HasSuffix(os.Args[0], ".test") {
		main()
		return
	}
	os.Exit(m.Run())
}

// bench is a lab with its program, driven from outside.
type bench struct {
	t      *testing.T
	dir    string
	exe    string
	launch *exec.Cmd
	stdin  io.Closer // its end is the lab's
	errOut bytes.Buffer
}

// newBench returns a bench whose lab does not run yet.
func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a lab needs root")
	}
	if testing.Short() {
		t.Skip("starts a machine")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	exe := filepath.Join(dir, "host")
	if err := os.Symlink(self, exe); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, dir: filepath.Join(dir, "lab"), exe: exe}
}

// start runs a lab that lasts as long as the test.
func start(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.launch = exec.Command(b.exe, "lab", "run", "--dir", b.dir, "--", "sh", "-c", "echo ready; cat >/dev/null")
	in, err := b.launch.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.launch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.stdin = in
	b.launch.Stderr = &b.errOut
	if err := b.launch.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = b.launch.Wait()
		b.nothingLeft()
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("the lab does not start: %v: %s", err, b.errOut.String())
	}
	return b
}

// host runs a subcommand and returns its output and exit code.
func (b *bench) host(args ...string) (string, int) {
	b.t.Helper()
	return b.run(exec.Command(b.exe, append([]string{args[0], "--dir", b.dir}, args[1:]...)...))
}

func (b *bench) run(cmd *exec.Cmd) (string, int) {
	b.t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is host for what has to succeed.
func (b *bench) must(args ...string) string {
	b.t.Helper()
	out, code := b.host(args...)
	if code != 0 {
		b.t.Fatalf("host %q: exit %d: %s", args, code, out)
	}
	return out
}

// nothingLeft checks that the kernel has forgotten the lab.
func (b *bench) nothingLeft() {
	b.t.Helper()
	lock, err := os.OpenFile(filepath.Join(b.dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		b.t.Error(err)
		return
	}
	defer lock.Close()
	// The watchdog holds the lock until it is done.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		b.t.Error(err)
	}
	for what, pattern := range map[string]string{
		"loop device": "/sys/block/loop*/loop/backing_file", "mount": "/proc/self/mountinfo", "process": "/proc/[0-9]*/environ",
		"command line": "/proc/[0-9]*/cmdline",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, f := range files {
			data, _ := os.ReadFile(f)
			if strings.Contains(string(data), b.dir) {
				b.t.Errorf("%s is left behind: %s", what, f)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "hosts")); len(left) > 0 {
		b.t.Errorf("files are left behind: %v", left)
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "simhost-") && strings.HasSuffix(d.Name(), "-"+b.hostName()) {
			b.t.Errorf("cgroup is left behind: %s", path)
		}
		return nil
	})
	if err != nil {
		b.t.Error(err)
	}
}

// hostName is a name that no other test's hosts have, so that what is left of
// them can be told.
func (b *bench) hostName() string { return fmt.Sprintf("t%d", os.Getpid()) }

// zone makes and boots a zone on the host that runs init, a shell script.
func (b *bench) zone(name, init string) {
	b.t.Helper()
	if _, err := exec.LookPath("busybox"); err != nil {
		b.t.Skip("no busybox here: apt-get install busybox-static")
	}
	script := `set -e
p=/rpool/$1
zfs create rpool/$1
chmod 700 $p
mkdir -p $p/root/bin $p/root/sbin $p/root/usr/bin
cp "$(command -v busybox)" $p/root/bin/busybox
for a in sh sleep cat kill su; do ln -s busybox $p/root/bin/$a; done
ln -s ../../bin/busybox $p/root/usr/bin/su
mkdir $p/root/etc; echo root:x:0:0::/:/bin/sh >$p/root/etc/passwd
printf '#!/bin/sh\n%s\n' "$2" >$p/root/sbin/init; chmod 755 $p/root/sbin/init
cat >/tmp/zone.cfg <<X
create -b
set brand=lx
set zonepath=$p
set ip-type=exclusive
add attr
set name=docker
set type=boolean
set value=true
end
X
zonecfg -z $1 -f /tmp/zone.cfg
zoneadm -z $1 mark -F installed
zoneadm -z $1 boot
`
	b.must("run", b.hostName(), "--", "sh", "-c", script, "sh", name, init)
}

func (b *bench) up(args ...string) {
	b.t.Helper()
	b.must(append([]string{"up", b.hostName(), "--pool-size", "256M"}, args...)...)
}

// on runs a program on the host.
func (b *bench) on(argv ...string) (string, int) {
	b.t.Helper()
	return b.host(append([]string{"run", b.hostName(), "--"}, argv...)...)
}

// await polls until ok, which must come soon.
func (b *bench) await(failure string, ok func() bool) {
	b.t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatal(failure)
}

// find returns a process of the lab whose command line begins so.
func (b *bench) find(cmdline string) int {
	b.t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range procs {
		data, _ := os.ReadFile(p + "/cmdline")
		if !strings.HasPrefix(string(data), cmdline) || !b.descends(p) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(p))
		return pid
	}
	return 0
}

// descends reports whether a process is the launcher's, by way of any parents.
func (b *bench) descends(proc string) bool {
	for range 20 {
		stat, err := os.ReadFile(proc + "/stat")
		if err != nil {
			return false
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if f[1] == strconv.Itoa(b.launch.Process.Pid) {
			return true
		}
		if f[1] == "0" || f[1] == "1" {
			return false
		}
		proc = "/proc/" + f[1]
	}
	return false
}
