//go:build linux

package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// fixture is a Backend and one zone root with busybox in it.
type fixture struct {
	*Backend
	dir  string
	root string
}

func setup(t *testing.T) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making namespaces needs root")
	}
	dir := t.TempDir()
	b, err := New(Config{ConsoleDir: dir, Group: fmt.Sprintf("sandbox-test-%d", os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{Backend: b, dir: dir, root: busyboxRoot(t, filepath.Join(dir, "root"))}
}

// busyboxRoot fills dir with a root that has a shell.
func busyboxRoot(t *testing.T, dir string) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("no busybox here: apt-get install busybox-static")
	}
	if out, err := exec.Command(busybox, "ldd", busybox).CombinedOutput(); err == nil {
		t.Skipf("busybox is not static: %s", out)
	}
	for _, sub := range []string{"bin", "sbin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "cat", "ls", "sleep", "id", "mount", "stat", "dd", "tty", "stty", "kill", "touch", "mkdir", "true"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f *fixture) ready(t *testing.T, id int, edit func(*zones.Sandbox)) error {
	t.Helper()
	s := zones.Sandbox{ID: id, Name: fmt.Sprintf("web%d", id), Brand: "lx", Root: f.root, Hostname: "web"}
	if edit != nil {
		edit(&s)
	}
	_, err := f.Ready(t.Context(), s)
	return err
}

// boot starts a shell script as init and returns where its status will appear.
func (f *fixture) boot(t *testing.T, id int, script string, edit func(*zones.Sandbox)) <-chan unix.WaitStatus {
	t.Helper()
	if err := f.ready(t, id, edit); err != nil {
		t.Fatal(err)
	}
	ended := make(chan unix.WaitStatus, 1)
	err := f.Boot(t.Context(), id, []string{"/bin/sh", "-c", script}, func(status int) { ended <- unix.WaitStatus(status) })
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

// forever is an init that does nothing but reap.
const forever = "while :; do sleep 1000; done"

// sh runs a script in a zone and returns its output and status.
func (f *fixture) sh(t *testing.T, id int, script string) (stdout, stderr string, status unix.WaitStatus) {
	t.Helper()
	var out, errOut bytes.Buffer
	st, err := f.Enter(t.Context(), id, zones.Entry{
		Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}, Dir: "/", Stdout: &out, Stderr: &errOut,
	})
	if err != nil {
		t.Fatalf("enter: %v", err)
	}
	return out.String(), errOut.String(), unix.WaitStatus(st)
}

func (f *fixture) console(t *testing.T, id int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, fmt.Sprintf("web%d.console", id)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
