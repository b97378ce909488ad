package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReclaimPodStopsAtMounts leaves something mounted below what is removed: it
// is not touched, and the next try, without it, succeeds.
func TestReclaimPodStopsAtMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // the thread ends with the test, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	h, s := newHost(t)
	dir := ended(t, s)
	point := filepath.Join(dir, "root/c/web/data")
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(point, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mounted, err := unix.Open(point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // its path does not stay
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mounted) //nolint:errcheck // only a handle
	for range 2 {
		if err := s.ReclaimPod(t.Context(), uid, "logs"); err == nil {
			t.Error("what is mounted was removed")
		}
		var st unix.Stat_t
		if err := unix.Fstatat(mounted, "precious", &st, 0); err != nil {
			t.Fatalf("HOST PATH WAS CHANGED: %v", err)
		}
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", mounted))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := s.ReclaimPod(t.Context(), uid, "logs"); err != nil {
		t.Fatal(err)
	}
	mustBeReclaimed(t, h, dir)
}
