package zones_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
	simulated "reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// model runs commands on the simulated host, with this machine's files.
type model struct {
	t        *testing.T
	m        *simulated.Model
	paths    *simulated.MemoryPaths
	commands map[string]program.Command
	ran      []string
}

func newModel(t *testing.T, distro simulated.Distro) *model {
	t.Helper()
	paths := simulated.NewMemoryPaths()
	m := simulated.New(simulated.Config{Distro: distro, Paths: paths})
	t.Cleanup(m.Close)
	return &model{t: t, m: m, paths: paths, commands: m.Commands()}
}

// osFiles are this machine's files, with our brand where it is installed.
type osFiles struct{}

func (osFiles) path(p string) string {
	if rest, ok := strings.CutPrefix(p, "/usr/lib/brand/reddwarf/"); ok {
		return filepath.Join("brand/reddwarf", rest)
	}
	return p
}

func (f osFiles) Open(p string) (io.ReadCloser, error) { return os.Open(f.path(p)) }
func (f osFiles) Lstat(p string) (fs.FileInfo, error)  { return os.Lstat(f.path(p)) }

func (h *model) exec(ctx context.Context, c command.Cmd, in io.Reader, out io.Writer) error {
	run, ok := h.commands[c.Name]
	if !ok {
		h.t.Fatalf("unplanned command %s", c)
	}
	h.ran = append(h.ran, c.String())
	var errOut bytes.Buffer
	code := run(ctx, &program.Invocation{
		Argv: append([]string{c.Name}, c.Args...), Dir: "/", Stdin: in, Stdout: out, Stderr: &errOut, Files: osFiles{},
	})
	if code != 0 {
		return &command.Error{Cmd: c, ExitCode: code, Stderr: errOut.String(), Err: errors.New("exit status")}
	}
	return nil
}

func (h *model) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	var out bytes.Buffer
	err := h.exec(ctx, c, strings.NewReader(c.Stdin), &out)
	return out.Bytes(), err
}

func (h *model) Stream(ctx context.Context, c command.Cmd, in io.Reader, out io.Writer) error {
	return h.exec(ctx, c, in, out)
}

func features(t *testing.T, distro string) zones.Features {
	t.Helper()
	f, ok := zones.DistroFeatures(distro)
	if !ok {
		t.Fatalf("unknown distribution %s", distro)
	}
	return f
}

const path = "/rpool/reddwarf/pods/1"

// podConfig has every kind of setting.
func podConfig() zones.Config {
	return zones.Config{
		Name: "rdw-1", Brand: "lx", Path: path, LimitPriv: "default,!sys_nfs", FSAllowed: "tmpfs,lofs",
		CPUCap: 29, CPUShares: 102, MaxProcesses: 1024, MaxLWPs: 4096,
		Memory: zones.Memory{Physical: 256 << 20, Swap: 512 << 20, Locked: 64 << 20},
		Links: []zones.Link{{
			Physical: "rdw17", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.0.17/24")},
			Router: netip.MustParseAddr("10.244.0.1"),
		}},
		Mounts: []zones.Mount{
			{Target: "/sbin/init", Source: "/opt/reddwarf/lib/podinit-linux", Type: "lofs", Options: []string{"ro", "nodevices"}},
			{Target: "/c/web", Source: "rpool/reddwarf/pods/1/c-web", Type: "zfs"},
			{Target: "/v/a b;[x]=(y),#'z'", Source: path + "/volumes/a=b", Type: "lofs", Options: []string{"ro"}},
		},
		Attrs: []zones.Attr{
			{Name: "reddwarf-uid", Type: "string", Value: "1"},
			{Name: "reddwarf-name", Type: "string", Value: "web with blanks = ; # é"},
			{Name: "docker", Type: "boolean", Value: "true"},
		},
	}
}

func TestLifecycle(t *testing.T) {
	for _, distro := range []string{"omnios", "smartos", "openindiana"} {
		t.Run(distro, func(t *testing.T) {
			sim := newModel(t, simulated.Distro(distro))
			h := zones.New(sim, features(t, distro), zones.Scripts(filepath.Join(t.TempDir(), "scripts")))
			c := podConfig()
			if !h.Features().LX {
				c.Brand = "reddwarf"
			}
			lifecycle(t, sim, h, c)
		})
	}
}

func lifecycle(t *testing.T, sim *model, h *zones.Host, c zones.Config) {
	t.Helper()
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	state := func(want zones.State) {
		t.Helper()
		z, err := h.Zone(ctx, c.Name)
		must("Zone", err)
		if z.State != want {
			t.Fatalf("the zone is %s, want %s", z.State, want)
		}
	}
	state(zones.Absent)
	must("Configure", h.Configure(ctx, c))
	state(zones.Configured)
	must("Configure again", h.Configure(ctx, c))
	attrs, err := h.Attrs(ctx, c.Name)
	must("Attrs", err)
	for _, a := range c.Attrs {
		if attrs[a.Name] != a.Value {
			t.Errorf("attribute %s is %q, want %q", a.Name, attrs[a.Name], a.Value)
		}
	}
	if err := h.Boot(ctx, c.Name); !errors.Is(err, zones.ErrState) {
		t.Errorf("Boot of what is configured = %v", err)
	}
	for range 2 {
		must("MarkInstalled", h.MarkInstalled(ctx, c.Name))
		state(zones.Installed)
	}
	if err := h.Configure(ctx, c); !errors.Is(err, zones.ErrState) {
		t.Errorf("Configure of what is installed = %v", err)
	}
	for range 2 {
		must("Boot", h.Boot(ctx, c.Name))
		state(zones.Running)
	}
	all, err := h.List(ctx)
	must("List", err)
	if len(all) != 1 || all[0].Name != c.Name || all[0].ID < 1 || all[0].Path != c.Path || all[0].Brand != c.Brand || all[0].IPType != "excl" {
		t.Errorf("List = %+v", all)
	}
	if err := h.MarkConfigured(ctx, c.Name); !errors.Is(err, zones.ErrState) {
		t.Errorf("MarkConfigured of what runs = %v", err)
	}
	if err := h.Delete(ctx, c.Name); !errors.Is(err, zones.ErrState) {
		t.Errorf("Delete of what runs = %v", err)
	}
	for range 2 {
		must("Halt", h.Halt(ctx, c.Name))
		state(zones.Installed)
	}
	for range 2 {
		must("MarkConfigured", h.MarkConfigured(ctx, c.Name))
		must("Halt of what is configured", h.Halt(ctx, c.Name))
	}
	for range 2 {
		must("Delete", h.Delete(ctx, c.Name))
		state(zones.Absent)
	}
	must("Halt of what is absent", h.Halt(ctx, c.Name))
	if err := h.Boot(ctx, c.Name); !errors.Is(err, zones.ErrNotFound) {
		t.Errorf("Boot of what is absent = %v", err)
	}
	if _, err := h.Attrs(ctx, c.Name); !errors.Is(err, zones.ErrNotFound) {
		t.Errorf("Attrs of what is absent = %v", err)
	}
	for _, cmd := range sim.ran {
		if strings.Contains(cmd, "install ") || strings.Contains(cmd, "uninstall") {
			t.Errorf("%s would run a brand's hook", cmd)
		}
	}
}

// breaking runs everything but zonecfg -f, which it fails after it took effect.
type breaking struct {
	*model
	stderr string
}

func (b breaking) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	out, err := b.model.Run(ctx, c)
	if c.Name == "zonecfg" && len(c.Args) == 4 && c.Args[2] == "-f" && err == nil {
		return nil, &command.Error{Cmd: c, ExitCode: 1, Stderr: b.stderr, Err: errors.New("exit status 1")}
	}
	return out, err
}

func TestConfigureLeavesNothingBehindWhenItFails(t *testing.T) {
	sim := newModel(t, simulated.OmniOS)
	scripts := filepath.Join(t.TempDir(), "scripts")
	f := features(t, "omnios")
	bad := zones.New(breaking{sim, "On line 3: broken"}, f, zones.Scripts(scripts))
	c := podConfig()
	if err := bad.Configure(t.Context(), c); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatalf("Configure = %v", err)
	}
	good := zones.New(sim, f, zones.Scripts(scripts))
	if z, err := good.Zone(t.Context(), c.Name); err != nil || z.State != zones.Absent {
		t.Errorf("a zone that was absent is %v, %v", z.State, err)
	}
	if err := good.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := bad.Configure(t.Context(), c); err == nil {
		t.Fatal("Configure succeeds")
	}
	if z, err := good.Zone(t.Context(), c.Name); err != nil || z.State != zones.Configured {
		t.Errorf("a zone that was configured is %v, %v", z.State, err)
	}
	if left, err := os.ReadDir(scripts); err != nil || len(left) > 0 {
		t.Errorf("%d scripts are left, %v", len(left), err)
	}
}

func TestConfigureRefusesAnOpenDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scripts")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h := zones.New(newModel(t, simulated.OmniOS), features(t, "omnios"), zones.Scripts(dir))
	if err := h.Configure(t.Context(), podConfig()); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("Configure = %v", err)
	}
}

func TestNamesAreCheckedBeforeACommandRuns(t *testing.T) {
	sim := newModel(t, simulated.OmniOS)
	h := zones.New(sim, features(t, "omnios"))
	for _, name := range []string{"", "-z", "global", "SUNWx", "a b", "a;b", strings.Repeat("x", 64)} {
		for what, err := range map[string]error{
			"Boot": h.Boot(t.Context(), name), "Halt": h.Halt(t.Context(), name), "Delete": h.Delete(t.Context(), name),
			"MarkInstalled": h.MarkInstalled(t.Context(), name),
		} {
			if err == nil {
				t.Errorf("%s(%q) succeeds", what, name)
			}
		}
	}
	if len(sim.ran) > 0 {
		t.Errorf("ran %q", sim.ran)
	}
}
