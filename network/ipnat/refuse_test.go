package ipnat_test

import (
	"errors"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/zones/command"
)

// gateway makes the interface that refusals are bound to.
func (m *machine) gateway() {
	m.must("", "dladm", "create-etherstub", "-t", "reddwarf0")
	m.must("", "dladm", "create-vnic", "-t", "-l", "reddwarf0", "rdwgw0")
	m.must("", "ipadm", "create-addr", "-t", "-T", "static", "-a", "10.244.1.1/24", "rdwgw0/v4")
}

func TestRefuse(t *testing.T) {
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	all := []ipnat.Refusal{{Network: prefix("10.96.0.0/16"), Interface: "rdwgw0", Gateway: addr("10.244.1.1")}}
	if err := l.Refuse(t.Context(), all); err == nil {
		t.Error("a route by an address that nobody has was made")
	}
	m.gateway()
	for range 2 {
		if err := l.Refuse(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.must("", "route", "-n", "get", "10.96.0.1"); !strings.Contains(got, "REJECT") || !strings.Contains(got, "rdwgw0") {
		t.Errorf("a cluster address is routed so:\n%s", got)
	}
	reset := "block return-rst in quick on rdwgw0 proto tcp from any to 10.96.0.0/16\n"
	if _, err := m.Run(t.Context(), command.Cmd{Name: "ipf", Args: []string{"-f", "-"}, Stdin: reset, Silent: true}); err == nil || !strings.Contains(err.Error(), "File exists") {
		t.Errorf("the filter rule is not there: %v", err)
	}
	for range 2 {
		if err := l.Unrefuse(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := m.Run(t.Context(), command.New("route", "-n", "get", "10.96.0.1")); err == nil && strings.Contains(string(out), "REJECT") {
		t.Errorf("the route is still there:\n%s", out)
	}
	m.must("", "ipf", "-D")
	if err := l.Refuse(t.Context(), all); !errors.Is(err, ipnat.ErrOff) {
		t.Errorf("Refuse while off = %v", err)
	}
	if err := l.Unrefuse(t.Context(), all); err != nil {
		t.Errorf("Unrefuse while off = %v", err)
	}
	for _, bad := range []ipnat.Refusal{{}, {Network: prefix("10.96.0.1/16"), Interface: "rdwgw0", Gateway: addr("10.244.1.1")}, {Network: prefix("fd00:96::/112"), Interface: "rdwgw0", Gateway: addr("10.244.1.1")}} {
		if err := l.Refuse(t.Context(), []ipnat.Refusal{bad}); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

// TestMatches asks whether the rules are right without reading them into
// memory, after each way that they can be wrong.
func TestMatches(t *testing.T) {
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		t.Fatal(err)
	}
	table.Set(web())
	check := func(when string, want bool) {
		t.Helper()
		if got, _, err := l.Matches(t.Context(), table.Fingerprint()); err != nil || got != want {
			t.Errorf("%s: matches %v, %v", when, got, err)
		}
	}
	check("before", false)
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	check("loaded", true)
	foreign := "rdr net0 198.51.100.11/32 port 9000 -> 10.1.1.1 port 443 tcp\n"
	m.must(foreign, "ipnat", "-f", "-")
	check("somebody else's rule", true)
	d := table.Set(other())
	check("a change that is not loaded", false)
	if _, err := l.Apply(t.Context(), d); err == nil {
		t.Error("Apply after a mismatch")
	}
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	check("changed", true)
	if _, err := l.Apply(t.Context(), table.Delete("default/other")); err != nil {
		t.Errorf("Apply after a match: %v", err)
	}
	check("deleted", true)
	one := table.Rules()[len(table.Rules())-1].String() + "\n"
	m.must(one, "ipnat", "-r", "-f", "-")
	check("one rule less", false)
	m.must(strings.Replace(one, "port 8080", "port 8081", 1), "ipnat", "-f", "-")
	check("another rule instead", false)
	m.must("", "ipf", "-D")
	if _, _, err := l.Matches(t.Context(), table.Fingerprint()); !errors.Is(err, ipnat.ErrOff) {
		t.Errorf("while off: %v", err)
	}
}
