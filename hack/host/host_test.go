package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/zones/command"
)

func newModel(t *testing.T, opts ...host.Option) *host.Model {
	t.Helper()
	m := host.NewModel(opts...)
	t.Cleanup(m.Close)
	return m
}

func run(t *testing.T, m *host.Model, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := m.Run(t.Context(), command.New(f[0], f[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestRunIsLikeARealHost(t *testing.T) {
	m := newModel(t)
	if out := run(t, m, "zoneadm list -p"); !strings.HasPrefix(out, "0:global:running:/:") {
		t.Errorf("zoneadm list = %q", out)
	}
	if out := run(t, m, "zfs list -H -o name"); out != "rpool\n" {
		t.Errorf("zfs list = %q", out)
	}
	if out := run(t, m, "uname -n"); out != "host\n" {
		t.Errorf("uname -n = %q", out)
	}
	_, err := m.Run(t.Context(), command.New("zoneadm", "-z", "nope", "boot"))
	var ce *command.Error
	if !errors.As(err, &ce) || ce.ExitCode != 1 || !strings.Contains(ce.Stderr, "No such zone configured") {
		t.Errorf("a command that fails gave %v", err)
	}
	_, err = m.Run(t.Context(), command.New("no-such-program"))
	if !errors.As(err, &ce) || ce.ExitCode != -1 || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a missing command gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Run(ctx, command.New("zonename")); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gave %v", err)
	}
}

// The components must know of each other as those of one machine do.
func TestComponentsAreOneMachine(t *testing.T) {
	m := newModel(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "web.cfg")
	text := "create -b\nset brand=lx\nset zonepath=/rpool/web\nset ip-type=exclusive\nadd attr\nset name=docker\nset type=boolean\nset value=true\nend\n" +
		"add net\nset physical=web0\nend\nadd fs\nset dir=/v/data\nset special=rpool/data\nset type=zfs\nend\n" +
		"add capped-cpu\nset ncpus=1\nend\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"zfs create rpool/web", "zfs create -o mountpoint=legacy rpool/data",
		"dladm create-etherstub -t stub0", "dladm create-vnic -t -l stub0 web0",
		"zonecfg -z web -f " + config, "zoneadm -z web mark -F installed", "zoneadm -z web boot",
	} {
		run(t, m, line)
	}
	if out := run(t, m, "kstat -p -c zone_misc -s zonename"); !strings.Contains(out, "web") {
		t.Errorf("kstat does not know the zone: %q", out)
	}
	if out := run(t, m, "kstat -p link:0:web0:obytes64"); out == "" {
		t.Error("kstat does not know the link")
	}
	run(t, m, "prctl -n zone.cpu-cap -r -v 150 -i zone web")
	if out := run(t, m, "prctl -P -n zone.cpu-cap -i zone web"); !strings.Contains(out, "150") {
		t.Errorf("prctl = %q", out)
	}
	for _, line := range []string{"zfs destroy rpool/data", "dladm delete-vnic web0"} {
		f := strings.Fields(line)
		if _, err := m.Run(t.Context(), command.New(f[0], f[1:]...)); err == nil {
			t.Errorf("%s succeeded while the zone uses it", line)
		}
	}
	run(t, m, "zoneadm -z web halt")
	run(t, m, "zfs destroy rpool/data")
	run(t, m, "dladm delete-vnic -t web0")
}

func TestSaveLoadReboot(t *testing.T) {
	old := newModel(t)
	run(t, old, "zfs create rpool/kept")
	run(t, old, "dladm create-etherstub kept0")
	run(t, old, "dladm create-etherstub -t gone0")
	state, err := old.Save()
	if err != nil {
		t.Fatal(err)
	}
	m := newModel(t)
	if err := m.Load(state); err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := run(t, m, "zfs list -H -o name"); out != "rpool\nrpool/kept\n" {
		t.Errorf("zfs list = %q", out)
	}
	if out := run(t, m, "dladm show-etherstub -p -o link"); out != "kept0\n" {
		t.Errorf("etherstubs = %q", out)
	}
	if err := m.Load([]byte("{")); err == nil {
		t.Error("a broken state was loaded")
	}
}

func TestFaults(t *testing.T) {
	m := newModel(t)
	if err := m.AddFault(host.Fault{Match: "zoneadm *list*", After: 1, Times: 2, Exit: 5, Stderr: "no luck"}); err != nil {
		t.Fatal(err)
	}
	var codes []int
	for range 4 {
		_, err := m.Run(t.Context(), command.New("zoneadm", "list"))
		code, _ := command.ExitCode(err)
		codes = append(codes, code)
		var ce *command.Error
		if errors.As(err, &ce) && ce.Stderr != "no luck\n" {
			t.Errorf("stderr = %q", ce.Stderr)
		}
	}
	if want := []int{0, 5, 5, 0}; !slices.Equal(codes, want) {
		t.Errorf("exit codes %v, want %v", codes, want)
	}
	run(t, m, "zonename") // another command
	m.ClearFaults()
	if len(m.Faults()) > 0 {
		t.Error("faults stay")
	}
}

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	m := newModel(t)
	for _, f := range []host.Fault{
		{}, {Match: "x"}, {Exit: 1}, {Match: "x", Exit: 256}, {Match: "x", Exit: 1, After: -1}, {Match: "x", Hang: true, Stderr: "lost"},
	} {
		if err := m.AddFault(f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

func TestDelayAndHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := host.NewModel()
		defer m.Close()
		if err := errors.Join(m.Delay("zonename", time.Minute), m.Hang("zonename -t")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := m.Run(t.Context(), command.New("zonename")); err != nil || time.Since(start) != time.Minute {
			t.Errorf("delayed: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start = time.Now()
		if _, err := m.Run(ctx, command.New("zonename", "-t")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("hanging: %v after %v", err, time.Since(start))
		}
	})
}

func TestKillFaults(t *testing.T) {
	killed := 0
	m := newModel(t, host.OnKill(func() { killed++ }))
	for _, f := range []host.Fault{{Match: "zfs create rpool/a", KillBefore: true}, {Match: "zfs create rpool/b", KillAfter: true}} {
		if err := m.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"rpool/a", "rpool/b"} {
		if _, err := m.Run(t.Context(), command.New("zfs", "create", name)); err == nil {
			t.Errorf("creating %s succeeded for a caller that was killed", name)
		}
	}
	if out := run(t, m, "zfs list -H -o name"); killed != 2 || out != "rpool\nrpool/b\n" {
		t.Errorf("killed %d times, datasets %q", killed, out)
	}
}

func TestTrace(t *testing.T) {
	var trace bytes.Buffer
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	m := newModel(t, host.TraceTo(&trace), host.Clock(func() time.Time { now = now.Add(time.Second); return now }))
	config := filepath.Join(t.TempDir(), "zone.cfg")
	if err := os.WriteFile(config, []byte("create -b\nbogus\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _ = m.Run(t.Context(), command.New("zonecfg", "-z", "web", "-f", config))
	if _, err := m.Run(t.Context(), command.Cmd{Name: "ipnat", Args: []string{"-nf", "-"}, Stdin: "rdr x0 1.2.3.4/32 port 80 -> 5.6.7.8 port 80 tcp\n"}); err != nil {
		t.Fatal(err)
	}
	m.Trace(nil)
	run(t, m, "zonename")
	var records []host.Record
	for line := range bytes.Lines(trace.Bytes()) {
		var r host.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if len(records) != 2 {
		t.Fatalf("%d records, want 2: %s", len(records), trace.String())
	}
	r := records[0]
	if r.File != "create -b\nbogus\n" || r.Exit != 1 || !strings.Contains(r.Stderr, "On line 2") || r.MS < 1000 || r.Time.IsZero() {
		t.Errorf("zonecfg was traced as %+v", r)
	}
	if r = records[1]; !strings.HasPrefix(r.Stdin, "rdr x0") || !slices.Equal(r.Argv, []string{"ipnat", "-nf", "-"}) {
		t.Errorf("ipnat was traced as %+v", r)
	}
}
