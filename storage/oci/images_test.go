package oci_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

func TestRemove(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	base := files(t, "base", "1")
	a := r.push(t, "a", newImage(t, base, files(t, "a", "1")))
	b := r.push(t, "b", newImage(t, base, files(t, "b", "1")))
	im := oci.New(s, config())
	ia, err1 := im.Ensure(t.Context(), oci.Request{Ref: a})
	ib, err2 := im.Ensure(t.Context(), oci.Request{Ref: b})
	_, err3 := s.EnsurePod(t.Context(), "u", 0)
	_, err4 := s.EnsureContainer(t.Context(), "u", "c", ia.Dataset)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if err := im.Remove(t.Context(), ia.ID); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("Remove of an image in use = %v, want ErrInUse", err)
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: a, Policy: oci.Never}); err != nil {
		t.Errorf("an image in use is lost: %v", err)
	}
	if err := im.Remove(t.Context(), ib.ID); err != nil {
		t.Fatal(err)
	}
	if n := len(h.images(t)); n != 4 {
		t.Errorf("%d datasets and snapshots, want the 4 of the other image: %q", n, h.images(t))
	}
	if err := s.RemovePod(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := im.Remove(t.Context(), ia.ID); err != nil {
			t.Fatal(err)
		}
	}
	if left := h.images(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: a, Policy: oci.Never}); !errors.Is(err, oci.ErrNeverPull) {
		t.Errorf("a removed image is still known: %v", err)
	}
}

func TestIndexFileIsBad(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "web", newImage(t, files(t, "a", "1")))
	path := filepath.Join(h.root, "images", "index.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"images":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := oci.New(s, config()).Ensure(t.Context(), oci.Request{Ref: ref}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Errorf("the bad index was not kept: %v", err)
	}
	if _, err := oci.New(h.store(), config()).Ensure(t.Context(), oci.Request{Ref: ref, Policy: oci.Never}); err != nil {
		t.Error(err)
	}
}

func TestImageWithoutLayers(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "scratch", newImage(t))
	if got, err := oci.New(s, config()).Ensure(t.Context(), oci.Request{Ref: ref}); err != nil || got.Dataset == "" {
		t.Errorf("Ensure = %+v, %v", got, err)
	}
}
