package ipnat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/zones/command"
)

// machine is a simulated host whose commands are counted and may be cut off in
// the middle.
type machine struct {
	*host.Model
	t     *testing.T
	ran   []string // the commands that changed or read rules
	lines int      // given to ipnat to load or to remove
	cut   int      // lines until the loader dies; 0 is never
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{Model: host.NewModel(), t: t}
	t.Cleanup(m.Close)
	m.must("", "ipf", "-E")
	return m
}

var errDied = errors.New("the loader was killed")

func (m *machine) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	m.ran = append(m.ran, c.String())
	if c.Name == "ipnat" && c.Args[len(c.Args)-1] == "-" && !slices.Contains(c.Args, "-nv") {
		lines := strings.SplitAfter(strings.TrimSuffix(c.Stdin, "\n"), "\n")
		m.lines += len(lines)
		if m.cut > 0 {
			if m.cut -= len(lines); m.cut <= 0 {
				c.Stdin = strings.Join(lines[:len(lines)+m.cut], "")
				if c.Stdin != "" {
					_, _ = m.Model.Run(ctx, c)
				}
				m.cut = 0
				return nil, &command.Error{Cmd: c, ExitCode: -1, Err: errDied}
			}
		}
	}
	return m.Model.Run(ctx, c)
}

func (m *machine) Stream(ctx context.Context, c command.Cmd, in io.Reader, out io.Writer) error {
	m.ran = append(m.ran, c.String())
	return m.Model.Stream(ctx, c, in, out)
}

// must runs a command of somebody else.
func (m *machine) must(stdin, name string, args ...string) string {
	m.t.Helper()
	out, err := m.Model.Run(m.t.Context(), command.Cmd{Name: name, Args: args, Stdin: stdin})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out)
}

// rules returns the kernel's rules.
func (m *machine) rules() []string {
	m.t.Helper()
	var list []string
	for line := range strings.Lines(m.must("", "ipnat", "-lR")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "rdr ") || strings.HasPrefix(line, "map ") {
			list = append(list, line)
		}
	}
	return list
}

// equals compares the kernel's rules with ours and other people's, in any order.
func (m *machine) equals(t *testing.T, when string, want ipnat.Rules, foreign []string) {
	t.Helper()
	have, wanted := m.rules(), strings.Fields(strings.ReplaceAll(strings.TrimSpace(want.String()), " ", "\x00"))
	for i := range wanted {
		wanted[i] = strings.ReplaceAll(wanted[i], "\x00", " ")
	}
	wanted = append(wanted, foreign...)
	slices.Sort(have)
	slices.Sort(wanted)
	if !slices.Equal(have, wanted) {
		t.Fatalf("%s: the kernel has %d rules:\n%s\nwant %d:\n%s", when, len(have), strings.Join(have, "\n"), len(wanted), strings.Join(wanted, "\n"))
	}
}

func TestSync(t *testing.T) {
	m := newMachine(t)
	foreign := "map net0 from 10.9.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 10000:29999"
	m.must(foreign+"\n", "ipnat", "-f", "-")
	l := ipnat.NewLoader(m)
	rules, _ := compile(t, v4Node(), web())
	rep, err := l.Sync(t.Context(), rules)
	if err != nil || rep != (ipnat.Report{Added: len(rules), Foreign: 1}) {
		t.Fatalf("first: %+v, %v", rep, err)
	}
	m.equals(t, "first", rules, []string{foreign})

	m.ran, m.lines = nil, 0
	if rep, err = l.Sync(t.Context(), rules); err != nil || rep != (ipnat.Report{Foreign: 1}) || len(m.ran) != 1 {
		t.Fatalf("again: %+v, %v, after %q", rep, err, m.ran)
	}

	s := web()
	s.Ports[0].Endpoints[1] = on("n2", "10.244.2.99:8080")
	changed, _ := compile(t, v4Node(), s)
	if rep, err = ipnat.NewLoader(m).Sync(t.Context(), changed); err != nil || rep != (ipnat.Report{Added: 1, Removed: 1, Foreign: 1}) || m.lines != 2 {
		t.Fatalf("changed, by a new loader: %+v, %v, %d lines", rep, err, m.lines)
	}
	m.equals(t, "changed", changed, []string{foreign})
	add := slices.Index(m.ran, "ipnat -f -")
	if remove := slices.Index(m.ran, "ipnat -r -f -"); add < 0 || remove < add {
		t.Errorf("not added first: %q", m.ran)
	}

	if rep, err = l.Sync(t.Context(), nil); err != nil || rep.Removed != len(rules) {
		t.Fatalf("nothing wanted: %+v, %v", rep, err)
	}
	m.equals(t, "nothing wanted", nil, []string{foreign})
	for _, c := range m.ran {
		if strings.Contains(c, "-C") || strings.Contains(c, "-F") || strings.Contains(c, "refresh") {
			t.Errorf("%s ends other people's connections", c)
		}
	}
}

// bigCluster has n Services with 5 endpoints each.
func bigCluster(n int) []ipnat.Service {
	all := make([]ipnat.Service, n)
	for i := range all {
		vip := addr(fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255))
		eps := make([]ipnat.Endpoint, 5)
		for j := range eps {
			eps[j] = on(fmt.Sprintf("n%d", 1+j), fmt.Sprintf("10.244.%d.%d:8080", 1+j, 1+i%250))
		}
		all[i] = web()
		all[i].Name = fmt.Sprintf("default/web-%d", i)
		all[i].ClusterIPs[0] = vip
		all[i].Ports[0].Endpoints = eps
	}
	return all
}

func TestBatchesAreBounded(t *testing.T) {
	m := newMachine(t)
	rules, _ := compile(t, v4Node(), bigCluster(1000)...)
	if _, err := ipnat.NewLoader(m).Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	m.equals(t, "big", rules, nil)
	runs := 0
	for _, c := range m.ran {
		if c == "ipnat -f -" {
			runs++
		}
	}
	if runs != 3 {
		t.Errorf("%d rules in %d runs", len(rules), runs)
	}
}

// unfaithful prints rules otherwise than it was told.
type unfaithful struct{ *machine }

func (u unfaithful) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	out, err := u.machine.Run(ctx, c)
	return bytes.ReplaceAll(out, []byte("port 8080"), []byte("port 8081")), err
}

func TestNothingIsLoadedThatIpnatReadsOtherwise(t *testing.T) {
	m := newMachine(t)
	rules, _ := compile(t, v4Node(), web())
	if _, err := ipnat.NewLoader(unfaithful{m}).Sync(t.Context(), rules); !errors.Is(err, ipnat.ErrSyntax) || len(m.rules()) > 0 {
		t.Errorf("Sync = %v, and %d rules", err, len(m.rules()))
	}
	bad := rules[len(rules)-1]
	bad.Interface = "gw0 10.0.0.1/32 port 1"
	unmarked := rules[len(rules)-1]
	unmarked.Tag = ""
	for _, r := range []ipnat.Rule{bad, unmarked} {
		if _, err := ipnat.NewLoader(m).Sync(t.Context(), append(rules[:1:1], r)); !errors.Is(err, ipnat.ErrSyntax) || len(m.rules()) > 0 {
			t.Errorf("%s: Sync = %v, and %d rules", r, err, len(m.rules()))
		}
	}
}

// TestRefusedRulesAreTold takes what the kernel cannot do, which ipnat tells on
// standard error only. Nothing that worked is taken away for it.
func TestRefusedRulesAreTold(t *testing.T) {
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	before, _ := compile(t, v4Node(), web())
	if _, err := l.Sync(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	other := web()
	other.Ports[0].Port = 81
	after, _ := compile(t, v4Node(), other)
	odd := after[slices.IndexFunc(after, func(r ipnat.Rule) bool { return r.Kind == ipnat.Map })]
	odd.From = ipnat.Net{Addr: netip.MustParseAddr("10.244.0.1"), Mask: netip.MustParseAddr("255.255.0.255")} // which the simulated kernel cannot map
	_, err := l.Sync(t.Context(), append(after, odd))
	if !errors.Is(err, ipnat.ErrDrift) || !errors.Is(err, command.ErrComplained) || !strings.Contains(err.Error(), "Operation not supported") {
		t.Fatalf("Sync = %v", err)
	}
	have := m.rules()
	for _, r := range before {
		if !slices.Contains(have, r.String()) {
			t.Errorf("%s is gone although its successor is not there", r)
		}
	}
	if _, err := l.Apply(t.Context(), ipnat.Delta{Add: before[:1]}); !errors.Is(err, ipnat.ErrDrift) {
		t.Errorf("Apply after a failure = %v, want ErrDrift", err)
	}
}

func TestApply(t *testing.T) {
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		t.Fatal(err)
	}
	d := table.Set(web())
	if _, err := l.Apply(t.Context(), d); !errors.Is(err, ipnat.ErrDrift) {
		t.Fatalf("Apply before anything was read = %v", err)
	}
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	s := web()
	s.Ports[0].Endpoints[0] = on("n1", "10.244.1.77:8080")
	m.lines, m.ran = 0, nil
	if rep, err := l.Apply(t.Context(), table.Set(s)); err != nil || rep != (ipnat.Report{Added: 1, Removed: 1}) || m.lines != 2 {
		t.Fatalf("Apply = %+v, %v, %d lines", rep, err, m.lines)
	}
	m.equals(t, "applied", table.Rules(), nil)
	for _, c := range m.ran {
		if strings.Contains(c, "-l") {
			t.Errorf("%s reads all rules for one change", c)
		}
	}
	m.must("", "ipnat", "-C")
	if _, err := l.Apply(t.Context(), table.Set(web())); !errors.Is(err, ipnat.ErrDrift) {
		t.Errorf("Apply after a flush = %v", err)
	}
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	m.equals(t, "repaired", table.Rules(), nil)

	m.must("", "ipnat", "-C") // nothing to remove, so ipnat has nothing to complain of
	d = table.Set(other())
	if len(d.Remove) > 0 || len(d.Add) == 0 {
		t.Fatalf("not only added: %+v", d)
	}
	for range 2 { // and a second try does not take what it finds for right
		if _, err := l.Apply(t.Context(), d); !errors.Is(err, ipnat.ErrDrift) {
			t.Errorf("Apply after a flush = %v", err)
		}
	}
}

// other is a Service beside web.
func other() ipnat.Service {
	s := web()
	s.Name, s.ClusterIPs = "default/other", []netip.Addr{addr("10.96.0.9")}
	return s
}

// TestRulesOfAnotherVersionGo takes a redirect with our tag of a form that this
// version does not write.
func TestRulesOfAnotherVersionGo(t *testing.T) {
	m := newMachine(t)
	stale := "rdr rdwgw0 10.96.0.1/32 port 80-81 -> 10.244.1.5 port 8080 tcp tag " + ipnat.Tag("default/web")
	m.must(stale+"\n", "ipnat", "-f", "-")
	rules, _ := compile(t, v4Node(), web())
	if rep, err := ipnat.NewLoader(m).Sync(t.Context(), rules); err != nil || rep.Removed != 1 {
		t.Errorf("Sync = %+v, %v", rep, err)
	}
	m.equals(t, "synced", rules, nil)
}

func TestEnable(t *testing.T) {
	m := newMachine(t)
	m.must("", "ipf", "-D")
	l := ipnat.NewLoader(m)
	rules, _ := compile(t, v4Node(), web())
	if _, err := l.Sync(t.Context(), rules); !errors.Is(err, ipnat.ErrOff) {
		t.Fatalf("Sync while off = %v", err)
	}
	for range 2 {
		if err := l.Enable(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Sync(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	m.equals(t, "enabled", rules, nil)
	// The service's own start flushes what was there.
	m.must("", "svcadm", "enable", "-s", "svc:/network/ipfilter:default")
	if _, err := l.Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	m.equals(t, "service enabled", rules, nil)

	if err := ipnat.NewLoader(starting{m}).Enable(t.Context()); err != nil { // running already
		t.Fatal(err)
	}
	m.must("", "ipf", "-D")
	if err := ipnat.NewLoader(starting{m}).Enable(t.Context()); !errors.Is(err, ipnat.ErrOff) {
		t.Errorf("Enable while the service starts = %v", err)
	}
}

// starting is a host whose ipfilter service is on its way.
type starting struct{ *machine }

func (s starting) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if c.Name == "svcs" {
		return []byte("offline*\n"), nil
	}
	return s.machine.Run(ctx, c)
}

func TestCheckTables(t *testing.T) {
	m := newMachine(t)
	l := ipnat.NewLoader(m)
	for rules, want := range map[int]string{100: "", 50000: "ipf -D; ipf -T ipf_rdrrules_sz=6251; ipf -E"} {
		got, err := l.CheckTables(t.Context(), rules)
		if err != nil || (want == "") != (len(got.Advice) == 0) || want != "" && !strings.Contains(got.Advice[0], want) || got.MaxSessions != 30000 {
			t.Errorf("%d rules: %+v, %v", rules, got, err)
		}
	}
	m.must("", "ipf", "-D")
	if _, err := l.CheckTables(t.Context(), 1); !errors.Is(err, ipnat.ErrOff) {
		t.Errorf("while off: %v", err)
	}
}

func TestNoDevice(t *testing.T) {
	m := newMachine(t)
	if err := m.Fail("ipnat *", 1, "/dev/ipnat: open: No such file or directory\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := ipnat.NewLoader(m).Sync(t.Context(), nil); !errors.Is(err, ipnat.ErrNoDevice) {
		t.Errorf("Sync = %v", err)
	}
}
