package system

import (
	"bytes"
	"context"
	"encoding/json"
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

// files are a host's files by name.
type files map[string]string

func (f files) Open(name string) (io.ReadCloser, error) {
	data, ok := f[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(data)), nil
}

func (f files) Lstat(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist }

const manifest = `<?xml version="1.0"?>
<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">
<service_bundle type="manifest" name="x"><service name="application/x" type="service" version="1">
<create_default_instance enabled="true"/><instance name="lab" enabled="false"/></service></service_bundle>`

// fakeZones keeps zones and their caps.
type fakeZones struct{ zones []Zone }

func (f *fakeZones) Active(context.Context) []Zone { return f.zones }

func (f *fakeZones) Usage(_ context.Context, id int) (Usage, error) {
	if id == 0 {
		return Usage{}, errNoZone
	}
	return Usage{
		CPUNanoseconds: 5e9, SystemNanoseconds: 1e9, CappedNanoseconds: 3e9,
		RSS: 64 << 20, Swap: 80 << 20, AllocFailures: 2, Processes: 3, LWPs: 17,
	}, nil
}

func (f *fakeZones) SetCaps(_ context.Context, id int, c Caps) error {
	for i := range f.zones {
		if f.zones[i].ID == id {
			f.zones[i].Caps = c
			return nil
		}
	}
	return errNoZone
}

type fakeLinks struct{}

func (fakeLinks) Stats(context.Context) ([]Link, error) {
	return []Link{{Name: "rdw1", Up: true, InBytes: 1 << 33, OutBytes: 7, InPackets: 3, OutPackets: 4}}, nil
}

func newModel(distro string, hooked *[]string) *Model {
	boot := time.Date(2026, 1, 5, 6, 7, 8, 0, time.Local)
	now := boot
	m := New(Config{
		Distro: distro, CPUs: 2, Memory: 4 << 30, Links: fakeLinks{}, Clock: func() time.Time { return now },
		Zones: &fakeZones{[]Zone{{
			ID: 7, Name: "rdw-0b7a2e1c-1111-2222-3333-444455556666", Booted: boot.Add(time.Minute), InitPID: 99,
			Caps: Caps{CPU: 150, MaxLWPs: 1000, Swap: 1 << 30},
		}}},
		Hooks: map[string]Hook{"svc:/network/ipfilter:default": func(_ context.Context, action string) error {
			*hooked = append(*hooked, action)
			if action == "restart" {
				return errNoZone
			}
			return nil
		}},
	})
	now = boot.Add(time.Hour)
	return m
}

func do(t testing.TB, m *Model, line string) string {
	t.Helper()
	var out, errs bytes.Buffer
	inv := &program.Invocation{
		Argv: strings.Fields(line), Dir: "/root", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Files: files{"/root/x.xml": manifest, "/root/bad.xml": "<service_bundle>"},
	}
	cmd := m.Commands()[inv.Argv[0]]
	if cmd == nil {
		t.Fatalf("no command %q", inv.Argv[0])
	}
	code := cmd(t.Context(), inv)
	var b strings.Builder
	b.WriteString(out.String())
	for line := range strings.Lines(errs.String()) {
		if strings.HasPrefix(strings.ToLower(line), "usage:") {
			b.WriteString("! usage: ...\n")
			break // the rest of the usage text
		}
		b.WriteString("! " + line)
	}
	if code != 0 {
		fmt.Fprintf(&b, "exit %d\n", code)
	}
	return b.String()
}

// TestTranscripts replays testdata/*.txt: lines that begin with "$ " are
// commands, what follows is what they print; "$ distro NAME" begins anew.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var hooked []string
			m := newModel("omnios", &hooked)
			var b strings.Builder
			for line := range strings.Lines(string(want)) {
				switch distro, is := strings.CutPrefix(line, "$ distro "); {
				case is:
					m = newModel(strings.TrimSpace(distro), &hooked)
					b.WriteString(line)
				case strings.HasPrefix(line, "$ "):
					b.WriteString(line + do(t, m, line[2:]))
				case strings.HasPrefix(line, "#"):
					b.WriteString(line)
				}
			}
			if *update {
				if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if b.String() != string(want) {
				t.Errorf("transcript differs:\n%s", b.String())
			}
		})
	}
}

func TestHooks(t *testing.T) {
	var hooked []string
	m := newModel("omnios", &hooked)
	for _, line := range []string{
		"svcadm enable ipfilter", "svcadm enable ipfilter", "svcadm refresh ipfilter", "svcadm restart ipfilter",
		"svcadm clear ipfilter", "svcadm disable -t ipfilter", "svcadm refresh ipfilter",
	} {
		if got := do(t, m, line); got != "" {
			t.Errorf("%s: %s", line, got)
		}
	}
	if got, want := strings.Join(hooked, " "), "enable refresh restart enable disable"; got != want {
		t.Errorf("hooks: %s, want %s", got, want)
	}
	hooked = nil
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(hooked) != 1 || do(t, m, "svcs -H -o state ipfilter") != "online\n" {
		t.Errorf("after reboot: %v %s", hooked, do(t, m, "svcs -H -o state ipfilter"))
	}
}

func TestSaveLoad(t *testing.T) {
	var hooked []string
	m := newModel("omnios", &hooked)
	do(t, m, "svccfg import x.xml")
	data, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	again := newModel("omnios", &hooked)
	if err := again.Load(data); err != nil {
		t.Fatal(err)
	}
	if got, want := do(t, again, "svcs -a"), do(t, m, "svcs -a"); got != want {
		t.Errorf("loaded:\n%s\nwant:\n%s", got, want)
	}
	if err := again.Load([]byte("{")); err == nil {
		t.Error("half a state was loaded")
	}
}

// The JSON of kstat -j is JSON as long as no name holds what the host escapes
// wrongly.
func TestKstatJSON(t *testing.T) {
	var hooked []string
	out := do(t, newModel("omnios", &hooked), "kstat -j zones memory_cap link caps unix")
	var all []struct {
		Module, Name, Class string
		Instance            int
		Data                map[string]any
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if len(all) < 8 || all[0].Module != "zones" || all[0].Data["zonename"] != "global" {
		t.Errorf("kstats: %+v", all)
	}
}

func FuzzCommands(f *testing.F) {
	f.Add("kstat\x00-p\x00zones:*::nsec_*")
	f.Add("prctl\x00-n\x00zone.cpu-cap\x00-r\x00-v\x001.5K\x00-i\x00zone\x007")
	f.Add("svcs\x00-o\x00state,fmri\x00*zone*")
	f.Fuzz(func(t *testing.T, words string) {
		var hooked []string
		m := newModel("smartos", &hooked)
		argv := strings.Split(words, "\x00")
		cmd := m.Commands()[argv[0]]
		if cmd == nil {
			return
		}
		var out, errs bytes.Buffer
		code := cmd(t.Context(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Files: files{}})
		if code == 2 && errs.Len() == 0 {
			t.Errorf("%q: wrong usage without a word", argv)
		}
	})
}

// The use of processors is counted between two looks that are a second apart.
func TestCPUUsage(t *testing.T) {
	now := time.Date(2026, 1, 5, 6, 7, 8, 0, time.UTC)
	m := New(Config{Clock: func() time.Time { return now }})
	z := Zone{ID: 3, Booted: now}
	for _, step := range []struct {
		after       time.Duration
		used        uint64
		usage, most uint64
	}{
		{100 * time.Millisecond, 5e9, 0, 0}, // too early to say
		{1900 * time.Millisecond, 4e9, 200, 200},
		{time.Second, 4.5e9, 50, 200},
		{time.Millisecond, 9e9, 50, 200},
	} {
		now = now.Add(step.after)
		if usage, most := m.cpuUsage(z, Usage{CPUNanoseconds: step.used}); usage != step.usage || most != step.most {
			t.Errorf("%v later: %d %% and at most %d %%, want %d and %d", step.after, usage, most, step.usage, step.most)
		}
	}
	if usage, most := m.cpuUsage(Zone{ID: 3, Booted: now}, Usage{}); usage != 0 || most != 0 {
		t.Errorf("the next zone of that id starts with %d %% and %d %%", usage, most)
	}
}
