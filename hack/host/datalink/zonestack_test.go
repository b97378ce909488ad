package datalink

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// plumbed notes what is set inside of zones.
type plumbed struct {
	NoBackend
	done []string
}

func (p *plumbed) PlumbZone(_ context.Context, name, netns string, addrs []netip.Prefix, routers []netip.Addr) error {
	for _, a := range addrs {
		p.done = append(p.done, name+" in "+netns+" has "+a.String())
	}
	for _, r := range routers {
		p.done = append(p.done, name+" in "+netns+" routes to "+r.String())
	}
	return nil
}

func TestZoneStack(t *testing.T) {
	backend := &plumbed{}
	m := New(Config{Backend: backend})
	run := func(commands map[string]program.Command, line string) (string, int) {
		var out bytes.Buffer
		argv := strings.Fields(line)
		code := commands[argv[0]](t.Context(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
		return out.String(), code
	}
	for _, line := range []string{"dladm create-etherstub -t stub0", "dladm create-vnic -t -l stub0 rdw1"} {
		if out, code := run(m.Commands(), line); code != 0 {
			t.Fatalf("%s: %s", line, out)
		}
	}
	if _, err := m.ZoneCommands(7); !errors.Is(err, ErrNoZone) {
		t.Errorf("a zone without links: %v", err)
	}
	allowed := netip.MustParsePrefix("10.244.0.9/24")
	if err := m.Assign(t.Context(), "z", 7, "ns7", zones.LinkConfig{Physical: "rdw1", Allowed: []netip.Prefix{allowed}}); err != nil {
		t.Fatal(err)
	}
	zone, err := m.ZoneCommands(7)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		line, out string
		code      int
	}{
		{"ipadm show-addr -p -o addrobj", "", 0},
		{"ipadm create-addr -t -T static -a 127.0.0.1/8 lo0/v4", "ipadm: Could not create address: Could not communicate with ipmgmtd\n", 1},
		{"ipmgmtd", "", 0},
		{"ipadm create-addr -t -T static -a 127.0.0.1/8 lo0/v4", "", 0},
		{"ipadm create-addr -T static -a 10.244.0.9/24 rdw1/v4", "ipadm: Could not create address: Persistent operation on temporary object\n", 1},
		{"route -n add -inet default 10.244.0.1", "add net default: gateway 10.244.0.1: Network is unreachable\n", 128},
		{"ipadm create-addr -t -T static -a 10.244.0.9/24 rdw1/v4", "", 0},
		{"ipadm create-addr -t -T static -a 10.244.0.8/24 rdw2/v4", "ipadm: Could not create address: Could not open DLPI link\n", 1},
		{"route -n add -inet default 10.244.0.1", "add net default: gateway 10.244.0.1\n", 0},
		{"ipadm show-addr -p -o addrobj,type,state,addr", "lo0/v4:static:ok:127.0.0.1/8\nrdw1/v4:from-gz:ok:10.244.0.9/24\n", 0},
		{"ipadm delete-addr rdw1/v4", "simulated host: that is not simulated inside of a zone\nipadm: could not delete address: Operation failed\n", 1},
	} {
		if out, code := run(zone, s.line); out != s.out || code != s.code {
			t.Errorf("%s: exit %d\n%swant exit %d\n%s", s.line, code, out, s.code, s.out)
		}
	}
	want := []string{"rdw1 in ns7 has 10.244.0.9/24", "rdw1 in ns7 routes to 10.244.0.1"}
	if !slices.Equal(backend.done, want) {
		t.Errorf("the zone got %q, want %q", backend.done, want)
	}
	if out, _ := run(m.Commands(), "ipadm show-addr -p -o addrobj"); strings.Contains(out, "rdw1") {
		t.Errorf("the global zone has the zone's address: %s", out)
	}
	// A stack goes with its zone.
	if err := m.Return(t.Context(), "z", 7); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ZoneCommands(7); !errors.Is(err, ErrNoZone) {
		t.Errorf("after the zone: %v", err)
	}
}
