package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// entry is one entry of a test archive, short to write.
type entry struct {
	name, link, body string
	kind             byte // 0 means a file
	mode             int64
	uid, gid         int
	time             time.Time
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode,
			Size: int64(len(e.body)), Uid: e.uid, Gid: e.gid, ModTime: e.time,
		}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if e.mode == 0 {
			h.Mode = 0o644
			if e.kind == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("entry %q: %v", e.name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatalf("entry %q: %v", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, body string) entry { return entry{name: name, body: body} }
func dir(name string) entry        { return entry{name: name, kind: tar.TypeDir} }
func link(name, to string) entry   { return entry{name: name, link: to, kind: tar.TypeSymlink} }
func hard(name, to string) entry   { return entry{name: name, link: to, kind: tar.TypeLink} }
func white(name string) entry      { return entry{name: name} }

func bigBudget() *budget { return &budget{bytes: 1 << 30, entries: 1 << 20} }

// isRoot is whether owners can be given away here.
func isRoot() bool { return os.Geteuid() == 0 }

// layers applies archives one after the other and returns the first error.
func layers(t testing.TB, root string, archives ...[]byte) error {
	t.Helper()
	for _, a := range archives {
		if err := apply(t.Context(), root, bytes.NewReader(a), bigBudget(), isRoot()); err != nil {
			return err
		}
	}
	return nil
}

// render shows a directory as "path kind content" lines, links unresolved.
func render(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		switch {
		case rel == ".":
		case d.IsDir():
			b.WriteString(rel + "/\n")
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			b.WriteString(rel + " -> " + to + "\n")
		default:
			body, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(rel + " = " + string(body) + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }

func TestApply(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers [][]entry
		want   string
	}{
		{"files and missing parents", [][]entry{{file("a/b/c", "1"), dir("d/"), file("./e", "2"), file("/f", "3")}},
			lines("a/", "a/b/", "a/b/c = 1", "d/", "e = 2", "f = 3")},
		{"root entry", [][]entry{{dir("./"), file("a", "1")}}, lines("a = 1")},
		{"later layer replaces", [][]entry{{file("a", "1"), file("d/x", "1")}, {file("a", "2"), file("d", "3")}},
			lines("a = 2", "d = 3")},
		{"file becomes directory", [][]entry{{file("a", "1")}, {dir("a"), file("a/b", "2")}}, lines("a/", "a/b = 2")},
		{"link becomes directory", [][]entry{{dir("x"), file("x/keep", "1"), link("a", "x")}, {dir("a"), file("a/b", "2")}},
			lines("a/", "a/b = 2", "x/", "x/keep = 1")},
		{"directory stays when listed again", [][]entry{{file("a/b", "1")}, {dir("a"), file("a/c", "2")}},
			lines("a/", "a/b = 1", "a/c = 2")},
		{"last of two entries wins", [][]entry{{file("a", "1"), file("a", "2")}}, lines("a = 2")},
		{"links are kept as they are", [][]entry{{link("a", "../../../x"), link("b", "/etc/passwd"), link("c", "none")}},
			lines("a -> ../../../x", "b -> /etc/passwd", "c -> none")},
		{"through relative link", [][]entry{{dir("usr/lib"), link("lib", "usr/lib")}, {file("lib/x", "1")}},
			lines("lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/x = 1")},
		{"through absolute link", [][]entry{{dir("run"), link("var/run", "/run")}, {file("var/run/x", "1")}},
			lines("run/", "run/x = 1", "var/", "var/run -> /run")},
		{"through dangling link", [][]entry{{link("a", "/b/c")}, {file("a/x", "1")}},
			lines("a -> /b/c", "b/", "b/c/", "b/c/x = 1")},
		{"whiteout", [][]entry{{file("a", "1"), file("d/e/f", "1")}, {white(".wh.a"), white("d/.wh.e"), white(".wh.never")}},
			lines("d/")},
		{"whiteout in absent directory", [][]entry{{file("a", "1")}, {white("x/.wh.y")}}, lines("a = 1")},
		{"whiteout of a link, not its target", [][]entry{{file("d/x", "1"), link("a", "d")}, {white(".wh.a")}},
			lines("d/", "d/x = 1")},
		{"whiteout before and after the new file", [][]entry{{file("a", "1"), file("b", "1")},
			{white(".wh.a"), file("a", "2"), file("b", "2"), white(".wh.b")}}, lines("a = 2", "b = 2")},
		{"whiteout after new directory hides the old content", [][]entry{{file("d/old", "1")},
			{file("d/new", "2"), white(".wh.d")}}, lines("d/", "d/new = 2")},
		{"opaque first", [][]entry{{file("d/old", "1"), file("d/s/old", "1")}, {white("d/.wh..wh..opq"), file("d/new", "2")}},
			lines("d/", "d/new = 2")},
		{"opaque last", [][]entry{{file("d/old", "1"), file("d/s/old", "1")}, {file("d/s/new", "2"), white("d/.wh..wh..opq")}},
			lines("d/", "d/s/", "d/s/new = 2")},
		{"opaque root", [][]entry{{file("a", "1")}, {file("b", "2"), white(".wh..wh..opq")}}, lines("b = 2")},
		{"aufs metadata", [][]entry{{file("a", "1"), white(".wh..wh.plnk"), white(".wh..wh.aufs")}}, lines("a = 1")},
		{"hard links", [][]entry{{file("a", "1"), hard("d/b", "a")}, {hard("c", "/a")}},
			lines("a = 1", "c = 1", "d/", "d/b = 1")},
		{"hard link to itself", [][]entry{{file("a", "1"), hard("a", "./a")}}, lines("a = 1")},
		{"hard link to a link", [][]entry{{link("a", "/etc/shadow"), hard("b", "a")}}, lines("a -> /etc/shadow", "b -> /etc/shadow")},
		{"replaced file keeps its other names", [][]entry{{file("a", "1"), hard("b", "a")}, {file("a", "2")}},
			lines("a = 2", "b = 1")},
		{"devices and pipes are left out", [][]entry{{entry{name: "null", kind: tar.TypeChar}, entry{name: "sda", kind: tar.TypeBlock},
			entry{name: "pipe", kind: tar.TypeFifo}, file("a", "1")}}, lines("a = 1")},
		{"odd names", [][]entry{{file("a b\n'\"$(x)", "1"), file("-rf", "2"), file("ü", "3")}},
			lines("-rf = 2", "a b\n'\"$(x) = 1", "ü = 3")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, l := range tt.layers {
				if err := layers(t, root, archive(t, l...)); err != nil {
					t.Fatal(err)
				}
			}
			if got := render(t, root); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// TestApplyEscapes tries what crafted layers have done to other programs.
// Whether a layer is refused or comes out harmless does not matter: nothing
// outside the root may change, and no secret from outside may come in.
func TestApplyEscapes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		layers  func(outside string) [][]entry
		refused bool
	}{
		{"dot-dot", one(func(o string) []entry { return []entry{file("../outside/owned", "x")} }), true},
		{"dot-dot deep", one(func(o string) []entry { return []entry{file("a/../../outside/owned", "x")} }), true},
		{"absolute name", one(func(o string) []entry { return []entry{file(o+"/owned", "x")} }), false},
		{"link then write through it", one(func(o string) []entry {
			return []entry{link("l", o), file("l/owned", "x")}
		}), false},
		{"relative link then write", one(func(o string) []entry {
			return []entry{link("l", "../outside"), file("l/owned", "x")}
		}), false},
		{"link at the end", one(func(o string) []entry {
			return []entry{link("l", o+"/secret"), file("l", "x")}
		}), false},
		{"link in a lower layer", func(o string) [][]entry {
			return [][]entry{{link("l", o)}, {file("l/secret", "x"), dir("l/newdir")}}
		}, false},
		{"chain of links", one(func(o string) []entry {
			return []entry{dir("d"), link("d/up", ".."), link("d/l", "up/up/../outside"), file("d/l/owned", "x")}
		}), false},
		{"link to the root's parent", one(func(o string) []entry {
			return []entry{link("l", "."), link("m", "l/.."), file("m/outside/owned", "x")}
		}), false},
		{"loop", one(func(o string) []entry { return []entry{link("a", "b"), link("b", "a"), file("a/x", "x")} }), true},
		{"hard link to a host file", one(func(o string) []entry {
			return []entry{hard("l", o+"/secret")}
		}), true},
		{"hard link with dot-dot", one(func(o string) []entry { return []entry{hard("l", "../outside/secret")} }), true},
		{"hard link through a link", one(func(o string) []entry {
			return []entry{link("d", o), hard("l", "d/secret"), file("l", "x")}
		}), true},
		{"hard link to a link, then write", one(func(o string) []entry {
			return []entry{link("s", o+"/secret"), hard("l", "s"), file("l", "x")}
		}), false},
		{"hard link to a directory", one(func(o string) []entry { return []entry{dir("d"), hard("l", "d")} }), true},
		{"hard link into a linked directory", one(func(o string) []entry {
			return []entry{file("a", "1"), link("d", o), hard("d/owned", "a")}
		}), false},
		{"whiteout of dot-dot", one(func(o string) []entry { return []entry{white(".wh...")} }), true},
		{"whiteout of dot", one(func(o string) []entry { return []entry{white("d/.wh..")} }), false},
		{"whiteout of nothing", one(func(o string) []entry { return []entry{white(".wh.")} }), true},
		{"whiteout through a link", one(func(o string) []entry {
			return []entry{link("l", o), white("l/.wh.secret")}
		}), false},
		{"opaque through a link", one(func(o string) []entry {
			return []entry{link("l", o), white("l/.wh..wh..opq")}
		}), false},
		{"opaque directory with a link in it", func(o string) [][]entry {
			return [][]entry{{link("d/l", o)}, {white("d/.wh..wh..opq")}}
		}, false},
		{"directory over a link, then its mode", one(func(o string) []entry {
			return []entry{link("l", o), {name: "l", kind: tar.TypeDir, mode: 0o777}, file("l/owned", "x")}
		}), false},
		{"directory replaced by a link before its mode is set", one(func(o string) []entry {
			return []entry{{name: "l", kind: tar.TypeDir, mode: 0o777}, link("l", o)}
		}), false},
		{"parent replaced by a link after it was used", one(func(o string) []entry {
			return []entry{file("d/x", "1"), link("d", o), file("d/owned", "x")}
		}), false},
		{"path through a file", one(func(o string) []entry { return []entry{file("f", "1"), file("f/x", "x")} }), true},
		{"root as a link", one(func(o string) []entry { return []entry{link("./", o), file("owned", "x")} }), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
			mkdir(t, root, outside)
			write(t, filepath.Join(outside, "secret"), "secret")
			before, state := render(t, outside), stat(t, outside)
			var err error
			for _, l := range tt.layers(outside) {
				if err = layers(t, root, archive(t, l...)); err != nil {
					break
				}
			}
			if after := render(t, outside); after != before || stat(t, outside) != state {
				t.Errorf("wrote outside the root: before\n%safter\n%s", before, after)
			}
			if tt.refused != (err != nil) {
				t.Errorf("err = %v, want refused = %v", err, tt.refused)
			}
			checkNoSecret(t, root, outside)
		})
	}
}

func one(f func(string) []entry) func(string) [][]entry {
	return func(o string) [][]entry { return [][]entry{f(o)} }
}

func stat(t testing.TB, p string) string {
	t.Helper()
	fi, err := os.Lstat(p)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().String()
}

// checkNoSecret fails if a file in root is the same file as one outside.
func checkNoSecret(t testing.TB, root, outside string) {
	t.Helper()
	fi, err := os.Lstat(filepath.Join(outside, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	if n := fi.Sys().(*syscall.Stat_t).Nlink; n != 1 {
		t.Errorf("wrote outside the root: the secret has %d names", n)
	}
}

func mkdir(t testing.TB, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, p, body string) {
	t.Helper()
	if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestApplyAttributes(t *testing.T) {
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	root := t.TempDir()
	err := layers(t, root, archive(t,
		entry{name: "./", kind: tar.TypeDir, mode: 0o711, time: when},
		entry{name: "sbin/su", body: "x", mode: 0o4755, uid: 7, gid: 8, time: when},
		entry{name: "tmp", kind: tar.TypeDir, mode: 0o1777, time: when},
		entry{name: "ro", kind: tar.TypeDir, mode: 0o500, uid: 7, time: when},
		entry{name: "ro/file", body: "x", mode: 0o400, time: when},
		entry{name: "l", link: "x", kind: tar.TypeSymlink, uid: 7, gid: 8},
	))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		mode fs.FileMode
		uid  uint32
		time bool
	}{
		{".", fs.ModeDir | 0o711, 0, true},
		{"sbin/su", fs.ModeSetuid | 0o755, 7, true},
		{"tmp", fs.ModeDir | fs.ModeSticky | 0o777, 0, true},
		{"ro", fs.ModeDir | 0o500, 7, true},
		{"ro/file", 0o400, 0, true},
		{"l", fs.ModeSymlink | 0o777, 7, false},
	} {
		fi, err := os.Lstat(filepath.Join(root, tt.name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != tt.mode {
			t.Errorf("%s: mode %v, want %v", tt.name, fi.Mode(), tt.mode)
		}
		if isRoot() && fi.Sys().(*syscall.Stat_t).Uid != tt.uid {
			t.Errorf("%s: owner %d, want %d", tt.name, fi.Sys().(*syscall.Stat_t).Uid, tt.uid)
		}
		if tt.time && !fi.ModTime().Equal(when) {
			t.Errorf("%s: time %v, want %v", tt.name, fi.ModTime(), when)
		}
	}
}

func TestApplyLimits(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		name    string
		budget  budget
		archive []byte
		want    error
	}{
		{"bytes", budget{bytes: 10, entries: 10}, archive(t, file("a", "0123456"), file("b", "0123456")), ErrTooLarge},
		{"entries", budget{bytes: 10, entries: 1}, archive(t, file("a", ""), file("b", "")), ErrTooLarge},
		{"long component", *bigBudget(), archive(t, file(long, "x")), syscall.ENAMETOOLONG},
		{"long path", *bigBudget(), archive(t, file(strings.Repeat("d/", 3000)+"x", "x")), ErrUnsafe},
		{"owner", *bigBudget(), archive(t, entry{name: "a", uid: 1<<31 - 1 + 1}), ErrUnsupported},
		{"not an archive", *bigBudget(), bytes.Repeat([]byte("no tar "), 200), ErrCorrupt},
		{"cut in a file", *bigBudget(), archive(t, file("a", strings.Repeat("x", 2000)))[:1000], nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := apply(t.Context(), t.TempDir(), bytes.NewReader(tt.archive), &tt.budget, false)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("apply = %v, want %v", err, tt.want)
			}
		})
	}
}
