//go:build linux

package hostpods_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/hostpods"
	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

func TestMain(m *testing.M) { zonetest.Main(m) }

const name = "rdw-1234"

// machine runs the commands of hostpods: ctrun and podinit for real, in a mount
// namespace of their own, and zfs as far as it is asked.
type machine struct {
	t           *testing.T
	mountpoints map[string]string // by dataset
	fail        map[string]error  // by the first words of a command
}

func (m *machine) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	for words, err := range m.fail {
		if strings.HasPrefix(c.String(), words) {
			return nil, err
		}
	}
	switch {
	case c.Name == "zfs" && c.Args[0] == "get":
		at := m.mountpoints[c.Args[len(c.Args)-1]]
		if at == "" {
			return []byte("legacy\nno\n"), nil
		}
		return []byte(at + "\nyes\n"), nil
	case c.Name == "zfs" && c.Args[0] == "set":
		at := strings.TrimPrefix(c.Args[1], "mountpoint=")
		if at == "legacy" {
			delete(m.mountpoints, c.Args[2])
			return nil, nil
		}
		m.mountpoints[c.Args[2]] = at
		return nil, busybox(at)
	case c.Name == "ctrun":
		p := exec.Command("unshare", append([]string{"--mount", "--propagation", "private"}, c.Args[2:]...)...)
		p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := p.Start(); err != nil {
			return nil, err
		}
		go p.Wait() //nolint:errcheck // how it ended shows otherwise
		return nil, nil
	case filepath.Base(c.Name) == "podinit":
		return command.Local{}.Run(ctx, c)
	}
	m.t.Errorf("unexpected command %s", c)
	return nil, errors.New("unexpected")
}

func busybox(root string) error {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755)
}

// pod makes the files of a host pod with one container that runs args.
func pod(t *testing.T, args ...string) (*hostpods.Host, *machine, zones.Config) {
	t.Helper()
	program := zonetest.Program(t)
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("needs busybox-static, for the containers' programs")
	}
	base, err := os.MkdirTemp("", "hp") // not t.TempDir: the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "1234")
	for _, d := range []string{podinit.HostSpecDir, podinit.HostRunDir, podinit.HostLogDir + "/web", "volumes/conf", "empty/data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "volumes/conf/key"), []byte("value\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := podinit.Spec{Version: podinit.Version, PodUID: "1234", Containers: []podinit.Container{{
		Name: "web", Args: args, Start: true,
		Mounts: []podinit.Mount{{Volume: "conf", Target: "/conf"}, {Volume: "data", Target: "/data"}},
	}}}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, podinit.HostSpecDir, podinit.SpecFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, mountpoints: map[string]string{}, fail: map[string]error{}}
	h := hostpods.New(m, base, "rdw-", program)
	t.Cleanup(func() {
		m.fail = nil
		if err := h.Halt(context.Background(), name); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	return h, m, zones.Config{
		Name: name, Brand: hostpods.Brand, Path: dir,
		Attrs: []zones.Attr{{Name: "reddwarf-uid", Type: "string", Value: "1234"}},
		Mounts: []zones.Mount{
			{Target: "/c/web", Source: "pool/c-web", Type: "zfs"},
			{Target: "/v/conf", Source: filepath.Join(dir, "volumes/conf"), Type: "lofs", Options: []string{"ro", "nodevices"}},
			{Target: "/v/data", Source: filepath.Join(dir, "empty/data"), Type: "lofs", Options: []string{"nodevices"}},
		},
	}
}

// boot brings the pod from nothing to running.
func boot(t *testing.T, h *hostpods.Host, c zones.Config) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { return h.Configure(ctx, c) },
		func() error { return h.MarkInstalled(ctx, name) },
		func() error { return h.Boot(ctx, name) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func stateOf(t *testing.T, h *hostpods.Host) zones.State {
	t.Helper()
	all, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range all {
		if z.Name == name {
			if (z.ID == 0) != (z.State == zones.Running) {
				t.Errorf("id %d in state %s", z.ID, z.State)
			}
			return z.State
		}
	}
	return zones.Absent
}

func want(t *testing.T, h *hostpods.Host, s zones.State) {
	t.Helper()
	if got := stateOf(t, h); got != s {
		t.Errorf("state %s, want %s", got, s)
	}
}

func client(c zones.Config) *podinit.Client {
	socket := filepath.Join(c.Path, podinit.HostRunDir, podinit.SocketFile)
	return podinit.NewClient(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
}

// eventually waits for what the pod does by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// log returns what the container has printed.
func log(c zones.Config) string {
	b, _ := os.ReadFile(filepath.Join(c.Path, podinit.HostLogDir, "web/0.log"))
	return string(b)
}

func TestLifeOfAHostPod(t *testing.T) {
	script := `echo conf=$(cat /conf/key); echo made > /data/file && echo writable; echo no > /conf/other || echo readonly; exec sleep 1000`
	h, m, c := pod(t, "/bin/busybox", "sh", "-c", script)
	want(t, h, zones.Absent)
	if err := h.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want(t, h, zones.Configured)
	if err := h.Boot(t.Context(), name); !errors.Is(err, zones.ErrState) {
		t.Errorf("boot of a configured pod: %v", err)
	}
	boot(t, h, c)
	want(t, h, zones.Running)
	eventually(t, "the container's output", func() bool { return strings.Contains(log(c), "readonly") })
	for _, line := range []string{"conf=value", "writable"} {
		if !strings.Contains(log(c), line) {
			t.Errorf("the container did not print %q:\n%s", line, log(c))
		}
	}
	if _, err := os.Stat(filepath.Join(c.Path, "empty/data/file")); err != nil {
		t.Errorf("what the container wrote into its volume: %v", err)
	}
	if err := h.Boot(t.Context(), name); err != nil {
		t.Errorf("boot of a pod that runs: %v", err)
	}
	for what, err := range map[string]error{
		"configure": h.Configure(t.Context(), c), "mark configured": h.MarkConfigured(t.Context(), name), "delete": h.Delete(t.Context(), name),
	} {
		if !errors.Is(err, zones.ErrState) {
			t.Errorf("%s of a pod that runs: %v", what, err)
		}
	}
	if attrs, err := h.Attrs(t.Context(), name); err != nil || attrs["reddwarf-uid"] != "1234" {
		t.Errorf("attrs %v, %v", attrs, err)
	}
	if err := h.Halt(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	want(t, h, zones.Installed)
	if len(m.mountpoints) != 0 {
		t.Errorf("still mounted: %v", m.mountpoints)
	}
	for _, step := range []func(context.Context, string) error{h.Halt, h.MarkConfigured, h.Delete, h.Delete, h.Halt} {
		if err := step(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	want(t, h, zones.Absent)
	if _, err := h.Attrs(t.Context(), name); !errors.Is(err, zones.ErrNotFound) {
		t.Errorf("attrs of a pod that is gone: %v", err)
	}
}

// pidOf returns the process id that the container printed.
func pidOf(t *testing.T, c zones.Config) int {
	t.Helper()
	var pid int
	eventually(t, "the container's process id", func() bool {
		_, text, ok := strings.Cut(log(c), "pid=")
		if !ok {
			return false
		}
		n, err := strconv.Atoi(strings.Fields(text)[0])
		pid = n
		return err == nil
	})
	return pid
}

// A pod whose podinit was killed still has its containers' processes. It is
// Down until they are ended, and cannot be taken for one that may be started.
func TestKilledPodinitLeavesNothing(t *testing.T) {
	h, _, c := pod(t, "/bin/busybox", "sh", "-c", "echo pid=$$; exec sleep 1000")
	boot(t, h, c)
	pid := pidOf(t, c)
	killPodinit(t, c)
	eventually(t, "the lock to be free", func() bool { return stateOf(t, h) != zones.Running })
	want(t, h, zones.Down)
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("the container ended with podinit, so this test shows nothing")
	}
	if err := h.MarkConfigured(t.Context(), name); !errors.Is(err, zones.ErrState) {
		t.Errorf("mark configured: %v", err)
	}
	if err := h.Halt(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	want(t, h, zones.Installed)
	eventually(t, "the container's process to be gone", func() bool { return syscall.Kill(pid, 0) != nil })
	if err := h.Boot(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	want(t, h, zones.Running)
}

// killPodinit kills the pod's podinit, and nothing else.
func killPodinit(t *testing.T, c zones.Config) {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "podinit host "+c.Path).Output()
	if err != nil {
		t.Fatalf("pgrep: %v", err)
	}
	for _, word := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnotherAgentFindsThePod(t *testing.T) {
	h, m, c := pod(t, "/bin/busybox", "sleep", "1000")
	boot(t, h, c)
	again := hostpods.New(m, filepath.Dir(c.Path), "rdw-", zonetest.Program(t))
	want(t, again, zones.Running)
	if !again.Has(name) || again.Has("rdw-other") {
		t.Error("Has does not tell the host pods")
	}
	var out strings.Builder
	status, err := client(c).Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"/bin/busybox", "echo", "hello"}}, podinit.Streams{Out: &out})
	if err != nil || status.Code != 0 || out.String() != "hello\n" {
		t.Errorf("exec: %q, %+v, %v", out.String(), status, err)
	}
}

func TestBootThatFails(t *testing.T) {
	h, m, c := pod(t, "/bin/busybox", "sleep", "1000")
	if err := errors.Join(h.Configure(t.Context(), c), h.MarkInstalled(t.Context(), name)); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"zfs set", "ctrun"} {
		m.fail = map[string]error{words: fmt.Errorf("%s is out of order", words)}
		if err := h.Boot(t.Context(), name); err == nil || !strings.Contains(err.Error(), "out of order") {
			t.Errorf("boot without %s: %v", words, err)
		}
		want(t, h, zones.Down) // there may be something to take back
		m.fail = nil
		if err := h.Halt(t.Context(), name); err != nil {
			t.Error(err)
		}
		want(t, h, zones.Installed)
	}
	// podinit that cannot start says why on its console.
	if err := os.Remove(filepath.Join(c.Path, podinit.HostSpecDir, podinit.SpecFile)); err != nil {
		t.Fatal(err)
	}
	if err := h.Boot(t.Context(), name); err == nil || !strings.Contains(err.Error(), podinit.SpecFile) {
		t.Errorf("boot without a spec: %v", err)
	}
}

func TestConfigureRefuses(t *testing.T) {
	h, _, good := pod(t, "/bin/busybox", "true")
	for what, edit := range map[string]func(*zones.Config){
		"a path elsewhere":        func(c *zones.Config) { c.Path = "/elsewhere/1234" },
		"another pod's path":      func(c *zones.Config) { c.Name = "rdw-5678" },
		"a name of somebody else": func(c *zones.Config) { c.Name = "1234" },
		"a link":                  func(c *zones.Config) { c.Links = []zones.Link{{Physical: "rdw1"}} },
		"a limit":                 func(c *zones.Config) { c.CPUCap = 100 },
		"a mount over the host":   func(c *zones.Config) { c.Mounts = []zones.Mount{{Target: "/usr", Source: "/tmp", Type: "lofs"}} },
		"a tmpfs":                 func(c *zones.Config) { c.Mounts = []zones.Mount{{Target: "/v/x", Source: "swap", Type: "tmpfs"}} },
		"a target with dots":      func(c *zones.Config) { c.Mounts = []zones.Mount{{Target: "/v/..", Source: "/tmp", Type: "lofs"}} },
		"a root that is no clone": func(c *zones.Config) { c.Mounts = []zones.Mount{{Target: "/c/web", Source: "/tmp", Type: "lofs"}} },
	} {
		c := good
		edit(&c)
		if err := h.Configure(t.Context(), c); err == nil {
			t.Errorf("%s was accepted", what)
		}
		want(t, h, zones.Absent)
	}
}

func TestUnreadableRecordDoesNotHideOthers(t *testing.T) {
	h, _, c := pod(t, "/bin/busybox", "true")
	if err := h.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(filepath.Dir(c.Path), "broken")
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "host-record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, h, zones.Configured)
	if err := h.Delete(t.Context(), "rdw-broken"); err == nil || errors.Is(err, zones.ErrNotFound) {
		t.Errorf("a pod whose record may be the broken one: %v", err)
	}
}
