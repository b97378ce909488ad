package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// kubernetesFrom has small files for the programs that the real ones are built of.
func kubernetesFrom(t *testing.T) Kubernetes {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"agnhost": "agnhost", "nnp": "nnp", "images/kitten/html/data.json": "{}",
		"images/agnhost/porter/localhost.crt": "crt", "images/agnhost/porter/localhost.key": "key",
		"tools/bin/bash-static": "bash", "tools/bin/nc.openbsd": "nc", "tools/usr/bin/dig": "dig", "tools/lib/libx.so.1.2": "x",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil { //nolint:gosec // programs are executable
			t.Fatal(err)
		}
	}
	if err := os.Symlink("libx.so.1.2", filepath.Join(dir, "tools/lib/libx.so.1")); err != nil {
		t.Fatal(err)
	}
	return Kubernetes{
		Agnhost: filepath.Join(dir, "agnhost"), NNP: filepath.Join(dir, "nnp"),
		Sources: filepath.Join(dir, "images"), Tools: filepath.Join(dir, "tools"),
	}
}

func TestKubernetesImages(t *testing.T) {
	if _, err := os.Stat(BusyboxPath); err != nil {
		t.Skip("needs busybox-static")
	}
	k := kubernetesFrom(t)
	plain := k
	plain.Tools = ""
	for _, tt := range []struct {
		name  string
		build func() (v1.Image, error)
		want  map[string]string
	}{
		{"agnhost", k.AgnhostImage, map[string]string{
			"agnhost": "agnhost", "localhost.crt": "crt", "localhost.key": "key", "agnhost-2": "-> agnhost", "usr/bin/dig": "dig", "bin/nc": "-> nc.openbsd",
			"lib/libx.so.1": "-> libx.so.1.2", "lib/libx.so.1.2": "x", "bin/sh": "-> bash-static",
		}},
		{"agnhost without tools", plain.AgnhostImage, map[string]string{"agnhost": "agnhost", "usr/bin/dig": ""}},
		{"kitten", k.KittenImage, map[string]string{"data.json": "{}", "agnhost": "agnhost"}},
		{"nonewprivs", k.NoNewPrivsImage, map[string]string{"usr/local/bin/nnp": "nnp"}},
		{"busybox", k.BusyboxImage, map[string]string{"bin/sh": "bash", "bin/ls": "-> busybox"}},
		{"glibc", k.GlibcImage, map[string]string{"usr/bin/dig": "dig", "agnhost": ""}},
		{"nginx", k.NginxImage, map[string]string{"var/log/nginx": "dir"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img, err := tt.build()
			if err != nil {
				t.Fatal(err)
			}
			got := members(t, img)
			for path, want := range tt.want {
				if got[path] != want {
					t.Errorf("%s is %q, want %q", path, got[path], want)
				}
			}
			if !strings.HasPrefix(got["bin/busybox"], "\x7fELF") {
				t.Error("bin/busybox is no program")
			}
		})
	}
	if _, err := (Kubernetes{Tools: "/no/such/folder"}).GlibcImage(); err == nil {
		t.Error("an image without its programs was built")
	}
}
