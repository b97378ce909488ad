package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/zones/command"
)

var gateways = []netip.Prefix{netip.MustParsePrefix("10.244.3.1/24")}

// host runs the commands on the simulated host's model.
type host struct {
	model *datalink.Model
	nat   *ipf.Model
	ran   []string
	fail  func(cmd string) error
}

func newHost(t *testing.T, distro string) (*host, *network.Host) {
	t.Helper()
	h := &host{model: datalink.New(datalink.Config{
		Distro:  distro,
		Uplinks: []datalink.Physical{{Name: "net0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}},
	}), nat: ipf.New(ipf.Config{Enabled: true})}
	return h, network.New(h, network.Config{})
}

// Run implements command.Runner.
func (h *host) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	h.ran = append(h.ran, cmd.String())
	if h.fail != nil {
		if err := h.fail(cmd.String()); err != nil {
			return nil, err
		}
	}
	var out, errOut bytes.Buffer
	inv := &program.Invocation{
		Argv:  append([]string{cmd.Name}, cmd.Args...),
		Stdin: strings.NewReader(cmd.Stdin), Stdout: &out, Stderr: &errOut,
	}
	run, ok := h.model.Commands()[cmd.Name]
	if !ok {
		run = h.nat.Commands()[cmd.Name]
	}
	code := run(ctx, inv)
	if code != 0 {
		return nil, &command.Error{Cmd: cmd, ExitCode: code, Stdout: out.String(), Stderr: errOut.String(), Err: errors.New("exit status")}
	}
	return out.Bytes(), nil
}

// admin runs a command line as the administrator would.
func (h *host) admin(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := h.Run(t.Context(), command.New(f[0], f[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// check fails unless the host is set up.
func (h *host) check(t *testing.T) {
	t.Helper()
	for _, tt := range []struct{ cmd, want string }{
		{"dladm show-link -p -o class reddwarf0", "etherstub"},
		{"dladm show-link -p -o over rdwgw0", "reddwarf0"},
		{"ipadm show-addr -p -o addr rdwgw0/v4", "10.244.3.1/24"},
		{"ipadm show-prop -c -o current -p forwarding ipv4", "on"},
		{"ipadm show-prop -c -o current -p _send_redirects ipv4", "0"},
	} {
		if got := strings.TrimSpace(h.admin(t, tt.cmd)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.cmd, got, tt.want)
		}
	}
}

func TestSetup(t *testing.T) {
	for _, distro := range []string{"omnios", "smartos", "openindiana"} {
		t.Run(distro, func(t *testing.T) {
			h, n := newHost(t, distro)
			for range 2 {
				if err := n.Setup(t.Context(), gateways); err != nil {
					t.Fatal(err)
				}
				h.check(t)
			}
			h.ran = nil
			if err := n.Setup(t.Context(), gateways); err != nil {
				t.Fatal(err)
			}
			for _, cmd := range h.ran {
				if !strings.Contains(cmd, " show-") {
					t.Errorf("a host that is set up is changed: %s", cmd)
				}
			}
		})
	}
}

// TestSetupAfterCrash stops Setup before each of its commands and expects the
// next one to finish.
func TestSetupAfterCrash(t *testing.T) {
	h, n := newHost(t, "omnios")
	if err := n.Setup(t.Context(), gateways); err != nil {
		t.Fatal(err)
	}
	for step := range len(h.ran) {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			h, n := newHost(t, "omnios")
			ran := 0
			h.fail = func(cmd string) error {
				if ran++; ran > step {
					return &command.Error{ExitCode: -1, Err: context.DeadlineExceeded}
				}
				return nil
			}
			if err := n.Setup(t.Context(), gateways); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Setup = %v, want the fault", err)
			}
			h.fail = nil
			if err := n.Setup(t.Context(), gateways); err != nil {
				t.Fatal(err)
			}
			h.check(t)
		})
	}
}

func TestSetupRepairs(t *testing.T) {
	for _, broken := range []string{
		"ipadm delete-addr rdwgw0/v4",
		"ipadm delete-if rdwgw0",
		"ipadm set-prop -p forwarding=off ipv4",
		"ipadm set-prop -p _send_redirects=1 ipv4",
	} {
		t.Run(broken, func(t *testing.T) {
			h, n := newHost(t, "omnios")
			if err := n.Setup(t.Context(), gateways); err != nil {
				t.Fatal(err)
			}
			h.admin(t, broken)
			if err := n.Setup(t.Context(), gateways); err != nil {
				t.Fatal(err)
			}
			h.check(t)
		})
	}
}

func TestSetupReplacesTheAddress(t *testing.T) {
	h, n := newHost(t, "omnios")
	if err := n.Setup(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}); err != nil {
		t.Fatal(err)
	}
	if err := n.Setup(t.Context(), gateways); err != nil {
		t.Fatal(err)
	}
	h.check(t)
}

func TestSetupRefusesConflicts(t *testing.T) {
	for _, taken := range [][]string{
		{"dladm create-etherstub -t other0", "dladm create-vnic -t -l other0 reddwarf0"},
		{"dladm create-etherstub -t rdwgw0"},
		{"dladm create-etherstub -t other0", "dladm create-vnic -t -l other0 rdwgw0"},
	} {
		h, n := newHost(t, "omnios")
		for _, cmd := range taken {
			h.admin(t, cmd)
		}
		if err := n.Setup(t.Context(), gateways); !errors.Is(err, network.ErrConflict) {
			t.Errorf("after %q Setup = %v, want ErrConflict", taken, err)
		}
	}
}

func TestSetupRefusesBadGateways(t *testing.T) {
	for _, bad := range [][]netip.Prefix{
		{{}},
		{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.1.1/24")},
		{netip.MustParsePrefix("::ffff:10.0.0.1/120")},
	} {
		h, n := newHost(t, "omnios")
		if err := n.Setup(t.Context(), bad); err == nil || len(h.ran) > 0 {
			t.Errorf("Setup(%v) = %v after %q, want a refusal before any command", bad, err, h.ran)
		}
	}
}

func TestNothingOutlivesAReboot(t *testing.T) {
	h, n := newHost(t, "omnios")
	if err := errors.Join(n.Setup(t.Context(), gateways), n.EnsureVNIC(t.Context(), "rdw1")); err != nil {
		t.Fatal(err)
	}
	if err := h.model.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := h.admin(t, "dladm show-link -p -o link"), "net0\n"; got != want {
		t.Errorf("links %q after a reboot, want %q", got, want)
	}
	if err := n.Setup(t.Context(), gateways); err != nil {
		t.Fatal(err)
	}
	h.check(t)
}

func TestVNICLife(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	if err := n.Setup(ctx, gateways); err != nil {
		t.Fatal(err)
	}
	h.ran = nil
	if err := n.EnsureVNIC(ctx, "rdw1"); err != nil || len(h.ran) != 1 {
		t.Fatalf("EnsureVNIC = %v by %q, want one command", err, h.ran)
	}
	if err := n.EnsureVNIC(ctx, "rdw1"); err != nil {
		t.Fatal(err)
	}
	h.admin(t, "dladm create-etherstub -t other0")
	h.admin(t, "dladm create-vnic -t -l other0 foreign0")
	vnics, err := n.VNICs(ctx)
	if err != nil || len(vnics) != 2 {
		t.Fatalf("VNICs = %v, %v, want the gateway's and rdw1", vnics, err)
	}
	i := slices.IndexFunc(vnics, func(v network.VNIC) bool { return v.Name == "rdw1" })
	if i < 0 || vnics[i].Over != "reddwarf0" || len(vnics[i].MAC) != 6 {
		t.Errorf("VNICs = %v", vnics)
	}
	for range 2 {
		if err := n.RemoveVNIC(ctx, "rdw1"); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"EnsureVNIC": n.EnsureVNIC(ctx, "foreign0"),
		"RemoveVNIC": n.RemoveVNIC(ctx, "foreign0"),
	} {
		if !errors.Is(err, network.ErrConflict) {
			t.Errorf("%s of a foreign link = %v, want ErrConflict", what, err)
		}
	}
}

func TestRemoveVNICOfRunningZone(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	if err := errors.Join(n.Setup(ctx, gateways), n.EnsureVNIC(ctx, "rdw1")); err != nil {
		t.Fatal(err)
	}
	if err := h.model.Assign(ctx, "z", 3, "", zones.LinkConfig{Physical: "rdw1"}); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveVNIC(ctx, "rdw1"); !errors.Is(err, network.ErrBusy) {
		t.Errorf("RemoveVNIC = %v, want ErrBusy", err)
	}
	if err := h.model.Return(ctx, "z", 3); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveVNIC(ctx, "rdw1"); err != nil {
		t.Errorf("RemoveVNIC = %v", err)
	}
}

func TestUplink(t *testing.T) {
	h, n := newHost(t, "omnios")
	if u, err := n.Uplink(t.Context()); !errors.Is(err, network.ErrNotFound) {
		t.Errorf("Uplink without a default route = %v, %v, want ErrNotFound", u, err)
	}
	h.admin(t, "ipadm create-addr -T static -a 198.51.100.11/24 net0/v4")
	h.admin(t, "route -n add default 198.51.100.1")
	u, err := n.Uplink(t.Context())
	want := network.Uplink{
		Interface: "net0", Address: netip.MustParsePrefix("198.51.100.11/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
	}
	if err != nil || u != want {
		t.Errorf("Uplink = %v, %v, want %v", u, err, want)
	}
}

func TestRoutes(t *testing.T) {
	h, n := newHost(t, "omnios")
	h.admin(t, "ipadm create-addr -T static -a 198.51.100.11/24 net0/v4")
	dst, gw := netip.MustParsePrefix("10.244.9.0/24"), netip.MustParseAddr("198.51.100.12")
	for range 2 {
		if err := n.EnsureRoute(t.Context(), dst, gw); err != nil {
			t.Fatal(err)
		}
	}
	if out := h.admin(t, "route -n get 10.244.9.7"); !strings.Contains(out, "gateway: 198.51.100.12") {
		t.Errorf("route get says %q", out)
	}
	for range 2 {
		if err := n.RemoveRoute(t.Context(), dst, gw); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.EnsureRoute(t.Context(), netip.MustParsePrefix("10.244.9.1/24"), gw); err == nil {
		t.Error("EnsureRoute took an address for a network")
	}
}

func TestValidLinkName(t *testing.T) {
	for _, good := range []string{"rdw0", "rdw17", "a0", "net_10", "a.b3", "r2d20", "reddwarf0", strings.Repeat("a", 30) + "1"} {
		if err := network.ValidLinkName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "rdw", "1a", "a01", "a00", "pod-1", "a 1", "a1 ", "a/1", "-t0", "0", "a\n1", "_a1", strings.Repeat("a", 31) + "1"} {
		if err := network.ValidLinkName(bad); !errors.Is(err, network.ErrName) {
			t.Errorf("%q: %v, want ErrName", bad, err)
		}
	}
	h, n := newHost(t, "omnios")
	if err := errors.Join(n.EnsureVNIC(t.Context(), "-t")); !errors.Is(err, network.ErrName) || len(h.ran) > 0 {
		t.Errorf("EnsureVNIC = %v after %q", err, h.ran)
	}
}
