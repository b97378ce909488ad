package storage_test

import (
	"bytes"
	"context"
	"errors"
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

// host runs zfs on the simulated host's model, and makes the directories that
// mounting would show. It can be told to fail.
type host struct {
	model *zfs.Model
	root  string // stands for /rpool/reddwarf

	mu   sync.Mutex
	ran  []string
	fail func(cmd string) error // before the command runs
}

func newHost(t *testing.T) (*host, *storage.Store) {
	t.Helper()
	h := &host{model: zfs.New(zfs.Config{}), root: filepath.Join(t.TempDir(), "reddwarf")}
	if err := h.model.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := storage.New(h, storage.Config{Root: h.root})
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.reset()
	return h, s
}

// Run implements command.Runner.
func (h *host) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	h.mu.Lock()
	h.ran = append(h.ran, cmd.String())
	fail := h.fail
	h.mu.Unlock()
	if fail != nil {
		if err := fail(cmd.String()); err != nil {
			return nil, err
		}
	}
	out, err := h.zfs(ctx, cmd)
	if err == nil && (cmd.Args[0] == "create" || cmd.Args[0] == "clone") && !slices.Contains(cmd.Args, "mountpoint=legacy") {
		err = os.MkdirAll(filepath.Join(h.root, strings.TrimPrefix(cmd.Args[len(cmd.Args)-1], "rpool/reddwarf")), 0o755)
	}
	return out, err
}

func (h *host) zfs(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	var out, errOut bytes.Buffer
	inv := &program.Invocation{
		Argv:  append([]string{cmd.Name}, cmd.Args...),
		Stdin: strings.NewReader(cmd.Stdin), Stdout: &out, Stderr: &errOut,
	}
	if code := h.model.Commands()[cmd.Name](ctx, inv); code != 0 {
		return nil, &command.Error{Cmd: cmd, ExitCode: code, Stdout: out.String(), Stderr: errOut.String(), Err: errors.New("exit status")}
	}
	return out.Bytes(), nil
}

// run is for tests that act as the administrator.
func (h *host) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.zfs(t.Context(), command.New("zfs", args...))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// names lists all datasets and snapshots below the root dataset.
func (h *host) names(t *testing.T) []string {
	t.Helper()
	out := h.run(t, "list", "-Hp", "-o", "name", "-t", "filesystem,snapshot", "-r", "rpool/reddwarf")
	var names []string
	for line := range strings.Lines(out) {
		names = append(names, strings.TrimPrefix(strings.TrimSpace(line), "rpool/reddwarf"))
	}
	slices.Sort(names)
	return names
}

// reset forgets what ran and what is to fail.
func (h *host) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ran, h.fail = nil, nil
}

func (h *host) commands() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ran)
}

// image makes a complete image dataset.
func image(t *testing.T, s *storage.Store, id, parent string) {
	t.Helper()
	err := s.MakeImage(t.Context(), id, parent, func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func zfsCmd(args ...string) command.Cmd { return command.New("zfs", args...) }
