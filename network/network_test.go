package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
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

// plan is what most tests set up. The host has its uplink already.
var plan = network.Plan{Gateways: []netip.Prefix{netip.MustParsePrefix("10.244.3.1/24")}, Uplink: "net0", MTU: 1500}

// vnic is a pod's.
func vnic(name string) network.VNIC { return network.VNIC{Name: name} }

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
	for _, line := range []string{
		"ipadm create-if net0", "ipadm create-addr -T static -a 198.51.100.11/24 net0/v4", "route -p add default 198.51.100.1",
	} {
		h.admin(t, line)
	}
	h.ran = nil
	return h, network.New(h, network.Config{Record: filepath.Join(t.TempDir(), "run", "network.json")})
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
		{"ipadm show-prop -c -o current -p forwarding ipv4", "off"}, // other interfaces are not our business
		{"ipadm show-ifprop -c -o current -p forwarding -m ipv4 rdwgw0", "on"},
		{"ipadm show-ifprop -c -o current -p forwarding -m ipv4 net0", "on"},
		{"dladm show-link -p -o mtu rdwgw0", "1500"},
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
				if err := n.Setup(t.Context(), plan); err != nil {
					t.Fatal(err)
				}
				h.check(t)
			}
			h.ran = nil
			if err := n.Setup(t.Context(), plan); err != nil {
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
	if err := n.Setup(t.Context(), plan); err != nil {
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
			if err := n.Setup(t.Context(), plan); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Setup = %v, want the fault", err)
			}
			h.fail = nil
			if err := n.Setup(t.Context(), plan); err != nil {
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
		"ipadm set-prop -t -p forwarding=off ipv4",
		"ipadm set-ifprop -t -p forwarding=off -m ipv4 net0",
		"ipadm set-prop -t -p _send_redirects=1 ipv4",
	} {
		t.Run(broken, func(t *testing.T) {
			h, n := newHost(t, "omnios")
			if err := n.Setup(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			h.admin(t, broken)
			if err := n.Setup(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			h.check(t)
		})
	}
}

func TestSetupReplacesTheAddress(t *testing.T) {
	h, n := newHost(t, "omnios")
	if err := n.Setup(t.Context(), network.Plan{Gateways: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, MTU: 1500}); err != nil {
		t.Fatal(err)
	}
	if err := n.Setup(t.Context(), plan); err != nil {
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
		if err := n.Setup(t.Context(), plan); !errors.Is(err, network.ErrConflict) {
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
		if err := n.Setup(t.Context(), network.Plan{Gateways: bad}); err == nil || len(h.ran) > 0 {
			t.Errorf("Setup(%v) = %v after %q, want a refusal before any command", bad, err, h.ran)
		}
	}
}

func TestNothingOutlivesAReboot(t *testing.T) {
	h, n := newHost(t, "omnios")
	if err := errors.Join(n.Setup(t.Context(), plan), n.EnsureVNIC(t.Context(), vnic("rdw1"))); err != nil {
		t.Fatal(err)
	}
	if err := h.model.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := h.admin(t, "dladm show-link -p -o link"), "net0\n"; got != want {
		t.Errorf("links %q after a reboot, want %q", got, want)
	}
	if err := n.Setup(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	h.check(t)
}

func TestVNICLife(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	if err := n.Setup(ctx, plan); err != nil {
		t.Fatal(err)
	}
	h.ran = nil
	if err := n.EnsureVNIC(ctx, vnic("rdw1")); err != nil || len(h.ran) != 1 {
		t.Fatalf("EnsureVNIC = %v by %q, want one command", err, h.ran)
	}
	if err := n.EnsureVNIC(ctx, vnic("rdw1")); err != nil {
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
		"EnsureVNIC": n.EnsureVNIC(ctx, vnic("foreign0")),
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
	if err := errors.Join(n.Setup(ctx, plan), n.EnsureVNIC(ctx, vnic("rdw1"))); err != nil {
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

func TestVNICProperties(t *testing.T) {
	h, n := newHost(t, "omnios")
	ctx := t.Context()
	if err := n.Setup(ctx, plan); err != nil {
		t.Fatal(err)
	}
	maxbw := func() string { return strings.TrimSpace(h.admin(t, "dladm show-linkprop -c -o value -p maxbw rdw1")) }
	for _, tt := range []struct {
		bandwidth int64
		want      string
	}{{10_000_000, "10"}, {1_200_000, "1.200"}, {2_500_000_000, "2500"}, {0, ""}} {
		if err := n.EnsureVNIC(ctx, network.VNIC{Name: "rdw1", Bandwidth: tt.bandwidth}); err != nil {
			t.Fatal(err)
		}
		if got := maxbw(); got != tt.want {
			t.Errorf("maxbw of %d bit/s is %q, want %q", tt.bandwidth, got, tt.want)
		}
		if mtu := strings.TrimSpace(h.admin(t, "dladm show-link -p -o mtu rdw1")); mtu != "1500" {
			t.Errorf("MTU %s, want the uplink's", mtu)
		}
	}
	h.ran = nil
	if err := n.EnsureVNIC(ctx, network.VNIC{Name: "rdw2", Bandwidth: 1_199_999}); err == nil || len(h.ran) > 0 {
		t.Errorf("a limit below what a link takes = %v after %q", err, h.ran)
	}
}

func TestUplink(t *testing.T) {
	h, n := newHost(t, "omnios")
	want := network.Uplink{Interface: "net0", Address: netip.MustParsePrefix("198.51.100.11/24"), MTU: 1500}
	if u, err := n.Uplink(t.Context()); err != nil || u != want {
		t.Errorf("Uplink = %v, %v, want %v", u, err, want)
	}
	if u, err := n.Uplink(t.Context(), netip.MustParseAddr("192.0.2.9"), want.Address.Addr()); err != nil || u != want {
		t.Errorf("Uplink by its address = %v, %v, want %v", u, err, want)
	}
	h.admin(t, "route -p delete default 198.51.100.1")
	if u, err := n.Uplink(t.Context()); !errors.Is(err, network.ErrNotFound) {
		t.Errorf("Uplink without a default route = %v, %v, want ErrNotFound", u, err)
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
	if err := errors.Join(n.EnsureVNIC(t.Context(), vnic("-t"))); !errors.Is(err, network.ErrName) || len(h.ran) > 0 {
		t.Errorf("EnsureVNIC = %v after %q", err, h.ran)
	}
}
