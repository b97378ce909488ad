//go:build linux

// Package zonetest runs podinit as process 1 of a sandbox that looks to it like
// a pod zone, for tests of podinit and of what talks to it. It needs root and
// a static busybox; tests are skipped without.
package zonetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
)

// rootVar tells a test program to become the init of a sandbox.
const rootVar = "REDDWARF_ZONETEST_ROOT"

// programVar has the path of podinit, which Main has built.
const programVar = "REDDWARF_ZONETEST_PODINIT"

// raceVar, if it is set, has podinit built with the race detector, which the
// tests' own -race does not do.
const raceVar = "REDDWARF_ZONETEST_RACE"

// Main is for TestMain: it makes the test program able to be a sandbox's init,
// and builds podinit for the tests.
func Main(m *testing.M) {
	if root := os.Getenv(rootVar); root != "" {
		fmt.Fprintln(os.Stderr, "zonetest:", enter(root)) //nolint:errcheck // it is on its way out
		os.Exit(1)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if os.Getuid() != 0 {
		return m.Run() // New skips
	}
	dir, err := os.MkdirTemp("", "podinit")
	if err != nil {
		fmt.Fprintln(os.Stderr, "zonetest:", err) //nolint:errcheck // the exit code says it too
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	out := filepath.Join(dir, "podinit")
	how, cgo := []string{"-trimpath", "-ldflags=-s -w"}, "0"
	if os.Getenv(raceVar) != "" {
		how, cgo = []string{"-race", "-ldflags=-linkmode=external -extldflags=-static"}, "1"
	}
	args := append(append([]string{"build"}, how...), "-o", out, "reddwarf.io/reddwarf/cmd/podinit")
	cmd := exec.Command("go", args...) //nolint:noctx // it ends
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if words, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "zonetest: build podinit: %v\n%s", err, words) //nolint:errcheck // as above
		return 1
	}
	if err := os.Setenv(programVar, out); err != nil {
		return 1
	}
	return m.Run()
}

// Zone is a running sandbox.
type Zone struct {
	Dir     string // the zonepath, with root, spec, run and logs
	cmd     *exec.Cmd
	ended   chan struct{}
	console *console
}

type console struct {
	mu   sync.Mutex
	text strings.Builder
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// New prepares a zone, not yet booted, with podinit as its init.
func New(t *testing.T) *Zone {
	t.Helper()
	program := Program(t)
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("needs busybox-static, for the containers' programs")
	}
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "zone")
	if err != nil {
		t.Fatal(err)
	}
	z := &Zone{Dir: dir, console: &console{}}
	t.Cleanup(func() {
		z.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		words := z.console.String()
		if strings.Contains(words, "DATA RACE") || strings.Contains(words, "panic:") {
			t.Error("podinit has a bug; see the console")
		}
		if t.Failed() {
			t.Logf("console:\n%s", words)
		}
	})
	for _, d := range []string{"sbin", "bin", "etc", "dev", "proc", "sys", "tmp", "c", "v", "reddwarf/spec", "reddwarf/run", "reddwarf/logs"} {
		if err := os.MkdirAll(z.Root(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"spec", "run", "logs"} {
		if err := os.Rename(z.Root("reddwarf", d), filepath.Join(dir, d)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(z.Root("reddwarf", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, program, z.Root("sbin/init"))
	for _, link := range []string{"sbin/podinit", "sbin/sh"} {
		if err := os.Symlink("init", z.Root(link)); err != nil {
			t.Fatal(err)
		}
	}
	return z
}

// Root returns a path below the zone's root.
func (z *Zone) Root(elem ...string) string {
	return filepath.Join(append([]string{z.Dir, "root"}, elem...)...)
}

// Busybox makes the root of a container: busybox under all its names.
func (z *Zone) Busybox(t *testing.T, container string) string {
	t.Helper()
	root := z.Root("c", container)
	for _, d := range []string{"bin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, busybox, filepath.Join(root, "bin/busybox"))
	names, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range strings.Fields(string(names)) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", n)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	z.Write(t, "c/"+container+"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n")
	z.Write(t, "c/"+container+"/etc/group", "root:x:0:\nweb:x:1001:\nextra:x:2000:web\n")
	return root
}

// Write writes a file below the zone's root.
func (z *Zone) Write(t *testing.T, path, text string) {
	t.Helper()
	p := z.Root(path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Boot starts process 1 with a spec. The pod's uid and version are filled in.
func (z *Zone) Boot(t *testing.T, containers ...podinit.Container) {
	t.Helper()
	spec := podinit.Spec{Version: podinit.Version, PodUID: "uid-1", Hostname: "pod-1", Containers: containers}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(z.Dir, "spec", podinit.SpecFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	z.BootAgain(t)
}

// BootAgain starts process 1 with what is there.
func (z *Zone) BootAgain(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	z.cmd = exec.Command(self) //nolint:noctx // Kill ends it
	z.cmd.Env = []string{rootVar + "=" + z.Dir}
	z.cmd.Stdout, z.cmd.Stderr = z.console, z.console
	z.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := z.cmd.Start(); err != nil {
		t.Fatalf("boot: %v", err)
	}
	z.ended = make(chan struct{})
	go func() {
		defer close(z.ended)
		z.cmd.Wait() //nolint:errcheck // how it ended the tests do not ask
	}()
}

// Kill ends the zone as a halt does, and waits for it.
func (z *Zone) Kill() {
	if z.cmd == nil {
		return
	}
	z.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-z.ended
}

// PID returns process 1, as seen from outside.
func (z *Zone) PID() int { return z.cmd.Process.Pid }

// Ended is closed when process 1 has ended.
func (z *Zone) Ended() <-chan struct{} { return z.ended }

// Socket returns the path of podinit's socket.
func (z *Zone) Socket() string { return filepath.Join(z.Dir, "run", podinit.SocketFile) }

// Client returns a client by the socket, which waits for podinit to listen.
func (z *Zone) Client() *podinit.Client {
	return podinit.NewClient(func(ctx context.Context) (net.Conn, error) {
		for {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", z.Socket())
			if err == nil {
				return conn, nil
			}
			select {
			case <-z.ended:
				return nil, fmt.Errorf("the zone has ended: %s", z.console)
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// Enter runs a program of the zone in it, as zlogin does, with these streams.
func (z *Zone) Enter(ctx context.Context, in io.Reader, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(z.PID()), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd=/", "--",
	}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, z.console
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// enter makes the mounts of a zone, goes in and becomes its init.
func enter(dir string) error {
	root := filepath.Join(dir, "root")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	type mount struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}
	mounts := []mount{
		{root, root, "", unix.MS_BIND, ""},
		{"proc", root + "/proc", "proc", 0, ""},
		{"tmpfs", root + "/dev", "tmpfs", 0, "mode=755"},
	}
	for _, d := range []string{"spec", "run", "logs"} {
		mounts = append(mounts, mount{filepath.Join(dir, d), root + "/reddwarf/" + d, "", unix.MS_BIND, ""})
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := devices(root + "/dev"); err != nil {
		return err
	}
	if err := upLoopback(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := pivot(root); err != nil {
		return err
	}
	return syscall.Exec("/sbin/init", []string{"/sbin/init"}, []string{"container=zone"})
}

func devices(dev string) error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		p := filepath.Join(dev, name)
		if err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("mknod %s: %w", p, err)
		}
		if err := os.Chmod(p, 0o666); err != nil {
			return err
		}
	}
	if err := unix.Mknod(dev+"/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return err
	}
	if err := os.Mkdir(dev+"/pts", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("devpts", dev+"/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("devpts: %w", err)
	}
	return os.Symlink("pts/ptmx", dev+"/ptmx")
}

func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a socket without data
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount of the old root: %w", err)
	}
	return os.Chdir("/")
}

// Program returns the podinit that Main has built.
func Program(t *testing.T) string {
	t.Helper()
	program := os.Getenv(programVar)
	if program == "" {
		t.Skip("needs root, to make namespaces and mounts")
	}
	return program
}
