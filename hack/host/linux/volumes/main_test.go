//go:build linux

package volumes

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the process that runs the tests in its own mount namespace.
const inside = "VOLUMES_TEST_INSIDE"

// TestMain runs the tests in a mount namespace of their own, so that nothing
// they mount can be left behind. Without the right to make one only the tests
// that mount nothing run.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "private mounts:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), inside+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := self.Run(); err != nil {
		os.Exit(1)
	}
}

// open opens volumes of one kind in a directory of the test, or skips it.
func open(t testing.TB, kind Kind) *Volumes {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs the right to mount")
	}
	v, err := Open(t.TempDir(), Options{Kind: kind, Size: 2 << 30})
	if err != nil {
		if kind == Btrfs {
			t.Skipf("no btrfs here: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return v
}

// eachKind runs a test on every kind.
func eachKind(t *testing.T, f func(t *testing.T, v *Volumes)) {
	for _, kind := range []Kind{Btrfs, Overlay, Plain} {
		t.Run(string(kind), func(t *testing.T) { f(t, open(t, kind)) })
	}
}
