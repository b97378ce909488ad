package supervisor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"reddwarf.io/reddwarf/zones/podinit"
)

// describe lists what is in dir: mode, group and name.
func describe(t *testing.T, dir string) string {
	t.Helper()
	text := ""
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		mode := info.Mode().String()
		if info.Mode()&fs.ModeSymlink != 0 {
			mode = "link"
		}
		text += fmt.Sprintf("%s %d %s\n", mode, info.Sys().(*syscall.Stat_t).Gid, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReadyVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	group, sticky := int64(4711), int32(0o1755)
	for _, tt := range []struct {
		name string
		mode fs.FileMode
		own  int // owner of the root
		v    podinit.Volume
		want string
	}{
		{"new", 0o755, 0, podinit.Volume{}, "drwxrwxrwx 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"tmpfs", 0o777 | fs.ModeSticky, 0, podinit.Volume{}, "dtrwxrwxrwx 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"changed by a container", 0o700, 0, podinit.Volume{}, "drwx------ 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"given away by a container", 0o755, 5, podinit.Volume{}, "drwxr-xr-x 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"mode", 0o755, 0, podinit.Volume{Mode: &sticky}, "dtrwxr-xr-x 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"mode, changed by a container", 0o700, 0, podinit.Volume{Mode: &sticky}, "drwx------ 0 .\n-rw-r--r-- 0 file\nlink 0 link\ndrwxr-xr-x 0 sub\n-rw------- 0 sub/own\n"},
		{"group", 0o755, 0, podinit.Volume{Group: &group}, "dgrwxrwxrwx 4711 .\n-rw-rw-r-- 4711 file\nlink 4711 link\ndgrwxrwxr-x 4711 sub\n-rw-rw---- 4711 sub/own\n"},
		{"group, the root differs", 0o755, 0, podinit.Volume{Group: &group, RootOnly: true}, "dgrwxrwxrwx 4711 .\n-rw-rw-r-- 4711 file\nlink 4711 link\ndgrwxrwxr-x 4711 sub\n-rw-rw---- 4711 sub/own\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			dir, outside := filepath.Join(base, "v"), filepath.Join(base, "outside")
			for _, step := range []error{
				os.WriteFile(outside, nil, 0o600), os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
				os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.WriteFile(filepath.Join(dir, "sub/own"), nil, 0o600),
				os.Symlink("../outside", filepath.Join(dir, "link")), os.Chmod(dir, tt.mode), os.Chown(dir, tt.own, 0),
			} {
				if step != nil {
					t.Fatal(step)
				}
			}
			if err := readyVolume(dir, tt.v); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, dir); got != tt.want {
				t.Errorf("volume is\n%swant\n%s", got, tt.want)
			}
			if got := describe(t, outside); got != "-rw------- 0 .\n" {
				t.Errorf("A FILE OUTSIDE WAS CHANGED: %s", got)
			}
		})
	}
}

// TestReadyVolumeTrustsTheRoot: with RootOnly, what a group has already is not
// looked through again.
func TestReadyVolumeTrustsTheRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	group := int64(4711)
	dir := t.TempDir()
	v := podinit.Volume{Group: &group, RootOnly: true}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := readyVolume(dir, v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := describe(t, dir)
	if err := readyVolume(dir, v); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, dir); got != before {
		t.Errorf("changed from\n%sto\n%s", before, got)
	}
	v.RootOnly = false
	if err := readyVolume(dir, v); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, dir); got == before {
		t.Error("a recursive change changed nothing")
	}
}
