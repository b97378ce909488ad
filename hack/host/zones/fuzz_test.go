package zones

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzZonecfg: no input makes zonecfg panic, and what it exports makes the
// same zone again, as far as its quoting allows.
func FuzzZonecfg(f *testing.F) {
	f.Add(podConfig, uint8(0))
	f.Add("create -b\nset zonepath=/z\nset bootargs=\"a\nset x\n", uint8(1))
	f.Add("create;set zonepath=/z;add rctl;set name=zone.max-lwps;add value [(priv=privileged,limit=0x10,action=deny)];end\n", uint8(2))
	for _, file := range []string{"testdata/zonecfg.txt", "testdata/resources.txt"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if _, cmd, ok := strings.Cut(line, "'"); ok && strings.HasPrefix(line, "$ zonecfg") {
				for i := range uint8(3) {
					f.Add("create -b;set zonepath=/z;set ip-type=exclusive;"+strings.TrimSuffix(cmd, "'\n")+"\n", i)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, which uint8) {
		d := []Distro{OmniOS, SmartOS, OpenIndiana}[which%3]
		h := newHost(t, d)
		for _, mode := range [][]string{{"-f", "/in"}, {text}} {
			h.file("/in", text)
			h.run(append([]string{"zonecfg", "-z", "a"}, mode...)...)
		}
		h.runWith(t.Context(), text, "zonecfg", "-z", "b")
		for _, name := range h.order {
			cfg := h.zones[name].config
			export := h.must("zonecfg", "-z", name, "export")
			if !exportable(d, cfg) {
				continue
			}
			again := newHost(t, d)
			again.file("/in", export)
			if r := again.run("zonecfg", "-z", name, "-f", "/in"); r.code != 0 {
				t.Fatalf("%s: export is refused:\n%s\n%s", d, export, r.err)
			}
			if got := again.must("zonecfg", "-z", name, "export"); got != export {
				t.Fatalf("%s: export:\n%s\nmakes:\n%s", d, export, got)
			}
			if got, want := again.must("zonecfg", "-z", name, "info"), h.must("zonecfg", "-z", name, "info"); got != want {
				t.Fatalf("%s: info:\n%s\nafter export and import:\n%s", d, want, got)
			}
		}
	})
}

// exportable reports whether all values survive export, which quotes some
// values always, some when they have a blank, and some never.
func exportable(d Distro, c *zoneConfig) bool {
	plain := func(v string) bool { return !strings.ContainsAny(v, " \t\n\";=[]()") }
	quoted := func(v string) bool {
		if d.gate() && !strings.Contains(v, " ") {
			return plain(v)
		}
		return !strings.ContainsAny(v, "\"\n")
	}
	for p, v := range c.Root {
		if !plain(v) || len(v) >= rootSizes[p] && rootSizes[p] > 0 {
			return false
		}
	}
	for kind, list := range c.Resources {
		for _, r := range list {
			for _, v := range r.Values {
				if kind == "dedicated-cpu" && !plain(v) || !quoted(v) {
					return false
				}
			}
			for _, o := range r.Options {
				if o == "" || !plain(strings.ReplaceAll(o, "=", "")) {
					return false
				}
			}
			for _, p := range r.Pairs {
				if p.Name == "" || strings.ContainsAny(p.Name+p.Value, " \t\n\",;=()") || strings.ContainsAny(p.Value, "\"\n") {
					return false
				}
			}
			for _, l := range r.Limits {
				if l.Limit == "" || !plain(l.Limit) {
					return false
				}
			}
		}
	}
	if back, ok := parseBytes(formatBytes(c.Memory)); c.Memory != 0 && (!ok || back != c.Memory) {
		return false
	}
	return true
}

// FuzzLexer: the lexer and the parser read all of any input, and never read a
// command twice.
func FuzzLexer(f *testing.F) {
	for _, s := range []string{podConfig, "add\n", "set a=[(b=c)]\n", "\"", "set zonepath=\"/x\ny\"\n", "#\n;;;", "?", "info attr name=[a,(value=b)] type=\"x\"\n", "created\nexits;"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, gate bool) {
		d := OmniOS
		if gate {
			d = OpenIndiana
		}
		lex := newLexer(d, text)
		for last := -1; !lex.atEnd(); {
			p := &parser{lex: lex}
			p.parse(func(parsed, command, token) {})
			if lex.pos <= last {
				t.Fatalf("stuck at %d of %q", lex.pos, text)
			}
			last = lex.pos
		}
	})
}

// FuzzArguments: no argument vector makes a command panic, and every one ends
// with an exit code of that command.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"zoneadm list -cp", "zoneadm -z web boot -- -m verbose", "zoneadm -z web mark -F installed", "zoneadm -u 1 list",
		"zlogin -S web id", "zlogin -l bob -e x web a b", "zoneadm -z web attach -n - -U", "zoneadm -z web shutdown -r", "zonecfg -z web -f -", "zonename -t",
		"zoneadm -z web clone -m copy x", "zoneadm -z web boot -fs", "zoneadm - --", "zlogin -- web -x", "zoneadm -z"} {
		f.Add(strings.ReplaceAll(s, " ", "\x00"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		argv := strings.Split(line, "\x00")
		h := newHost(t, OmniOS)
		if _, ok := h.Commands()[argv[0]]; !ok {
			return
		}
		h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
		for range 2 {
			// zoneadm shutdown waits for an init that ignores it
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			r := h.runWith(ctx, "", argv...)
			cancel()
			if r.code < 0 || r.code > 255 {
				t.Errorf("%q: exit code %d", argv, r.code)
			}
			h.setState("web", stateInstalled)
			h.run("zoneadm", "-z", "web", "boot")
		}
	})
}
