package ipnat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/host/ipf/trace"
	"reddwarf.io/reddwarf/network/ipnat"
)

// generator makes clusters. The same seed makes the same ones.
type generator struct{ *rand.Rand }

func seeded(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 4))} }

// one says yes in one of n cases.
func (g generator) one(n int) bool { return g.IntN(n) == 0 }

// endpoint is on one of three nodes, in one of all conditions.
func (g generator) endpoint() ipnat.Endpoint {
	node := 1 + g.IntN(3)
	e := ipnat.Endpoint{Node: fmt.Sprintf("n%d", node), Port: uint16(8080 + g.IntN(2))}
	e.Addr = netip.AddrFrom4([4]byte{10, 244, byte(node), byte(2 + g.IntN(12))})
	if g.one(8) {
		e.Addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + node)}) // host network
	}
	e.Ready, e.Serving, e.Terminating = !g.one(4), !g.one(4), g.one(4)
	if g.one(2) {
		e.ForZones = []string{[]string{"za", "zb"}[g.IntN(2)]}
	}
	if g.one(3) {
		e.ForNodes = []string{e.Node}
	}
	return e
}

// service is number i of the cluster.
func (g generator) service(i int) ipnat.Service {
	s := ipnat.Service{Name: fmt.Sprintf("ns%d/s%d", g.IntN(2), i), Created: time.Unix(int64(g.IntN(3)), 0),
		Affinity: g.one(4), InternalLocal: g.one(4), ExternalLocal: g.one(3)}
	if !g.one(8) {
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}
	}
	if g.one(4) {
		s.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(g.IntN(3))})}
	}
	if g.one(4) {
		s.LoadBalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(g.IntN(4))})}
		for range g.IntN(3) {
			s.SourceRanges = append(s.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(g.IntN(256))}), 24+g.IntN(9)))
		}
	}
	proto := []ipnat.Protocol{ipnat.TCP, ipnat.UDP}
	for j := range 1 + g.IntN(3) {
		p := ipnat.Port{Name: fmt.Sprintf("p%d", j), Protocol: proto[g.IntN(2)], Port: uint16(80 + j)}
		if g.one(3) && len(s.ClusterIPs) > 0 {
			p.NodePort = uint16(30000 + 10*i + j)
		}
		for range g.IntN(6) {
			p.Endpoints = append(p.Endpoints, g.endpoint())
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

func (g generator) services(n int) []ipnat.Service {
	var all []ipnat.Service
	for i := range n {
		all = append(all, g.service(i))
	}
	return all
}

// v4Node is testNode without IPv6, which the simulated host does not translate.
func v4Node() ipnat.Node {
	n := testNode()
	n.IPv6 = nil
	return n
}

// expected is a second opinion on what a client may reach, written from the
// rules of kube-proxy's CategorizeEndpoints and of its traffic policies.
func expected(s *ipnat.Service, p *ipnat.Port, inside bool, vip netip.Addr, client netip.Addr) []string {
	if len(s.ClusterIPs) == 0 {
		return nil
	}
	place := map[string]ipnat.Endpoint{}
	for _, e := range p.Endpoints {
		key := netip.AddrPortFrom(e.Addr, e.Port).String()
		old, ok := place[key]
		better := e.Node == "n1" || old.Node != "n1"
		if e.Terminating != old.Terminating {
			better = old.Terminating
		}
		if !ok || better {
			place[key] = e
		}
	}
	set := func(keep func(ipnat.Endpoint) bool) []string {
		var out []string
		for key, e := range place {
			if keep(e) {
				out = append(out, key)
			}
		}
		return out
	}
	ready := func(e ipnat.Endpoint) bool { return e.Ready }
	ending := func(e ipnat.Endpoint) bool { return !e.Ready && e.Serving && e.Terminating }
	every := func(f func(ipnat.Endpoint) bool) bool {
		return len(set(func(e ipnat.Endpoint) bool { return e.Ready && !f(e) })) == 0
	}
	nodeHint := func(e ipnat.Endpoint) bool { return e.Ready && slices.Contains(e.ForNodes, "n1") }
	zoneHint := func(e ipnat.Endpoint) bool { return e.Ready && slices.Contains(e.ForZones, "za") }

	local := s.InternalLocal
	if !slices.Contains(s.ClusterIPs, vip) {
		local = s.ExternalLocal && !inside
	}
	if slices.Contains(s.LoadBalancerIPs, vip) && len(s.SourceRanges) > 0 &&
		!slices.ContainsFunc(s.SourceRanges, func(r netip.Prefix) bool { return r.Contains(client) }) {
		return nil
	}
	var out []string
	switch here := func(e ipnat.Endpoint) bool { return e.Node == "n1" }; {
	case local:
		if out = set(func(e ipnat.Endpoint) bool { return ready(e) && here(e) }); len(out) == 0 {
			out = set(func(e ipnat.Endpoint) bool { return ending(e) && here(e) })
		}
	case len(set(ready)) == 0:
		out = set(ending)
	case every(func(e ipnat.Endpoint) bool { return len(e.ForNodes) > 0 }) && len(set(nodeHint)) > 0:
		out = set(nodeHint)
	case every(func(e ipnat.Endpoint) bool { return len(e.ForZones) > 0 }) && len(set(zoneHint)) > 0:
		out = set(zoneHint)
	default:
		out = set(ready)
	}
	slices.Sort(out)
	return out
}

// TestClusters compares what clients reach with the second opinion, for every
// address and port of many clusters, with the rules in any order.
func TestClusters(t *testing.T) {
	clients := []string{podHere, "10.244.1.3", podThere, outsider, "192.0.2.200", "198.51.100.77"}
	for seed := range uint64(300) {
		g := seeded(seed)
		services := g.services(4)
		rules, _ := compile(t, v4Node(), services...)
		g.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		tr := newTracer(t, v4Node(), rules)
		for i := range services {
			s := &services[i]
			for j := range s.Ports {
				p := &s.Ports[j]
				for _, f := range frontends(services, i, j) {
					for _, client := range clients {
						check(t, seed, tr, s, p, f, client)
					}
				}
			}
		}
	}
}

// frontends returns the addresses that port j of Service i has to itself.
func frontends(services []ipnat.Service, i, j int) []netip.AddrPort {
	s, p := &services[i], &services[i].Ports[j]
	var out []netip.AddrPort
	for _, a := range s.ClusterIPs {
		out = append(out, netip.AddrPortFrom(a, p.Port))
	}
	if p.NodePort != 0 {
		out = append(out, netip.AddrPortFrom(addr("198.51.100.11"), p.NodePort))
	}
	for _, a := range slices.Concat(s.LoadBalancerIPs, s.ExternalIPs) {
		owned := true
		for k := range services {
			o := &services[k]
			owned = owned && (k == i || !slices.Contains(o.LoadBalancerIPs, a) && !slices.Contains(o.ExternalIPs, a))
		}
		if owned {
			out = append(out, netip.AddrPortFrom(a, p.Port))
		}
	}
	return out
}

func check(t *testing.T, seed uint64, tr *trace.Tracer, s *ipnat.Service, p *ipnat.Port, f netip.AddrPort, client string) {
	t.Helper()
	pk := from(client, f.String())
	pk.UDP = p.Protocol == ipnat.UDP
	inside := pk.Interface == "rdwgw0"
	got, want := tr.Targets(pk), expected(s, p, inside, f.Addr(), addr(client))
	if slices.Contains(s.ClusterIPs, f.Addr()) && !inside {
		want = nil // cluster addresses are for this node's pods
	}
	if s.Affinity && len(want) > 0 {
		if len(got) != 1 || !slices.Contains(want, got[0]) {
			t.Errorf("cluster %d, %s, affinity: %s goes to %q, want one of %q", seed, s.Name, pk, got, want)
		}
		return
	}
	if !slices.Equal(got, want) {
		t.Errorf("cluster %d, %s: %s goes to %q, want %q", seed, s.Name, pk, got, want)
	}
}

// TestTableEqualsCompile changes clusters step by step. The deltas add up to
// what is compiled from nothing, in whatever order things happened.
func TestTableEqualsCompile(t *testing.T) {
	for seed := range uint64(60) {
		g := seeded(1000 + seed)
		table, err := ipnat.NewTable(v4Node())
		if err != nil {
			t.Fatal(err)
		}
		now, sum := map[string]ipnat.Service{}, map[ipnat.Rule]bool{}
		for _, r := range table.Rules() {
			sum[r] = true
		}
		for step := range 40 {
			s := g.service(g.IntN(6))
			var d ipnat.Delta
			if g.one(3) {
				d = table.Delete(s.Name)
				delete(now, s.Name)
			} else {
				d = table.Set(s)
				now[s.Name] = s
			}
			for _, r := range d.Remove {
				if !sum[r] {
					t.Fatalf("cluster %d, step %d: removes %s, which is not there", seed, step, r)
				}
				delete(sum, r)
			}
			for _, r := range d.Add {
				if sum[r] {
					t.Fatalf("cluster %d, step %d: adds %s twice", seed, step, r)
				}
				sum[r] = true
			}
			var services []ipnat.Service
			for _, s := range now {
				services = append(services, s)
			}
			want, problems := compile(t, v4Node(), services...)
			if !slices.Equal(table.Rules(), want) || table.Count() != len(want) || len(sum) != len(want) {
				t.Fatalf("cluster %d, step %d: %d rules by steps, %d counted, %d summed, want %d", seed, step, len(table.Rules()), table.Count(), len(sum), len(want))
			}
			for _, r := range want {
				if !sum[r] {
					t.Fatalf("cluster %d, step %d: the deltas lack %s", seed, step, r)
				}
			}
			if !slices.Equal(table.Problems(), problems) {
				t.Fatalf("cluster %d, step %d: problems %v, want %v", seed, step, table.Problems(), problems)
			}
		}
	}
}

// TestOneEndpointIsOneRule is what makes changes cheap, and leaves connections
// to the other endpoints alone.
func TestOneEndpointIsOneRule(t *testing.T) {
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		t.Fatal(err)
	}
	s := web()
	s.Ports[0].Endpoints = nil
	table.Set(s)
	for i := range 20 {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, on("n1", fmt.Sprintf("10.244.1.%d:80", 100-i)))
		if d := table.Set(s); len(d.Add) != 1 || len(d.Remove) != 0 {
			t.Fatalf("endpoint %d adds %d rules and removes %d", i, len(d.Add), len(d.Remove))
		}
	}
	s.Ports[0].Endpoints[3] = on("n1", "10.244.1.200:80")
	if d := table.Set(s); len(d.Add) != 1 || len(d.Remove) != 1 {
		t.Fatalf("a replaced endpoint: %+v", d)
	}
	if d := table.Set(s); !d.Empty() {
		t.Fatalf("no change: %+v", d)
	}
}

// affinityOf returns where each of 4096 clients goes.
func affinityOf(t *testing.T, n int) []string {
	s := web()
	s.Affinity, s.Ports[0].Endpoints = true, nil
	for i := range n {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, on("n1", fmt.Sprintf("10.244.1.%d:80", 10+i)))
	}
	rules, _ := compile(t, v4Node(), s)
	tr := newTracer(t, v4Node(), rules)
	var out []string
	for i := range 4096 {
		p := trace.Packet{Interface: "rdwgw0", Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), uint16(1024+i)), Dst: ap("10.96.0.1:80")}
		got := tr.Redirects(p)
		if len(got) != 1 {
			t.Fatalf("client %d of %d endpoints may go to %v", i, n, got)
		}
		out = append(out, got[0].String())
	}
	return out
}

// TestAffinity holds every client at one endpoint, whatever its port, moves few
// clients when endpoints come and go, and leaves no endpoint idle.
func TestAffinity(t *testing.T) {
	for _, n := range []int{2, 3, 5, 8, 12, 20} {
		before, after := affinityOf(t, n), affinityOf(t, n+1)
		used, moved := map[string]int{}, 0
		for i := range before {
			used[before[i]]++
			if before[i] != after[i] {
				moved++
			}
		}
		if len(used) != n {
			t.Errorf("%d endpoints: %d have clients", n, len(used))
		}
		fair := len(before) / (n + 1)
		if n == 8 { // the clients are cut anew
			continue
		}
		if moved > 2*fair {
			t.Errorf("%d endpoints and one more: %d of %d clients move, about %d should", n, moved, len(before), fair)
		}
		for i := range before {
			if before[i] != after[i] && !strings.HasSuffix(after[i], fmt.Sprintf(".%d:80", 10+n)) {
				t.Fatalf("a client moved from %s to %s, which is not the new one", before[i], after[i])
			}
		}
	}
}
