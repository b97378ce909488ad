package oci_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zfs"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/command"
)

// host runs zfs on the simulated host's model and shows what file systems hold
// as plain directories. A clone is a copy; image datasets do not change once
// they have a snapshot, so the directory of the origin is what is copied.
type host struct {
	model *zfs.Model
	root  string // stands for /rpool/reddwarf

	fail func(cmd string) error // before a command runs; nil for never

	mu  sync.Mutex
	ran []string
}

func newHost(t *testing.T) (*host, *storage.Store) {
	t.Helper()
	h := &host{model: zfs.New(zfs.Config{}), root: filepath.Join(t.TempDir(), "reddwarf")}
	if err := h.model.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := h.store()
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h, s
}

// store returns a new Store, as a restarted agent has.
func (h *host) store() *storage.Store { return storage.New(h, storage.Config{Root: h.root}) }

// Run implements command.Runner.
func (h *host) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	h.mu.Lock()
	h.ran = append(h.ran, cmd.String())
	h.mu.Unlock()
	if h.fail != nil {
		if err := h.fail(cmd.String()); err != nil {
			return nil, err
		}
	}
	var out, errOut bytes.Buffer
	inv := &program.Invocation{
		Argv:  append([]string{cmd.Name}, cmd.Args...),
		Stdin: strings.NewReader(cmd.Stdin), Stdout: &out, Stderr: &errOut,
	}
	if code := h.model.Commands()[cmd.Name](ctx, inv); code != 0 {
		return nil, &command.Error{Cmd: cmd, ExitCode: code, Stdout: out.String(), Stderr: errOut.String(), Err: errors.New("exit status")}
	}
	return out.Bytes(), h.show(cmd.Args)
}

func (h *host) dir(dataset string) string {
	name, _, _ := strings.Cut(dataset, "@")
	return filepath.Join(h.root, strings.TrimPrefix(name, "rpool/reddwarf"))
}

func (h *host) show(args []string) error {
	last := args[len(args)-1]
	switch {
	case slices.Contains(args, "mountpoint=legacy"):
	case args[0] == "create":
		return os.MkdirAll(h.dir(last), 0o755)
	case args[0] == "clone":
		return copyTree(h.dir(args[len(args)-2]), h.dir(last))
	case args[0] == "destroy":
		return os.RemoveAll(h.dir(last))
	}
	return nil
}

// commands returns how many commands ran since the last call.
func (h *host) commands() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.ran)
	h.ran = nil
	return n
}

// images lists the image datasets with their snapshots.
func (h *host) images(t *testing.T) []string {
	t.Helper()
	out, err := h.Run(t.Context(), command.New("zfs", "list", "-Hp", "-o", "name", "-t", "filesystem,snapshot", "-r", "rpool/reddwarf/images"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[1:]
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			return errors.Join(err, os.Symlink(link, dst))
		}
		return copyFile(p, dst)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
