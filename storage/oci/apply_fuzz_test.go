package oci

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzApply feeds archives that nobody would make. Nothing outside may change.
func FuzzApply(f *testing.F) {
	f.Add(archive(f, file("a/b", "x"), link("l", "a"), file("l/c", "y"), hard("d", "a/b"), white("a/.wh.b")))
	f.Add(archive(f, link("l", "../outside"), file("l/secret", "x"), white("l/.wh..wh..opq")))
	f.Add(archive(f, hard("h", "../outside/secret")))
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
		mkdir(t, root, outside)
		write(t, filepath.Join(outside, "secret"), "secret")
		before := render(t, outside)
		_ = apply(t.Context(), root, bytes.NewReader(b), &budget{bytes: 1 << 20, entries: 1000}, false)
		if after := render(t, outside); after != before {
			t.Errorf("wrote outside the root:\n%s", after)
		}
		checkNoSecret(t, root, outside)
		if list, err := os.ReadDir(base); err != nil || len(list) != 2 {
			t.Errorf("wrote outside the root: %v, %v", list, err)
		}
	})
}

// FuzzEntries makes a well-formed archive of hostile names.
func FuzzEntries(f *testing.F) {
	f.Add("l", "../outside", "l/secret", byte(tar.TypeSymlink), byte(tar.TypeReg))
	f.Add("d/../l", "/", "l/.wh.secret", byte(tar.TypeLink), byte(tar.TypeDir))
	f.Fuzz(func(t *testing.T, name1, target, name2 string, kind1, kind2 byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range []*tar.Header{
			{Name: name1, Linkname: target, Typeflag: kind1, Mode: 0o755},
			{Name: name2, Linkname: name1, Typeflag: kind2, Mode: 0o755},
		} {
			if w.WriteHeader(h) != nil {
				return
			}
		}
		if w.Close() != nil {
			return
		}
		base := t.TempDir()
		root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
		mkdir(t, root, outside)
		write(t, filepath.Join(outside, "secret"), "secret")
		before := render(t, outside)
		_ = apply(t.Context(), root, &b, bigBudget(), false)
		if after := render(t, outside); after != before {
			t.Errorf("wrote outside the root:\n%s", after)
		}
		checkNoSecret(t, root, outside)
	})
}
