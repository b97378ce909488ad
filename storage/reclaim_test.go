package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/storage"
)

// ended makes a pod with roots, volumes and files as one that has ended.
func ended(t *testing.T, s *storage.Store) (dir string) {
	t.Helper()
	ctx := t.Context()
	image(t, s, "img", "")
	dir, err := s.EnsurePod(ctx, uid, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, make := range []func() error{
		func() error { _, err := s.EnsureContainer(ctx, uid, "web", "img"); return err },
		func() error { return s.EnsureSpare(ctx, uid, "debugger", "img", 3, 1) },
		func() error { return s.EnsureRenewal(ctx, uid, "web", "img", 3, 16) },
		func() error { _, err := s.EnsureVolume(ctx, uid, "data", 1<<20); return err },
		func() error { _, err := s.EnsureImageVolume(ctx, uid, "model", "img"); return err },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "file"), "the host's")
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
			t.Errorf("HOST PATH WAS CHANGED: %v", err)
		}
	})
	write(filepath.Join(dir, "logs/web/0.log"), "a line")
	write(filepath.Join(dir, "volumes/secret/..data/key"), "secret")
	write(filepath.Join(dir, "spec/spec.json"), "{}")
	write(filepath.Join(dir, "empty/cache", strings.Repeat("deep/", 300), "file"), "x")
	for i := range 1100 {
		write(filepath.Join(dir, "empty/many", fmt.Sprint(i)), "x")
	}
	write(filepath.Join(dir, "empty/.gone-0/.gone-1/file"), "x")
	for _, name := range []string{"empty/link", "spec/link", "run"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustBeReclaimed(t *testing.T, h *host, dir string) {
	t.Helper()
	pod := "rpool/reddwarf/pods/" + uid
	if got := h.run(t, "list", "-H", "-o", "name", "-t", "all", "-r", pod); got != pod+"\n" {
		t.Errorf("left: %q", got)
	}
	if got := h.run(t, "get", "-Hp", "-o", "value", "quota", pod); got != "0\n" {
		t.Errorf("its quota is %q", got)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || list[0].Name() != "logs" {
		t.Errorf("left in its directory: %v, %v", list, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "logs/web/0.log")); err != nil || string(text) != "a line" {
		t.Errorf("its log is %q, %v", text, err)
	}
}

func TestReclaimPod(t *testing.T) {
	h, s := newHost(t)
	ctx := t.Context()
	if err := s.ReclaimPod(ctx, uid, "logs"); err != nil {
		t.Errorf("an absent pod: %v", err)
	}
	dir := ended(t, s)
	for range 2 {
		if err := s.ReclaimPod(ctx, uid, "logs"); err != nil {
			t.Fatal(err)
		}
		mustBeReclaimed(t, h, dir)
	}
	if err := s.RemoveImage(ctx, "img"); err != nil {
		t.Errorf("its image is still in use: %v", err)
	}
	h.run(t, "set", "io.reddwarf:uid=other", "rpool/reddwarf/pods/"+uid)
	if err := s.ReclaimPod(ctx, uid); !errors.Is(err, storage.ErrForeign) {
		t.Errorf("a dataset that is not ours: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "logs")); err != nil {
		t.Error(err)
	}
	if err := s.ReclaimPod(ctx, "../images"); !errors.Is(err, storage.ErrName) {
		t.Errorf("a name that is none: %v", err)
	}
	if n, err := s.Freeing(ctx); err != nil || n != 0 {
		t.Errorf("freeing %d, %v", n, err)
	}
}

// TestReclaimPodInterrupted fails each command in turn, as of an agent that dies
// there: the next try does the rest.
func TestReclaimPodInterrupted(t *testing.T) {
	for n := range 20 {
		h, s := newHost(t)
		dir := ended(t, s)
		h.reset()
		failed := false
		h.fail = func(cmd string) error {
			if len(h.commands()) == n+1 {
				failed = true
				return errors.New("interrupted")
			}
			return nil
		}
		err := s.ReclaimPod(t.Context(), uid, "logs")
		if failed != (err != nil) {
			t.Errorf("command %d failed: %t, and yet: %v", n, failed, err)
		}
		h.fail = nil
		if err := s.ReclaimPod(t.Context(), uid, "logs"); err != nil {
			t.Fatal(err)
		}
		mustBeReclaimed(t, h, dir)
		if !failed {
			if n < 7 {
				t.Errorf("it took %d commands only", n)
			}
			return
		}
	}
	t.Error("there is no end of commands")
}
