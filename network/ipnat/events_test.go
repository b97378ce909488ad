package ipnat_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network/ipnat"
)

// TestThousandEvents does everything that happens to a host, in any order. When
// the loader has come round, the kernel has what was compiled and what other
// people have, and nothing else.
func TestThousandEvents(t *testing.T) {
	g := seeded(7)
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		t.Fatal(err)
	}
	foreign := map[string]bool{}
	for i := range 1000 {
		var d ipnat.Delta
		event := g.eventFor(m, table, foreign, &d)
		if event == "crash" {
			m.cut = 1 + g.IntN(20)
		}
		_, err := l.Apply(t.Context(), d)
		if errors.Is(err, ipnat.ErrOff) {
			if err := l.Enable(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if errors.Is(err, errDied) || g.one(20) {
			l = ipnat.NewLoader(m)
		}
		// Apply alone must notice whatever lost our rules when it has something to
		// do; the rest is for the Sync that runs from time to time.
		if err != nil || event != "service" {
			_, err = l.Sync(t.Context(), table.Rules())
			if errors.Is(err, ipnat.ErrOff) {
				if err := l.Enable(t.Context()); err != nil {
					t.Fatal(err)
				}
				_, err = l.Sync(t.Context(), table.Rules())
			}
			if errors.Is(err, errDied) {
				l = ipnat.NewLoader(m)
				_, err = l.Sync(t.Context(), table.Rules())
			}
			if err != nil {
				t.Fatalf("event %d, %s: %v", i, event, err)
			}
		}
		var others []string
		for r := range foreign {
			others = append(others, r)
		}
		m.equals(t, fmt.Sprintf("event %d, %s", i, event), table.Rules(), others)
	}
	// Connections end with a flush, with the filter, or with its service. None of
	// that is the loader's doing.
	for _, c := range m.ran {
		w := strings.Fields(c)
		if w[0] != "ipnat" && c != "ipf -V" && c != "ipf -E" && w[0] != "svcs" || w[0] == "ipnat" && strings.ContainsAny(w[1], "CF") {
			t.Fatalf("%q may end connections", c)
		}
	}
	if len(m.ran) < 1000 {
		t.Errorf("the loader ran %d commands only", len(m.ran))
	}
}

// eventFor makes one event happen and returns its name.
func (g generator) eventFor(m *machine, table *ipnat.Table, foreign map[string]bool, d *ipnat.Delta) string {
	change := func() {
		s := g.service(g.IntN(5))
		s.Affinity = s.Affinity && g.one(4) // they have many rules
		if g.one(4) {
			*d = table.Delete(s.Name)
		} else {
			*d = table.Set(s)
		}
	}
	switch g.IntN(10) {
	case 0:
		m.must("", "ipnat", "-C")
		clear(foreign)
		return "flush"
	case 1:
		m.must("", "ipf", "-D")
		clear(foreign)
		return "filter off"
	case 2:
		if err := m.NAT.Reboot(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		clear(foreign)
		change()
		return "reboot"
	case 3, 4:
		r := fmt.Sprintf("rdr net0 198.51.100.11/32 port %d -> 10.1.1.1 port 443 tcp", 9000+g.IntN(5))
		if foreign[r] {
			m.must(r+"\n", "ipnat", "-r", "-f", "-")
			delete(foreign, r)
		} else {
			m.must(r+"\n", "ipnat", "-f", "-")
			foreign[r] = true
		}
		return "foreign rule"
	case 5:
		rules := table.Rules()
		m.must(rules[g.IntN(len(rules))].String()+"\n", "ipnat", "-r", "-f", "-")
		return "rule of ours removed"
	case 6:
		change()
		return "crash"
	default:
		change()
		return "service"
	}
}
