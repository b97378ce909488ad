package oci_test

import (
	"os"
	"path/filepath"
	"testing"

	"reddwarf.io/reddwarf/storage/oci"
)

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
