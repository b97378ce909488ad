//go:build linux

package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
)

func TestWalkStaysBelowItsRoot(t *testing.T) {
	outside := t.TempDir()
	root := t.TempDir()
	for link, to := range map[string]string{
		"abs": outside, "rel": "../../../../../../../../" + outside, "loop": "loop", "in": "a/b", "back": "a/../a/b/..", "dev": "/a/b/file",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "a/b"), 0o755), os.WriteFile(filepath.Join(root, "a/b/file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		last kind
		want string // below root; empty for an error
	}{
		{"", existing, "."}, {"/", existing, "."}, {"../../..", existing, "."}, {"a/./b//", existing, "a/b"},
		{"in/file", existing, "a/b/file"}, {"back/b/file", existing, "a/b/file"}, {"dev", existing, "a/b/file"},
		{"dev/x", directory, ""}, {"loop", directory, ""}, {"missing", existing, ""},
		{"abs/made", directory, outside + "/made"}, {"rel/made/too", file, outside + "/made/too"},
		{"new/dir/f", file, "new/dir/f"}, {"a/b/file", directory, "a/b/file"},
	} {
		p, err := walk(root, tt.path, tt.last)
		if (err == nil) != (tt.want != "") {
			t.Errorf("walk(%q) = %+v, %v", tt.path, p, err)
			continue
		}
		if err != nil {
			continue
		}
		if want := filepath.Join(root, tt.want); p.path != want {
			t.Errorf("walk(%q) is at %s, want %s", tt.path, p.path, want)
		}
		a, err1 := os.Stat(p.path)
		b, err2 := os.Stat(p.name())
		if err1 != nil || err2 != nil || !os.SameFile(a, b) {
			t.Errorf("walk(%q): the pin names something else: %v, %v", tt.path, err1, err2)
		}
		p.close()
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("THE OUTSIDE WAS CHANGED: %v, %v", left, err)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add("a/../../b", "../../x")
	f.Fuzz(func(t *testing.T, path, link string) {
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if os.Symlink(link, filepath.Join(root, "l")) != nil {
			return
		}
		if p, err := walk(root, "l/"+path, directory); err == nil {
			if p.path != root && !strings.HasPrefix(p.path, root+"/") {
				t.Errorf("walk is at %s", p.path)
			}
			p.close()
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("THE OUTSIDE WAS CHANGED: %v, %v", left, err)
		}
	})
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat(5, []byte("5 (a) (b c)) S 2 3 4 0 -1"))
	if want := (proc{pid: 5, ppid: 2, pgid: 3, sid: 4}); !ok || p != want {
		t.Errorf("parseStat = %+v, %v", p, ok)
	}
	p, ok = parseStat(5, []byte("5 (a) S 2 3 4 0 -1 0 1 1 1 1 10 20 30 40 20 0 1 0 7 4096 3 18446744073709551615"))
	if !ok || p.cpu != time.Second || p.rss != 3*uint64(os.Getpagesize()) {
		t.Errorf("parseStat = %+v, %v; want 1 s and 3 pages", p, ok)
	}
	for _, bad := range []string{"", "5 a", "5 (a) S 1", "5 (a) S x 2 3", "5 (a) Z 1 2 3 4", "5 (a) X 1 2 3 4"} {
		if p, ok := parseStat(5, []byte(bad)); ok {
			t.Errorf("parseStat(%q) = %+v", bad, p)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("5 (a) (b c)) S 2 3 4 0 -1"))
	f.Fuzz(func(_ *testing.T, data []byte) { parseStat(1, data) })
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\011\134x`: "/a\t\\x", `/a\9`: `/a\9`, `/a\04`: `/a\04`, "/plain": "/plain"} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	dirs := []string{"/c/web"}
	for path, want := range map[string]bool{"/c/web": true, "/c/web/x": true, "/c/web (deleted)": true, "/c/web2": false, "/c": false, "/": false, "": false} {
		if got := within(path, dirs); got != want {
			t.Errorf("within(%q) = %v", path, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for _, tt := range []struct {
		add, drop []string
		want      uint64
	}{
		{nil, nil, 0xa80425fb},
		{nil, []string{"ALL"}, 0},
		{[]string{"chown"}, []string{"ALL"}, 1},
		{[]string{"ALL"}, nil, allCaps},
		{[]string{"ALL"}, []string{"CAP_CHOWN"}, allCaps &^ 1},
		{nil, []string{"CHOWN", "KILL"}, 0xa80425fb &^ (1 | 1<<5)},
	} {
		got, err := capabilities(podinit.Container{AddCapabilities: tt.add, DropCapabilities: tt.drop})
		if err != nil || got != tt.want {
			t.Errorf("add %v, drop %v: %x, %v; want %x", tt.add, tt.drop, got, err, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"A=1", "broken", "=x", "B=2=3", "A=4", "E="}, "/home/x", true)
	want := []string{"A=4", "B=2=3", "E=", "PATH=" + defaultPath, "HOME=/home/x", "TERM=xterm"}
	if !slices.Equal(got, want) {
		t.Errorf("environment = %q, want %q", got, want)
	}
}

func TestSignalNumber(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "37": 37, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMAX-1": 63,
		"SIGCLD": syscall.SIGCHLD, "SIGIOT": syscall.SIGABRT, "SIGPOLL": syscall.SIGIO, "SIGSTKFLT": 16, "SIGRTMIN+15": 49, "SIGRTMAX-14": 50,
		"SIGRTMIN-1": 0, "SIGRTMAX+1": 0, "SIGRTMIN+99": 0, "SIGNOPE": 0, "SIGRTMINx": 0,
	} {
		got, ok := signalNumber(podinit.Signal(in))
		if ok != (want != 0) || ok && got != want {
			t.Errorf("signalNumber(%s) = %d, %v", in, got, ok)
		}
	}
}

func TestOutcome(t *testing.T) {
	for status, want := range map[syscall.WaitStatus][2]int{0: {0, 0}, 7 << 8: {7, 0}, 9: {137, 9}, 11 | 0x80: {139, 11}} {
		if code, sig := outcome(status); code != want[0] || sig != want[1] {
			t.Errorf("outcome(%x) = %d, %d", status, code, sig)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n", "web")
	f.Add("a:b:99999999999999999999:-1\n::::::\n#x\n", "a:b")
	f.Fuzz(func(t *testing.T, passwd, user string) {
		var a accounts
		if eachLine(strings.NewReader(passwd), a.addUser) != nil {
			return
		}
		id, err := a.identify(podinit.Container{User: user})
		if err == nil && (id.UID < 0 || id.GID < 0 || id.UID > 1<<31-1 || id.GID > 1<<31-1) {
			t.Errorf("%q becomes %+v", user, id)
		}
	})
}
