package storage_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/storage"
)

// TestRenewals: a container gets roots of other images beside the one that its
// zone has mounted.
func TestRenewals(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	image(t, s, "next", "")
	ctx := t.Context()
	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureContainer(ctx, uid, "web", "img"); err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureSpare(ctx, uid, "debugger", "img", 3, 1); err != nil {
		t.Fatal(err)
	}
	h.reset()
	for range 2 {
		if err := s.EnsureRenewal(ctx, uid, "web", "next", 3, 16); err != nil {
			t.Fatal(err)
		}
	}
	pod := "rpool/reddwarf/pods/" + uid
	want := []string{
		"zfs clone -o mountpoint=" + filepath.Join(s.SpareDir(3), "16") + " rpool/reddwarf/images/next@image " + pod + "/e-web.16",
		"zfs snapshot " + pod + "/e-web.16@start",
	}
	if got := h.commands()[:2]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("it ran %q", got)
	}
	if err := s.EnsureRenewal(ctx, uid, "web", "img", 3, 15); err != nil {
		t.Fatal(err)
	}
	if err := s.ResetRenewal(ctx, uid, "web", 15); err != nil {
		t.Error(err)
	}
	// A crash between the halves of zfs clone, and before the snapshot.
	h.run(t, "destroy", pod+"/e-web.15@start")
	h.run(t, "unmount", pod+"/e-web.15")
	if err := s.EnsureRenewal(ctx, uid, "web", "img", 3, 15); err != nil {
		t.Error(err)
	}
	if err := s.ResetRenewal(ctx, uid, "web", 15); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another image":    s.EnsureRenewal(ctx, uid, "web", "img", 3, 16),
		"no such image":    s.EnsureRenewal(ctx, uid, "web", "other", 3, 14),
		"no such place":    s.EnsureRenewal(ctx, uid, "web", "next", 3, storage.Spares+1),
		"a name of two":    s.EnsureRenewal(ctx, uid, "web.2", "next", 3, 14),
		"nothing to reset": s.ResetRenewal(ctx, uid, "web", 13),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	u, err := s.PodUsage(ctx, uid)
	if _, ok := u.Containers["web"]; err != nil || !ok || len(u.Containers) != 2 {
		t.Errorf("usage is %+v, %v", u.Containers, err)
	}

	// Before the next boot they go, and nothing else.
	for range 2 {
		if err := s.RemoveRenewals(ctx, uid); err != nil {
			t.Fatal(err)
		}
		if got := h.run(t, "list", "-H", "-o", "name", "-t", "filesystem", "-r", pod); got != pod+"\n"+pod+"/c-web\n"+pod+"/e-debugger\n" {
			t.Errorf("left: %q", got)
		}
	}
	if _, err := s.EnsureContainer(ctx, uid, "web", "next"); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("the root of the old image: %v", err)
	}
	if err := s.RemoveRenewals(ctx, "5d4e8a9e-0000-4b60-9d41-0a8f54a3b3d2"); err != nil {
		t.Errorf("an absent pod: %v", err)
	}
}
