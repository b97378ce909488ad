package network_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/zones/command"
)

func egress() network.Egress {
	return network.Egress{
		Uplink: "net0", Address: netip.MustParseAddr("198.51.100.11"),
		Pods: netip.MustParsePrefix("10.244.3.0/24"), Cluster: netip.MustParsePrefix("10.244.0.0/16"),
	}
}

func hostPort(port uint16, pod string) network.HostPort {
	return network.HostPort{
		Protocol: "tcp", Host: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.11"), port), Pod: netip.MustParseAddrPort(pod),
	}
}

// The rules of egress() and of hostPort(8080, "10.244.3.5:80").
var (
	egressRules = []string{
		"map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 10000:29999",
		"map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32",
	}
	portRules = []string{
		"rdr net0 198.51.100.11/32 port 8080 -> 10.244.3.5 port 80 tcp tag rdwhostport",
		"rdr rdwgw0 198.51.100.11/32 port 8080 -> 10.244.3.5 port 80 tcp tag rdwhostport",
		"map rdwgw0 from 10.244.3.0/24 to 10.244.3.5/32 port = 80 -> 10.244.3.1/32 portmap tcp 10000:29999",
	}
)

// rules returns what the kernel has.
func (h *host) rules(t *testing.T) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(h.admin(t, "ipnat -lR")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "map ") || strings.HasPrefix(line, "rdr ") {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

// feed changes the kernel's rules as somebody else would.
func (h *host) feed(t *testing.T, rule string, args ...string) {
	t.Helper()
	if _, err := h.Run(t.Context(), command.Cmd{Name: "ipnat", Args: append(args, "-f", "-"), Stdin: rule + "\n"}); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, got []string, want ...[]string) {
	t.Helper()
	all := slices.Concat(want...)
	slices.Sort(all)
	if !slices.Equal(got, all) {
		t.Errorf("rules\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(all, "\n"))
	}
}

func TestNAT(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	foreign := []string{
		"map net0 10.9.0.0/16 -> 0.0.0.0/32",
		"rdr rdwgw0 10.96.0.1/32 port 443 -> 198.51.100.1 port 6443 tcp round-robin tag rdwsvc012345678",
	}
	for _, rule := range foreign {
		h.feed(t, rule)
	}
	nat := n.NAT()
	e := egress()
	nat.Plan(plan, &e)
	for range 2 {
		if err := nat.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		expect(t, h.rules(t), foreign, egressRules)
	}
	if err := nat.SetPorts(ctx, "a", []network.HostPort{hostPort(8080, "10.244.3.5:80")}); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), foreign, egressRules, portRules)

	h.feed(t, egressRules[1], "-r") // as when somebody reloads rules
	if err := nat.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), foreign, egressRules, portRules)

	if err := nat.SetPorts(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), foreign, egressRules)
	h.ran = nil
	if err := nat.SetPorts(ctx, "b", nil); err != nil || len(h.ran) > 0 {
		t.Errorf("a pod without host ports: %v after %q, want no command", err, h.ran)
	}
	nat.Plan(plan, nil)
	if err := nat.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), foreign)
}

// TestNATOfAnotherAgent starts with the rules of an agent that knew other
// networks and other pods.
func TestNATOfAnotherAgent(t *testing.T) {
	h, _ := newHost(t, "omnios")
	ctx := t.Context()
	record := t.TempDir() + "/network.json"
	old := network.New(h, network.Config{Record: record}).NAT()
	e := egress()
	e.Cluster = netip.MustParsePrefix("10.244.0.0/18")
	old.Plan(plan, &e)
	if err := old.SetPorts(ctx, "gone", []network.HostPort{hostPort(9090, "10.244.3.9:90")}); err != nil {
		t.Fatal(err)
	}
	same := "map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32"
	h.feed(t, same) // what the new one wants, but an operator made it

	n := network.New(h, network.Config{Record: record})
	nat := n.NAT()
	e = egress()
	nat.Plan(plan, &e)
	nat.ClaimPorts("stays", []network.HostPort{hostPort(8080, "10.244.3.5:80")})
	if err := nat.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), egressRules, portRules)
	if err := n.Teardown(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, h.rules(t), []string{same})
}

// lying is a host whose ipnat succeeds and does nothing, as ipnat(8) looks
// when the kernel refuses a rule.
type lying struct{ *host }

// Run implements command.Runner.
func (l lying) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	if cmd.Name == "ipnat" && len(cmd.Args) == 2 && cmd.Args[0] == "-f" {
		return nil, nil
	}
	return l.host.Run(ctx, cmd)
}

func TestNATReadsBack(t *testing.T) {
	h, _ := newHost(t, "omnios")
	nat := network.New(lying{h}, network.Config{}).NAT()
	e := egress()
	nat.Plan(plan, &e)
	if err := nat.Sync(t.Context()); err == nil {
		t.Error("Sync believed the exit code")
	}
}

func TestNATRefuses(t *testing.T) {
	for name, edit := range map[string]func(*network.Egress){
		"a rule in the uplink": func(e *network.Egress) { e.Uplink = "net0 10.0.0.0/8 -> 0/32\nmap net0" },
		"no uplink":            func(e *network.Egress) { e.Uplink = "" },
		"no address":           func(e *network.Egress) { e.Address = netip.Addr{} },
		"IPv6":                 func(e *network.Egress) { e.Pods = netip.MustParsePrefix("fd00::/64") },
		"not a network":        func(e *network.Egress) { e.Cluster = netip.MustParsePrefix("10.244.0.1/16") },
	} {
		h, n := newHost(t, "omnios")
		e := egress()
		edit(&e)
		nat := n.NAT()
		nat.Plan(plan, &e)
		if err := nat.Sync(t.Context()); err == nil || len(h.ran) > 0 {
			t.Errorf("%s: %v after %q", name, err, h.ran)
		}
	}
	for name, p := range map[string]network.HostPort{
		"SCTP":                {Protocol: "sctp", Host: netip.MustParseAddrPort("198.51.100.11:1"), Pod: netip.MustParseAddrPort("10.244.3.5:1")},
		"IPv6":                {Protocol: "tcp", Host: netip.MustParseAddrPort("[fd00::1]:1"), Pod: netip.MustParseAddrPort("[fd01::1]:1")},
		"a pod of other nets": hostPort(1, "10.9.9.9:1"),
	} {
		h, n := newHost(t, "omnios")
		nat := n.NAT()
		nat.Plan(plan, nil)
		if err := nat.SetPorts(t.Context(), "a", []network.HostPort{p}); err == nil || len(h.ran) > 0 {
			t.Errorf("%s: %v after %q", name, err, h.ran)
		}
	}
	h, n := newHost(t, "omnios")
	h.fail = func(string) error {
		return &command.Error{ExitCode: 1, Stderr: "/dev/ipnat: open: No such file or directory\n", Err: errors.New("exit")}
	}
	nat := n.NAT()
	e := egress()
	nat.Plan(plan, &e)
	if err := nat.Sync(t.Context()); !errors.Is(err, network.ErrNoNAT) {
		t.Errorf("Sync = %v, want ErrNoNAT", err)
	}
}
