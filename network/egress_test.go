package network_test

import (
	"context"
	"errors"
	"net/netip"
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

func TestEgress(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	foreign := "map net0 10.9.0.0/16 -> 0.0.0.0/32"
	if _, err := h.Run(ctx, command.Cmd{Name: "ipnat", Args: []string{"-f", "-"}, Stdin: foreign + "\n"}); err != nil {
		t.Fatal(err)
	}
	before := h.admin(t, "ipnat -lR")
	for range 2 {
		if err := n.EnsureEgress(ctx, egress()); err != nil {
			t.Fatal(err)
		}
	}
	out := h.admin(t, "ipnat -lR")
	for _, want := range []string{
		foreign,
		"map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 10000:29999",
		"map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32",
	} {
		if strings.Count(out, want+"\n") != 1 {
			t.Errorf("rules lack %q:\n%s", want, out)
		}
	}
	// One of the two vanishes, as when somebody reloads rules.
	gone := "map net0 from 10.244.3.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32\n"
	if _, err := h.Run(ctx, command.Cmd{Name: "ipnat", Args: []string{"-r", "-f", "-"}, Stdin: gone}); err != nil {
		t.Fatal(err)
	}
	if err := n.EnsureEgress(ctx, egress()); err != nil || h.admin(t, "ipnat -lR") != out {
		t.Errorf("EnsureEgress = %v, rules:\n%s", err, h.admin(t, "ipnat -lR"))
	}
	for range 2 {
		if err := n.RemoveEgress(ctx, egress()); err != nil {
			t.Fatal(err)
		}
	}
	if after := h.admin(t, "ipnat -lR"); after != before {
		t.Errorf("rules after the removal:\n%swant\n%s", after, before)
	}
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

func TestEgressReadsBack(t *testing.T) {
	h, _ := newHost(t, "omnios")
	n := network.New(lying{h}, network.Config{})
	if err := n.EnsureEgress(t.Context(), egress()); err == nil {
		t.Error("EnsureEgress believed the exit code")
	}
}

func TestEgressRefuses(t *testing.T) {
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
		if err := n.EnsureEgress(t.Context(), e); err == nil || len(h.ran) > 0 {
			t.Errorf("%s: %v after %q", name, err, h.ran)
		}
	}
	h, n := newHost(t, "omnios")
	h.fail = func(string) error {
		return &command.Error{ExitCode: 1, Stderr: "/dev/ipnat: open: No such file or directory\n", Err: errors.New("exit")}
	}
	if err := n.EnsureEgress(t.Context(), egress()); !errors.Is(err, network.ErrNoNAT) {
		t.Errorf("EnsureEgress = %v, want ErrNoNAT", err)
	}
}
