package network_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/zones/command"
)

func route(to, gateway string) network.Route {
	return network.Route{To: netip.MustParsePrefix(to), Gateway: netip.MustParseAddr(gateway)}
}

// way says where the host sends packets to an address.
func (h *host) way(t *testing.T, to string) string {
	t.Helper()
	for line := range strings.Lines(h.admin(t, "route -n get "+to)) {
		if gw, ok := strings.CutPrefix(strings.TrimSpace(line), "gateway: "); ok {
			return gw
		}
	}
	return ""
}

func TestSyncRoutes(t *testing.T) {
	h, _ := newHost(t, "omnios")
	ctx := t.Context()
	record := t.TempDir() + "/network.json"
	h.admin(t, "route -n add 10.244.8.0/24 198.51.100.12") // an operator's
	h.admin(t, "route -n add 10.9.0.0/16 198.51.100.99")
	n := network.New(h, network.Config{Record: record})
	a, b, theirs := route("10.244.9.0/24", "198.51.100.13"), route("10.244.10.0/24", "198.51.100.14"), route("10.244.8.0/24", "198.51.100.12")
	for range 2 {
		if err := n.SyncRoutes(ctx, []network.Route{a, b, theirs}, true); err != nil {
			t.Fatal(err)
		}
	}
	for to, want := range map[string]string{"10.244.9.7": "198.51.100.13", "10.244.10.7": "198.51.100.14", "10.244.8.7": "198.51.100.12"} {
		if got := h.way(t, to); got != want {
			t.Errorf("%s goes through %s, want %s", to, got, want)
		}
	}
	// Another agent starts; one node is gone, another has a new address.
	n = network.New(h, network.Config{Record: record})
	if err := n.SyncRoutes(ctx, []network.Route{route("10.244.9.0/24", "198.51.100.23")}, true); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"10.244.9.7": "198.51.100.23", "10.244.10.7": "198.51.100.1", // the default route
		"10.244.8.7": "198.51.100.12", "10.9.1.1": "198.51.100.99",
	} {
		if got := h.way(t, to); got != want {
			t.Errorf("%s goes through %s, want %s", to, got, want)
		}
	}
	h.ran = nil
	if err := n.SyncRoutes(ctx, []network.Route{route("10.244.9.0/24", "198.51.100.23")}, false); err != nil || len(h.ran) > 0 {
		t.Errorf("nothing to do: %v after %q", err, h.ran)
	}
	h.admin(t, "route -n delete 10.244.9.0/24 198.51.100.23") // somebody breaks it
	if err := n.SyncRoutes(ctx, []network.Route{route("10.244.9.0/24", "198.51.100.23")}, true); err != nil || h.way(t, "10.244.9.7") != "198.51.100.23" {
		t.Errorf("not repaired: %v", err)
	}
}

// TestSyncRoutesAfterCrash stops before every command and every write, and
// expects the next run to leave no route of its own behind.
func TestSyncRoutesAfterCrash(t *testing.T) {
	want := []network.Route{route("10.244.9.0/24", "198.51.100.13"), route("10.244.10.0/24", "198.51.100.14")}
	for step := range 2 {
		h, _ := newHost(t, "omnios")
		record := t.TempDir() + "/network.json"
		ran := 0
		h.fail = func(string) error {
			if ran++; ran > step {
				return &command.Error{ExitCode: -1, Err: context.DeadlineExceeded}
			}
			return nil
		}
		n := network.New(h, network.Config{Record: record})
		if err := n.SyncRoutes(t.Context(), want, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("SyncRoutes = %v, want the fault", err)
		}
		h.fail = nil
		if err := network.New(h, network.Config{Record: record}).SyncRoutes(t.Context(), nil, true); err != nil {
			t.Fatal(err)
		}
		if got := h.way(t, "10.244.9.7"); got != "198.51.100.1" {
			t.Errorf("after %d commands a route through %s stayed", step, got)
		}
	}
}

func TestSyncRoutesErrors(t *testing.T) {
	h, n := newHost(t, "omnios")
	far, good := route("10.244.9.0/24", "203.0.113.5"), route("10.244.10.0/24", "198.51.100.14")
	err := n.SyncRoutes(t.Context(), []network.Route{far, good}, true)
	var re *network.RouteError
	if !errors.Is(err, network.ErrUnreachable) || !errors.As(err, &re) || re.Route != far {
		t.Errorf("SyncRoutes = %v, want ErrUnreachable of the far one", err)
	}
	if h.way(t, "10.244.10.7") != "198.51.100.14" {
		t.Error("one bad route kept a good one away")
	}
	for _, bad := range []network.Route{route("0.0.0.0/0", "198.51.100.14"), route("10.244.9.1/24", "198.51.100.14"), route("fd00::/64", "198.51.100.14")} {
		if err := n.SyncRoutes(t.Context(), []network.Route{good, bad}, true); err == nil {
			t.Errorf("SyncRoutes took %v", bad)
		}
	}
}

func TestRecordThatCannotBeRead(t *testing.T) {
	h, _ := newHost(t, "omnios")
	for _, text := range []string{"{", `{"version":2}`, `{"version":1,"routes":[{"to":"x"}]}`} {
		record := t.TempDir() + "/network.json"
		if err := os.WriteFile(record, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.ran = nil
		n := network.New(h, network.Config{Record: record})
		if err := n.SyncRoutes(t.Context(), []network.Route{route("10.244.9.0/24", "198.51.100.13")}, true); err == nil || len(h.ran) > 0 {
			t.Errorf("record %q: %v after %q, want a refusal", text, err, h.ran)
		}
	}
}

// state is everything of the host's network that can be looked at.
func (h *host) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, cmd := range []string{
		"dladm show-link -p -o link,class,mtu,over", "ipadm show-addr -p -o addrobj,type,state,addr", "ipadm show-if -p -o ifname,state",
		"ipadm show-prop -c -o property,current -p forwarding ipv4", "ipadm show-prop -c -o property,current -p _send_redirects ipv4",
		"ipadm show-ifprop -c -o property,current -p forwarding -m ipv4 net0", "ipnat -lR",
		"route -n get 10.244.9.7", "route -n get 10.9.1.1", "route -n get 10.244.3.7",
	} {
		b.WriteString("# " + cmd + "\n" + h.admin(t, cmd))
	}
	return b.String()
}

func TestTeardown(t *testing.T) {
	h, _ := newHost(t, "omnios")
	ctx := t.Context()
	h.admin(t, "route -n add 10.9.0.0/16 198.51.100.99")
	h.admin(t, "dladm create-etherstub -t other0")
	h.admin(t, "dladm create-vnic -t -l other0 rdw7")
	h.feed(t, "map net0 10.9.0.0/16 -> 0.0.0.0/32")
	before := h.state(t)
	record := t.TempDir() + "/network.json"
	n := network.New(h, network.Config{Record: record})
	e := egress()
	nat := n.NAT()
	nat.Plan(plan, &e)
	err := errors.Join(n.Setup(ctx, plan), n.SyncRoutes(ctx, []network.Route{route("10.244.9.0/24", "198.51.100.13")}, true),
		nat.SetPorts(ctx, "a", []network.HostPort{hostPort(8080, "10.244.3.5:80")}), n.EnsureVNIC(ctx, vnic("rdw1")))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := n.Remains(ctx); err != nil || len(left) != 3+1+5 {
		t.Errorf("Remains = %q, %v", left, err)
	}
	n = network.New(h, network.Config{Record: record}) // reddwarf leave is another process
	if err := n.Teardown(ctx); !errors.Is(err, network.ErrBusy) {
		t.Errorf("Teardown with a pod's VNIC = %v, want ErrBusy", err)
	}
	if err := n.RemoveVNIC(ctx, "rdw1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Teardown(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if after := h.state(t); after != before {
		t.Errorf("the host is not as it was:\n%s\nwant\n%s", after, before)
	}
	if left, err := n.Remains(ctx); err != nil || len(left) > 0 {
		t.Errorf("Remains = %q, %v", left, err)
	}
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
	if !slices.Contains(h.rules(t), "map net0 10.9.0.0/16 -> 0.0.0.0/32") {
		t.Error("a foreign rule is gone")
	}
}
