package logs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSize(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for path, size := range map[string]int{secret: 1 << 20, filepath.Join(dir, "web", "0.log"): 100, filepath.Join(dir, "web", "0.log.1"): 23} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"web/1.log": secret, "out": filepath.Dir(secret)} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Size(dir, "web"); err != nil || n != 123 {
		t.Errorf("size = %d, %v; want 123: a planted link does not count", n, err)
	}
	if n, err := Size(dir, "none"); err != nil || n != 0 {
		t.Errorf("without logs: %d, %v", n, err)
	}
	if n, err := Size(dir, "out"); err == nil {
		t.Errorf("a link in place of the directory: %d, want an error", n)
	}
}
