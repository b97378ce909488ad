package mounts_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/host/mounts"
	"reddwarf.io/reddwarf/hack/host/program"
)

// servers are one that exports /data, one that does not answer, and no other.
type servers struct{}

func (servers) Export(server, dir string) (string, error) {
	switch {
	case server == "away":
		return "", mounts.ErrSilent
	case server != "nas":
		return "", mounts.ErrNoHost
	case dir == "/closed":
		return "", fs.ErrPermission
	case dir != "/data":
		return "", fs.ErrNotExist
	}
	return "/servers/nas/data", nil
}

// files has the paths that are listed.
type files map[string]bool

func (f files) Open(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
func (f files) Lstat(name string) (fs.FileInfo, error) {
	if f[name] {
		return nil, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: syscall.ENOENT}
}

func newModel() *mounts.Model {
	return mounts.New(mounts.Config{
		Servers: servers{}, Clock: func() time.Time { return time.Date(2026, 3, 7, 8, 9, 10, 0, time.UTC) },
		InZone: func(dir string) bool { return dir == "/zoned" },
		Others: func() []mounts.Entry {
			return []mounts.Entry{{Special: "rpool/x", Point: "/x", Type: "zfs", Options: []string{"rw"}, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
		},
	})
}

// TestTranscript replays testdata/mount.txt: a line `$ command` is run, what
// follows is what it prints, errors marked by `! `, and `? N` is its exit code
// where that is not 0.
func TestTranscript(t *testing.T) {
	data, err := os.ReadFile("testdata/mount.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := newModel()
	have := files{"/a": true, "/b": true, "/c": true, "/x": true, "/mnt": true, "/mnt2": true, "/mnt/sub": true, "/zoned": true}
	var got strings.Builder
	for line := range strings.Lines(string(data)) {
		switch {
		case line == "# reboot\n":
			if err := m.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
			got.WriteString(line)
		case strings.HasPrefix(line, "#") || line == "\n":
			got.WriteString(line)
		case strings.HasPrefix(line, "$ "):
			got.WriteString(line)
			run(t, m, have, strings.Fields(line[2:]), &got)
		}
	}
	if got.String() != string(data) {
		t.Errorf("the commands say otherwise:\n%s", got.String())
	}
}

func run(t *testing.T, m *mounts.Model, f files, argv []string, w io.Writer) {
	var out, errOut bytes.Buffer
	code := m.Commands()[argv[0]](t.Context(), &program.Invocation{
		Argv: argv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut, Files: f,
	})
	fmt.Fprint(w, out.String()) //nolint:errcheck // a builder
	for line := range strings.Lines(errOut.String()) {
		fmt.Fprint(w, "! ", line) //nolint:errcheck // a builder
	}
	if code != 0 {
		fmt.Fprintln(w, "?", code) //nolint:errcheck // a builder
	}
}

// TestServerAway shows what hangs: mount tries for ever unless it is told not
// to.
func TestServerAway(t *testing.T) {
	m := newModel()
	ctx, cancel := context.WithCancel(t.Context())
	var errOut bytes.Buffer
	done := make(chan int)
	go func() {
		done <- m.Commands()["mount"](ctx, &program.Invocation{
			Argv: []string{"mount", "-F", "nfs", "away:/data", "/mnt"}, Stdin: strings.NewReader(""),
			Stdout: io.Discard, Stderr: &errOut, Files: files{"/mnt": true},
		})
	}()
	cancel()
	if code := <-done; code == 0 || !strings.Contains(errOut.String(), "nfs mount: retrying: /mnt\n") {
		t.Errorf("exit %d: %s", code, errOut.String())
	}
}
