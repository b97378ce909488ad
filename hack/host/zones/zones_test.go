package zones

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"reddwarf.io/reddwarf/hack/host/program"
)

// host is a model under test with its files.
type host struct {
	*Model
	t       *testing.T
	backend *Memory
	paths   *MemoryPaths
	files   fstest.MapFS
}

func newHost(t *testing.T, d Distro, edit ...func(*Config)) *host {
	h := &host{t: t, backend: NewMemory(), paths: NewMemoryPaths(), files: fstest.MapFS{}}
	c := Config{Distro: d, Backend: h.backend, Paths: h.paths}
	for _, f := range edit {
		f(&c)
	}
	h.Model = New(c)
	t.Cleanup(h.Close)
	return h
}

type testFiles struct{ fstest.MapFS }

func (f testFiles) Open(path string) (io.ReadCloser, error) {
	return f.MapFS.Open(strings.TrimPrefix(path, "/"))
}

func (f testFiles) Lstat(path string) (fs.FileInfo, error) {
	return fs.Stat(f.MapFS, strings.TrimPrefix(path, "/"))
}

type result struct {
	out, err string
	code     int
}

func (h *host) runWith(ctx context.Context, stdin string, argv ...string) result {
	h.t.Helper()
	var out, errOut bytes.Buffer
	cmd, ok := h.Commands()[argv[0]]
	if !ok {
		h.t.Fatalf("no command %s", argv[0])
	}
	code := cmd(ctx, &program.Invocation{Argv: argv, Dir: "/", Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut, Files: testFiles{h.files}})
	return result{out.String(), errOut.String(), code}
}

// terminal runs a command whose standard input is a terminal.
func (h *host) terminal(argv []string, typed string) result {
	h.t.Helper()
	var out, errOut bytes.Buffer
	code := h.Commands()[argv[0]](h.t.Context(), &program.Invocation{Argv: argv, Dir: "/", Stdin: strings.NewReader(typed),
		Stdout: &out, Stderr: &errOut, Terminal: true, Files: testFiles{h.files}})
	return result{out.String(), errOut.String(), code}
}

func (h *host) run(argv ...string) result { h.t.Helper(); return h.runWith(h.t.Context(), "", argv...) }

// must runs a command that succeeds and returns its output.
func (h *host) must(argv ...string) string {
	h.t.Helper()
	r := h.run(argv...)
	if r.code != 0 {
		h.t.Fatalf("%q: exit code %d, stderr:\n%s", argv, r.code, r.err)
	}
	return r.out
}

// file writes a file of the host.
func (h *host) file(path, text string) {
	h.files[strings.TrimPrefix(path, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
}

const podConfig = `create -b
set brand=lx
set zonepath=/rpool/reddwarf/pods/1
set autoboot=false
set ip-type=exclusive
set max-processes=1000
add net
set physical=rdw1
set allowed-address=10.244.1.2/24
set defrouter=10.244.1.1
end
add fs
set dir=/sbin/init
set special=/opt/reddwarf/lib/podinit-linux
set type=lofs
add options ro
end
add fs
set dir=/c/main
set special=rpool/reddwarf/pods/1/c-main
set type=zfs
end
add attr
set name=docker
set type=boolean
set value=true
end
add attr
set name=reddwarf-uid
set type=string
set value=1
end
add capped-cpu
set ncpus=0.29
end
add capped-memory
set swap=256M
end
`

// TestPodLifecycle is the life of a pod's zone as the agent drives it.
func TestPodLifecycle(t *testing.T) {
	for _, d := range []Distro{OmniOS, SmartOS} {
		t.Run(string(d), func(t *testing.T) {
			h := newHost(t, d)
			h.file("/tmp/z", podConfig)
			h.must("zonecfg", "-z", "rdw-1", "-f", "/tmp/z")
			h.must("zoneadm", "-z", "rdw-1", "mark", "-F", "installed")
			h.must("zoneadm", "-z", "rdw-1", "boot")
			box, ok := h.backend.Sandbox(1)
			if !ok {
				t.Fatal("no sandbox with id 1")
			}
			if box.Caps.CPU != 29 || box.Caps.Swap != 256<<20 || box.Caps.MaxProcesses != 1000 || box.Caps.MaxLWPs != 10000 {
				t.Errorf("caps = %+v", box.Caps)
			}
			if len(box.Mounts) != 2 || box.Mounts[0].Dir != "/c/main" || box.Mounts[0].Special != "/rpool/reddwarf/pods/1/c-main" {
				t.Errorf("mounts = %+v", box.Mounts)
			}
			list := h.must("zoneadm", "list", "-cp")
			if !strings.Contains(list, "1:rdw-1:running:/rpool/reddwarf/pods/1:") {
				t.Errorf("list:\n%s", list)
			}
			h.backend.OnEnter = func(_ context.Context, _ int, e Entry) (int, error) {
				io.WriteString(e.Stdout, strings.Join(e.Argv, "|"))
				return 7 << 8, nil
			}
			if r := h.run("zlogin", "rdw-1", "/sbin/podinit channel"); r.code != 7 || r.out != "/usr/bin/su|root|-c|/sbin/podinit channel" {
				t.Errorf("zlogin: %+v", r)
			}
			h.must("zoneadm", "-z", "rdw-1", "halt")
			h.must("zoneadm", "-z", "rdw-1", "mark", "-F", "configured")
			h.must("zonecfg", "-z", "rdw-1", "delete", "-F")
			if list := h.must("zoneadm", "list", "-cp"); strings.Count(list, "\n") != 1 {
				t.Errorf("list after delete:\n%s", list)
			}
		})
	}
}

// TestZonecfgDialogue: with a terminal zonecfg prompts and asks.
func TestZonecfgDialogue(t *testing.T) {
	h := newHost(t, OmniOS)
	zonecfg := []string{"zonecfg", "-z", "web"}
	for _, tt := range []struct {
		name, typed, out string
		code             int
	}{
		{"create", "create -b\nset zonepath=/zones/web\nadd attr\nset name=a; set type=string\nset value=b\nend\nexit\n",
			"Use 'create' to begin configuring a new zone.\nzonecfg:web> zonecfg:web> zonecfg:web> zonecfg:web:attr> zonecfg:web:attr> zonecfg:web:attr> zonecfg:web> ", 0},
		{"no", "delete\nmaybe\nno\ninfo autoboot\n", "zonecfg:web> Are you sure you want to delete zone web (y/[n])? " +
			"Are you sure you want to delete zone web (y/[n])? zonecfg:web> autoboot: false\nzonecfg:web> ", 0},
		{"quit an open resource", "add net\nexit\ny\n", "zonecfg:web> zonecfg:web:net> Resource incomplete; really quit (y/[n])? ", 1},
		{"go on", "create\nn\nset brand=no\nexit\n\nset brand=lx\nexit\n", "zonecfg:web> Zone web already exists; create anyway (y/[n])? zonecfg:web> zonecfg:web> " +
			"Configuration not saved; really quit (y/[n])? zonecfg:web> zonecfg:web> ", 1},
		{"yes", "delete\ny\n", "zonecfg:web> Are you sure you want to delete zone web (y/[n])? zonecfg:web> ", 0},
	} {
		if r := h.terminal(zonecfg, tt.typed); r.out != tt.out || r.code != tt.code {
			t.Errorf("%s: exit code %d, stdout:\n%q\nwant %d:\n%q\nstderr: %s", tt.name, r.code, r.out, tt.code, tt.out, r.err)
		}
	}
	if r := h.run("zonecfg", "-z", "web", "info"); r.code != 1 {
		t.Errorf("the zone is still there: %+v", r)
	}
}
