package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/storage"
)

func TestSpares(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	dir, err := s.EnsureSpares(ctx, 3)
	if err != nil || dir != filepath.Join(h.root, "spares/0/3") || dir != s.SpareDir(3) {
		t.Fatalf("EnsureSpares = %q, %v", dir, err)
	}
	for n := 1; n <= storage.Spares; n++ {
		if fi, err := os.Lstat(filepath.Join(dir, strconv.Itoa(n))); err != nil || !fi.IsDir() {
			t.Errorf("place %d: %v, %v", n, fi, err)
		}
	}
	if got := strings.TrimSpace(h.run(t, "get", "-H", "-o", "value", "readonly", "rpool/reddwarf/spares/0")); got != "on" {
		t.Errorf("readonly is %s: a zone could change the mount points", got)
	}
	h.reset()
	if _, err := s.EnsureSpares(ctx, 31); err != nil || len(h.commands()) != 0 {
		t.Errorf("a slot of the same block: %v, and it ran %q", err, h.commands())
	}
	if d, err := s.EnsureSpares(ctx, 32); err != nil || d != filepath.Join(h.root, "spares/1/32") {
		t.Errorf("the next block: %q, %v", d, err)
	}

	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	h.reset()
	for range 2 {
		if err := s.EnsureSpare(ctx, uid, "debugger", "img", 3, 2); err != nil {
			t.Fatal(err)
		}
	}
	if first := h.commands()[0]; first != "zfs clone -o mountpoint="+filepath.Join(dir, "2")+" rpool/reddwarf/images/img@image rpool/reddwarf/pods/"+uid+"/e-debugger" {
		t.Errorf("it ran %s", first)
	}
	// A crash between the halves of zfs clone.
	h.run(t, "unmount", "rpool/reddwarf/pods/"+uid+"/e-debugger")
	if err := s.EnsureSpare(ctx, uid, "debugger", "img", 3, 2); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(h.run(t, "get", "-H", "-o", "value", "mounted", "rpool/reddwarf/pods/"+uid+"/e-debugger")); got != "yes" {
		t.Errorf("mounted is %s", got)
	}
	for name, err := range map[string]error{
		"another image":  s.EnsureSpare(ctx, uid, "debugger", "other", 3, 2),
		"no such image":  s.EnsureSpare(ctx, uid, "second", "other", 3, 3),
		"no such place":  s.EnsureSpare(ctx, uid, "second", "img", 3, storage.Spares+1),
		"a place of old": s.EnsureSpare(ctx, uid, "second", "img", 3, 0),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := s.RemovePod(ctx, uid); err != nil {
		t.Fatal(err)
	}
	if got := h.run(t, "list", "-H", "-o", "name", "-r", "rpool/reddwarf/pods"); got != "rpool/reddwarf/pods\n" {
		t.Errorf("left: %q", got)
	}
}

// TestSparesAfterACrash: a block is complete only when it is read-only.
func TestSparesAfterACrash(t *testing.T) {
	h, s := newHost(t)
	h.fail = func(cmd string) error {
		if strings.HasPrefix(cmd, "zfs set readonly=on") {
			return errors.New("the agent was killed")
		}
		return nil
	}
	if _, err := s.EnsureSpares(t.Context(), 0); err == nil {
		t.Fatal("no error")
	}
	if err := os.RemoveAll(filepath.Join(h.root, "spares/0/20")); err != nil {
		t.Fatal(err)
	}
	h.reset()
	next := storage.New(h, storage.Config{Root: h.root})
	if _, err := next.EnsureSpares(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.root, "spares/0/20/1")); err != nil {
		t.Error(err)
	}
}

func TestSparesOfOthers(t *testing.T) {
	h, s := newHost(t)
	h.run(t, "create", "rpool/reddwarf/spares/0")
	if _, err := s.EnsureSpares(t.Context(), 0); !errors.Is(err, storage.ErrForeign) {
		t.Errorf("EnsureSpares = %v, want ErrForeign", err)
	}
}
