package datalink_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/zones"
)

func TestLinkOfAZone(t *testing.T) {
	m := newModel("omnios")
	must := func(line string) string {
		t.Helper()
		code, out, errOut := run(t, m, line)
		if code != 0 {
			t.Fatalf("%s: %s", line, errOut)
		}
		return out
	}
	must("dladm create-etherstub -t stub0")
	must("dladm create-vnic -t -l stub0 rdw1")
	addr := netip.MustParsePrefix("10.244.0.5/24")
	c := zones.LinkConfig{Physical: "rdw1", Allowed: []netip.Prefix{addr}, Addresses: []netip.Prefix{addr}}
	if err := m.CheckAssign("rdw1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Assign(t.Context(), "web", 7, "", c); err != nil {
		t.Fatal(err)
	}
	if got := must("dladm show-linkprop -c -o property,value -p zone,protection,allowed-ips rdw1"); got != "zone:web\nprotection:ip-nospoof\nallowed-ips:10.244.0.5/32\n" {
		t.Errorf("properties in the zone:\n%s", got)
	}
	for line, want := range map[string]string{
		"dladm delete-vnic -t rdw1": "dladm: vnic deletion failed: link busy\n",
		"ipadm create-if -t rdw1":   "ipadm: Could not create rdw1 : Interface already in use\n",
	} {
		if code, _, errOut := run(t, m, line); code != 1 || errOut != want {
			t.Errorf("%s: exit %d, %s", line, code, errOut)
		}
	}
	if err := m.CheckAssign("rdw1"); !errors.As(err, new(datalink.ErrBusy)) || !strings.HasPrefix(err.Error(), "WARNING: ") {
		t.Errorf("giving it to another zone: %v", err)
	}
	if err := m.Return(t.Context(), "web", 8); err != nil { // another boot of the zone
		t.Fatal(err)
	}
	if err := m.Plumb(t.Context(), "web", 7, "", c); err != nil {
		t.Errorf("the link is no longer in the zone: %v", err)
	}
	if err := m.Return(t.Context(), "web", 7); err != nil {
		t.Fatal(err)
	}
	if got := must("dladm show-linkprop -c -o property,value -p zone,protection,allowed-ips rdw1"); got != "zone:\nprotection:\nallowed-ips:\n" {
		t.Errorf("properties after the halt:\n%s", got)
	}
	must("dladm delete-vnic -t rdw1")
}

func TestLinksThatAreRefused(t *testing.T) {
	m := newModel("omnios")
	for _, line := range []string{"dladm create-etherstub -t stub0", "dladm create-vnic -t -l stub0 gw0", "ipadm create-addr -t -T static -a 10.0.0.1/24 gw0/v4",
		"dladm create-vnic -t -l stub0 -p protection=ip-nospoof,allowed-ips=10.0.0.9 own1"} {
		if code, _, errOut := run(t, m, line); code != 0 {
			t.Fatalf("%s: %s", line, errOut)
		}
	}
	if err := m.CheckAssign("none0"); !errors.Is(err, datalink.ErrNoLink) {
		t.Errorf("a link that is not there: %v", err)
	}
	if err := m.CheckAssign("gw0"); err == nil || err.Error() != "WARNING: skipping network interface 'gw0' which is used in the global zone" {
		t.Errorf("a link that is plumbed: %v", err)
	}
	c := zones.LinkConfig{Physical: "own1", Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}}
	if err := m.Assign(t.Context(), "web", 1, "", c); err == nil || err.Error() != "Protection is already set" {
		t.Errorf("a link with protection: %v", err)
	}
	c.Allowed = nil
	if err := m.Assign(t.Context(), "web", 1, "", c); err != nil {
		t.Errorf("the same without allowed-address: %v", err)
	}
}

// broken is a Backend that cannot move links.
type broken struct{ datalink.NoBackend }

func (broken) MoveToZone(context.Context, string, string) error { return errors.New("no way") }

func TestFailedAssignLeavesTheLinkAlone(t *testing.T) {
	m := datalink.New(datalink.Config{Backend: broken{}})
	run(t, m, "dladm create-etherstub -t stub0")
	run(t, m, "dladm create-vnic -t -l stub0 rdw1")
	_, before, _ := run(t, m, "dladm show-linkprop -c -o value rdw1")
	c := zones.LinkConfig{Physical: "rdw1", Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}}
	if err := m.Assign(t.Context(), "web", 1, "/proc/1/ns/net", c); err == nil {
		t.Fatal("Assign did not fail")
	}
	if _, after, _ := run(t, m, "dladm show-linkprop -c -o value rdw1"); after != before {
		t.Errorf("properties were\n%s and are\n%s", before, after)
	}
	stats, err := m.Stats(t.Context())
	if err != nil || !slices.ContainsFunc(stats, func(s datalink.LinkStats) bool { return s.Name == "rdw1" && s.Zone == "" }) {
		t.Errorf("Stats = %v, %v", stats, err)
	}
}
