package zfs

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

var update = flag.Bool("update", false, "rewrite the transcripts from what the commands say")

// noFiles is a host without files.
type noFiles struct{}

func (noFiles) Open(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
func (noFiles) Lstat(string) (fs.FileInfo, error)  { return nil, fs.ErrNotExist }

// fixed is a clock that stands still.
func fixed() time.Time { return time.Date(2026, 1, 5, 6, 7, 8, 0, time.Local) }

// newModel returns a started pool without contents.
func newModel(t testing.TB) *Model {
	t.Helper()
	m := New(Config{Size: 10 << 30, Clock: fixed})
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// result is what one command did.
type result struct {
	out, err string
	code     int
}

// String is how transcripts show it: standard error with "! " before it.
func (r result) String() string {
	var b strings.Builder
	b.WriteString(r.out)
	for line := range strings.Lines(r.err) {
		b.WriteString("! " + line)
	}
	if r.code != 0 {
		fmt.Fprintf(&b, "exit %d\n", r.code)
	}
	return b.String()
}

// do runs one command line of words without quoting; "\t" and "_" stand for
// themselves.
func do(t testing.TB, m *Model, line string) result {
	t.Helper()
	var out, errs bytes.Buffer
	inv := &program.Invocation{
		Argv: strings.Fields(line), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Files: noFiles{},
	}
	cmd := m.Commands()[inv.Argv[0]]
	if cmd == nil {
		t.Fatalf("no command %q", inv.Argv[0])
	}
	code := cmd(t.Context(), inv)
	return result{out.String(), errs.String(), code}
}

// ok runs a command that must succeed silently on standard error.
func ok(t testing.TB, m *Model, line string) string {
	t.Helper()
	r := do(t, m, line)
	if r.code != 0 || r.err != "" {
		t.Fatalf("%s:\n%s", line, r)
	}
	return r.out
}

// TestTranscripts replays testdata/*.txt: every line that begins with "$ " is
// a command, what follows is what it prints; "#" begins a comment. Lines of
// usage texts after the first are left out as "...". "$ source DATASET ZONE"
// and "$ release ZONE" are what zones do.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("transcript differs:\n%s", got)
			}
		})
	}
}

func replay(t *testing.T, script string) string {
	m := newModel(t)
	var b strings.Builder
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, "$ "):
			b.WriteString(line)
			b.WriteString(shorten(step(t, m, strings.TrimSpace(line[2:]))))
		case strings.HasPrefix(line, "#"):
			b.WriteString(line)
		}
	}
	return b.String()
}

func step(t *testing.T, m *Model, line string) string {
	words := strings.Fields(line)
	switch words[0] {
	case "source":
		dir, err := m.Source(words[1], words[2])
		if err != nil {
			return "! " + err.Error() + "\n"
		}
		return dir + "\n"
	case "release":
		m.Release(words[1])
		return ""
	case "reboot":
		if err := m.Reboot(t.Context()); err != nil {
			return "! " + err.Error() + "\n"
		}
		return ""
	}
	return do(t, m, line).String()
}

// shorten leaves out the body of a usage text.
func shorten(s string) string {
	i := strings.Index(s, "! usage:")
	if i < 0 {
		return s
	}
	head := s[:i] + "! usage: ...\n"
	if j := strings.LastIndex(s, "exit "); j > i {
		head += s[j:]
	}
	return head
}

func TestSaveLoadReboot(t *testing.T) {
	m := newModel(t)
	for _, line := range []string{
		"zfs create -o io.reddwarf:uid=7 -o quota=1G rpool/a", "zfs create -o canmount=noauto rpool/a/b",
		"zfs mount rpool/a/b", "zfs snapshot -r rpool/a@s", "zfs hold keep rpool/a@s", "zfs clone rpool/a@s rpool/c",
	} {
		ok(t, m, line)
	}
	data, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	again := New(Config{Size: 10 << 30, Clock: fixed})
	if err := again.Load(data); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"zfs get -H all rpool/a", "zfs list -t all -o name,used,origin,mountpoint,mounted", "zfs holds rpool/a@s"} {
		if got, want := ok(t, again, line), ok(t, m, line); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", line, got, want)
		}
	}
	if err := again.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := ok(t, again, "zfs get -Ho value mounted rpool/a rpool/a/b"), "yes\nno\n"; got != want {
		t.Errorf("mounted after reboot: %q, want %q", got, want)
	}
	if err := New(Config{Pool: "tank"}).Load(data); err == nil {
		t.Error("state of another pool was loaded")
	}
}

func TestBackendErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{ErrNoSpace, "! cannot create 'rpool/x': out of space\nexit 1\n"},
		{ErrBusy, "! cannot create 'rpool/x': dataset is busy\nexit 1\n"},
		{Refused("no"), "! simulated host: no\nexit 1\n"},
		{errors.New("odd"), "! simulated host: odd\n! cannot create 'rpool/x': I/O error\nexit 1\n"},
	} {
		m := New(Config{Backend: failing{err: tt.err}, Clock: fixed})
		if got := do(t, m, "zfs create rpool/x").String(); !strings.Contains(got, "no such pool") {
			t.Errorf("before Start: %s", got)
		}
		m.backend = memory{}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.backend = failing{err: tt.err}
		if got := do(t, m, "zfs create rpool/x").String(); got != tt.want {
			t.Errorf("got %s want %s", got, tt.want)
		}
		if got := ok(t, m, "zfs list -Ho name"); got != "rpool\n" {
			t.Errorf("left behind: %s", got)
		}
	}
}

// BenchmarkList lists a host with 300 pods.
func BenchmarkList(b *testing.B) {
	m := newModel(b)
	ok(b, m, "zfs create rpool/img")
	ok(b, m, "zfs snapshot rpool/img@image")
	for i := range 300 {
		pod := fmt.Sprintf("rpool/p%d", i)
		ok(b, m, "zfs create -o quota=1G "+pod)
		ok(b, m, "zfs clone -o mountpoint=legacy rpool/img@image "+pod+"/c")
		ok(b, m, "zfs snapshot "+pod+"/c@start")
	}
	for b.Loop() {
		ok(b, m, "zfs list -Hp -o name,used,available,io.reddwarf:uid -r -t all rpool")
	}
}
