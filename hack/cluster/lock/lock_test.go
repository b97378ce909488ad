package lock

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const childVariable = "LOCK_TEST_FILE"

// TestMain also is the other process, which a record lock needs.
func TestMain(m *testing.M) {
	path := os.Getenv(childVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	if _, err := Acquire(path); err != nil {
		os.Stdout.WriteString(err.Error() + "\n") //nolint:errcheck // the parent sees its absence
		os.Exit(3)
	}
	os.Stdout.WriteString("held\n") //nolint:errcheck // as above
	time.Sleep(time.Hour)           // until SIGTERM
}

// hold starts a process that holds the lock of path.
func hold(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), childVariable+"="+path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return c
}

func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("without a file: %d, %v", pid, err)
	}
	child := hold(t, path)
	if pid, err := Holder(path); pid != child.Process.Pid || err != nil {
		t.Errorf("Holder() = %d, %v; want %d", pid, err, child.Process.Pid)
	}
	if _, err := Acquire(path); !errors.Is(err, ErrHeld) {
		t.Errorf("Acquire() = %v, want ErrHeld", err)
	}
	if err := Terminate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("child: %v", err)
	}
	if pid, err := Holder(path); pid != 0 || err != nil {
		t.Errorf("after its end: %d, %v", pid, err)
	}
	if err := Terminate(t.Context(), path); err != nil {
		t.Errorf("nobody to terminate: %v", err)
	}
	l, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func TestTerminateGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	child := hold(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// A process that is stopped does not act on SIGTERM.
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := Terminate(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("Terminate() = %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() //nolint:errcheck // it was killed
}
