package ipnat_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/host/ipf/trace"
	"reddwarf.io/reddwarf/network/ipnat"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
	ap     = netip.MustParseAddrPort
)

// testNode has both families, and pods .0/24 of a cluster of a /16.
func testNode() ipnat.Node {
	return ipnat.Node{Name: "n1", Zone: "za", Gateway: "rdwgw0", Uplink: "net0",
		IPv4: &ipnat.Networks{Pods: prefix("10.244.1.0/24"), Cluster: prefix("10.244.0.0/16"), Gateway: addr("10.244.1.1"), Host: addr("198.51.100.11"), Egress: true},
		IPv6: &ipnat.Networks{Pods: prefix("fd00:244:0:1::/64"), Cluster: prefix("fd00:244::/48"), Gateway: addr("fd00:244:0:1::1"), Host: addr("fd00:1::11"), Egress: true},
	}
}

// on returns a ready endpoint.
func on(node, at string) ipnat.Endpoint {
	a := ap(at)
	return ipnat.Endpoint{Addr: a.Addr(), Port: a.Port(), Node: node, Ready: true, Serving: true}
}

// ending returns an endpoint that terminates.
func ending(node, at string, serving bool) ipnat.Endpoint {
	e := on(node, at)
	e.Ready, e.Serving, e.Terminating = false, serving, true
	return e
}

// web is a Service with an endpoint here and one on another node.
func web() ipnat.Service {
	return ipnat.Service{Name: "default/web", ClusterIPs: []netip.Addr{addr("10.96.0.1")},
		Ports: []ipnat.Port{{Name: "http", Protocol: ipnat.TCP, Port: 80, Endpoints: []ipnat.Endpoint{on("n1", "10.244.1.5:8080"), on("n2", "10.244.2.6:8080")}}}}
}

func compile(t testing.TB, n ipnat.Node, services ...ipnat.Service) (ipnat.Rules, []ipnat.Problem) {
	t.Helper()
	rules, problems, err := ipnat.Compile(ipnat.Input{Node: n, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	return rules, problems
}

// from returns a packet of a client; where it arrives follows from who it is.
func from(client, to string) trace.Packet {
	p := trace.Packet{Interface: "net0", Src: netip.AddrPortFrom(addr(client), 40000), Dst: ap(to)}
	if n := testNode(); n.IPv4.Pods.Contains(p.Src.Addr()) || n.IPv6.Pods.Contains(p.Src.Addr()) {
		p.Interface = "rdwgw0"
	}
	return p
}

const (
	podHere    = "10.244.1.9"
	podThere   = "10.244.2.9"
	outsider   = "192.0.2.77"
	noWay      = " (no way back)"
	five, six  = "10.244.1.5:8080", "10.244.2.6:8080"
	fiveAndSix = five + " " + six
)

// TestWhereTrafficGoes asks for the meaning of rules: who reaches what.
func TestWhereTrafficGoes(t *testing.T) {
	type ask struct{ client, to, want string }
	for _, tt := range []struct {
		name string
		edit func(s *ipnat.Service)
		asks []ask
	}{
		{"cluster address", func(*ipnat.Service) {}, []ask{
			{podHere, "10.96.0.1:80", fiveAndSix}, {"10.244.1.5", "10.96.0.1:80", fiveAndSix}, {podHere, "10.96.0.1:81", ""}, {podHere, "10.96.0.2:80", ""},
			{outsider, "10.96.0.1:80", ""}, {outsider, "198.51.100.11:30080", ""}}},
		{"internal traffic stays here", func(s *ipnat.Service) { s.InternalLocal = true }, []ask{{podHere, "10.96.0.1:80", five}}},
		{"internal traffic stays here and nobody is", func(s *ipnat.Service) { s.InternalLocal, s.Ports[0].Endpoints = true, s.Ports[0].Endpoints[1:] },
			[]ask{{podHere, "10.96.0.1:80", ""}}},
		{"node port", func(s *ipnat.Service) { s.Ports[0].NodePort = 30080 }, []ask{
			{outsider, "198.51.100.11:30080", fiveAndSix}, {podThere, "198.51.100.11:30080", fiveAndSix}, {podHere, "198.51.100.11:30080", fiveAndSix},
			{outsider, "198.51.100.11:80", ""}, {outsider, "198.51.100.12:30080", ""}}},
		{"external traffic stays here", func(s *ipnat.Service) {
			s.Ports[0].NodePort, s.ExternalLocal, s.LoadBalancerIPs = 30080, true, []netip.Addr{addr("203.0.113.7")}
		}, []ask{
			{outsider, "198.51.100.11:30080", five}, {podThere, "203.0.113.7:80", five}, {podHere, "203.0.113.7:80", fiveAndSix},
			{podHere, "198.51.100.11:30080", fiveAndSix}, {podHere, "10.96.0.1:80", fiveAndSix}}},
		{"external address", func(s *ipnat.Service) { s.ExternalIPs = []netip.Addr{addr("203.0.113.8")} }, []ask{
			{outsider, "203.0.113.8:80", fiveAndSix}, {podHere, "203.0.113.8:80", fiveAndSix}}},
		{"source ranges", func(s *ipnat.Service) {
			s.LoadBalancerIPs, s.ExternalIPs = []netip.Addr{addr("203.0.113.7")}, []netip.Addr{addr("203.0.113.8")}
			s.SourceRanges = []netip.Prefix{prefix("192.0.2.64/26"), prefix("192.0.2.76/31"), prefix("fd00::/8"), prefix("10.244.1.0/28")}
		}, []ask{
			{outsider, "203.0.113.7:80", fiveAndSix}, {"192.0.2.10", "203.0.113.7:80", ""}, {"192.0.2.10", "203.0.113.8:80", fiveAndSix},
			{podHere, "203.0.113.7:80", fiveAndSix}, {"10.244.1.99", "203.0.113.7:80", ""}, {"10.244.1.99", "10.96.0.1:80", fiveAndSix}}},
		{"endpoint is a node's own address", func(s *ipnat.Service) {
			s.Ports[0].NodePort, s.Ports[0].Endpoints = 30443, []ipnat.Endpoint{on("n9", "198.51.100.1:6443"), on("n1", "198.51.100.11:6443")}
		}, []ask{
			{podHere, "10.96.0.1:80", "198.51.100.11:6443 198.51.100.1:6443"}, {outsider, "198.51.100.11:30443", "198.51.100.11:6443 198.51.100.1:6443"}}},
		{"ending endpoints serve when no other does", func(s *ipnat.Service) {
			s.Ports[0].NodePort, s.ExternalLocal = 30080, true
			s.Ports[0].Endpoints = []ipnat.Endpoint{ending("n1", five, true), ending("n1", "10.244.1.7:8080", false), ending("n2", six, true)}
		}, []ask{{podHere, "10.96.0.1:80", fiveAndSix}, {outsider, "198.51.100.11:30080", five}}},
		{"ending endpoints here serve although others are ready", func(s *ipnat.Service) {
			s.Ports[0].NodePort, s.ExternalLocal = 30080, true
			s.Ports[0].Endpoints = []ipnat.Endpoint{ending("n1", five, true), on("n2", six)}
		}, []ask{{podHere, "10.96.0.1:80", six}, {outsider, "198.51.100.11:30080", five}}},
		{"hints for the zone", func(s *ipnat.Service) {
			s.Ports[0].Endpoints[0].ForZones, s.Ports[0].Endpoints[1].ForZones = []string{"zb"}, []string{"zb", "za"}
		}, []ask{{podHere, "10.96.0.1:80", six}}},
		{"hints for the node come first", func(s *ipnat.Service) {
			for i := range s.Ports[0].Endpoints {
				s.Ports[0].Endpoints[i].ForZones, s.Ports[0].Endpoints[i].ForNodes = []string{"za"}, []string{[]string{"n1", "n2"}[i]}
			}
		}, []ask{{podHere, "10.96.0.1:80", five}}},
		{"hints that one endpoint lacks", func(s *ipnat.Service) { s.Ports[0].Endpoints[1].ForZones = []string{"za"} }, []ask{{podHere, "10.96.0.1:80", fiveAndSix}}},
		{"hints for others only", func(s *ipnat.Service) {
			s.Ports[0].Endpoints[0].ForZones, s.Ports[0].Endpoints[1].ForZones = []string{"zb"}, []string{"zc"}
		}, []ask{{podHere, "10.96.0.1:80", fiveAndSix}}},
		{"hints do not count for local traffic", func(s *ipnat.Service) {
			s.InternalLocal = true
			s.Ports[0].Endpoints[0].ForZones, s.Ports[0].Endpoints[1].ForZones = []string{"zb"}, []string{"za"}
		}, []ask{{podHere, "10.96.0.1:80", five}}},
		{"endpoint in two slices", func(s *ipnat.Service) { s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, s.Ports[0].Endpoints...) },
			[]ask{{podHere, "10.96.0.1:80", fiveAndSix}}},
		{"two families", func(s *ipnat.Service) {
			s.ClusterIPs, s.Ports[0].NodePort = append(s.ClusterIPs, addr("fd00:96::1")), 30080
			s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, on("n1", "[fd00:244:0:1::5]:8080"))
		}, []ask{{podHere, "10.96.0.1:80", fiveAndSix}, {"fd00:244:0:1::9", "[fd00:96::1]:80", "[fd00:244:0:1::5]:8080"},
			{"fd00:244:0:1::5", "[fd00:96::1]:80", "[fd00:244:0:1::5]:8080"}, {"2001:db8::1", "[fd00:1::11]:30080", "[fd00:244:0:1::5]:8080"}}},
		{"no endpoints", func(s *ipnat.Service) { s.Ports[0].Endpoints = nil }, []ask{{podHere, "10.96.0.1:80", ""}}},
		{"not ready", func(s *ipnat.Service) { s.Ports[0].Endpoints[0].Ready = false }, []ask{{podHere, "10.96.0.1:80", six}}},
		{"headless", func(s *ipnat.Service) { s.ClusterIPs = nil }, []ask{{podHere, "10.96.0.1:80", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := web()
			tt.edit(&s)
			rules, problems := compile(t, testNode(), s)
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			tr := newTracer(t, testNode(), rules)
			for _, a := range tt.asks {
				if got := strings.Join(tr.Targets(from(a.client, a.to)), " "); got != a.want {
					t.Errorf("%s to %s goes to %q, want %q\n%s", a.client, a.to, got, a.want, rules)
				}
			}
		})
	}
}

// TestWithoutMaps shows that the tracer sees what the map rules are for.
func TestWithoutMaps(t *testing.T) {
	s := web()
	s.Ports[0].NodePort = 30080
	rules, _ := compile(t, testNode(), s)
	var without ipnat.Rules
	for _, r := range rules {
		if r.Kind != ipnat.Map {
			without = append(without, r)
		}
	}
	tr := newTracer(t, testNode(), without)
	for _, tt := range []struct{ client, to, want string }{
		{podHere, "10.96.0.1:80", five + noWay + " " + six},
		{outsider, "198.51.100.11:30080", five + " " + six + noWay},
	} {
		if got := strings.Join(tr.Targets(from(tt.client, tt.to)), " "); got != tt.want {
			t.Errorf("%s to %s goes to %q, want %q", tt.client, tt.to, got, tt.want)
		}
	}
}

// TestWhoTheReceiverSees is about the source of packets that leave.
func TestWhoTheReceiverSees(t *testing.T) {
	rules, _ := compile(t, testNode())
	tr := newTracer(t, testNode(), rules)
	for _, tt := range []struct{ iface, from, to, want string }{
		{"rdwgw0", podHere, "10.244.1.5:80", "10.244.1.1"},          // back through the gateway
		{"rdwgw0", "10.244.1.1", "10.244.1.5:80", "10.244.1.1"},     // the host's own probes
		{"rdwgw0", podThere, "10.244.1.5:80", podThere},             // pods of other nodes keep their address
		{"rdwgw0", outsider, "10.244.1.5:80", outsider},             // so do clients of NodePorts
		{"net0", podHere, "10.244.2.6:80", podHere},                 // pod to pod across nodes
		{"net0", podHere, "192.0.2.1:80", "198.51.100.11"},          // leaving the cluster
		{"net0", outsider, "10.244.2.6:80", "198.51.100.11"},        // NodePort of another node's pod
		{"net0", podThere, "10.244.3.6:80", "198.51.100.11"},        // the same for a pod as client
		{"net0", "198.51.100.11", "10.244.2.6:80", "198.51.100.11"}, // the host itself
		{"net0", "198.51.100.11", "192.0.2.1:80", "198.51.100.11"},
		{"net0", "fd00:244:0:1::9", "[fd00:244:0:2::6]:80", "fd00:244:0:1::9"},
		{"net0", "fd00:244:0:1::9", "[2001:db8::1]:80", "fd00:1::11"},
	} {
		for _, p := range []trace.Packet{{}, {UDP: true}, {ICMP: true}} {
			p.Src, p.Dst = netip.AddrPortFrom(addr(tt.from), 40000), ap(tt.to)
			want := addr(tt.want)
			if p.ICMP && (tt.iface == "rdwgw0" || !testNode().IPv4.Pods.Contains(addr(tt.from)) && addr(tt.from).Is4()) {
				want = addr(tt.from) // only connections to Services come so, and they have ports
			}
			if got := tr.Source(p, tt.iface); got != want {
				t.Errorf("%+v leaves %s as %s, want %s", p, tt.iface, got, want)
			}
		}
	}
}

// TestHostKeepsItsPorts is about connections that are open when rules come:
// one that gets another port breaks, because ipnat takes up any TCP packet.
func TestHostKeepsItsPorts(t *testing.T) {
	s := web()
	s.Ports[0].NodePort, s.Ports[0].Endpoints = 30443, []ipnat.Endpoint{on("n9", "198.51.100.1:6443")}
	rules, _ := compile(t, testNode(), s)
	tr := newTracer(t, testNode(), rules)
	for _, tt := range []struct{ iface, from, to string }{
		{"rdwgw0", "10.244.1.1", "10.244.1.5:80"}, {"net0", "198.51.100.11", "10.244.2.6:80"}, {"net0", "198.51.100.11", "198.51.100.1:6443"},
		{"net0", "198.51.100.11", "192.0.2.1:443"}, {"rdwgw0", "fd00:244:0:1::1", "[fd00:244:0:1::5]:80"},
	} {
		p := trace.Packet{Src: netip.AddrPortFrom(addr(tt.from), 40000), Dst: ap(tt.to)}
		if r := tr.Mapped(p, tt.iface); r != nil && !r.To.Addr.IsUnspecified() {
			t.Errorf("%s to %s: %s changes the host's own connection", tt.from, tt.to, r)
		}
	}
}

func TestEndpointInTwoSlicesWithTwoNodes(t *testing.T) {
	for _, order := range [][]string{{"n1", "n2"}, {"n2", "n1"}} {
		s := web()
		s.InternalLocal = true
		s.Ports[0].Endpoints = []ipnat.Endpoint{on(order[0], five), on(order[1], five)}
		rules, _ := compile(t, testNode(), s)
		if got := newTracer(t, testNode(), rules).Targets(from(podHere, "10.96.0.1:80")); len(got) != 1 || got[0] != five {
			t.Errorf("%v: goes to %q", order, got)
		}
	}
}

func TestUDPHasAnAge(t *testing.T) {
	s := web()
	s.Ports = append(s.Ports, ipnat.Port{Name: "dns", Protocol: ipnat.UDP, Port: 80, Endpoints: []ipnat.Endpoint{on("n1", "10.244.1.53:53")}})
	rules, _ := compile(t, testNode(), s)
	for _, r := range rules {
		if r.Kind == ipnat.Redirect && (r.Proto == ipnat.UDP) != (r.Age == 30) {
			t.Errorf("age %d: %s", r.Age, r)
		}
	}
	tr := newTracer(t, testNode(), rules)
	p := from(podHere, "10.96.0.1:80")
	p.UDP = true
	if got := tr.Targets(p); len(got) != 1 || got[0] != "10.244.1.53:53" {
		t.Errorf("UDP goes to %q", got)
	}
}

func TestProblems(t *testing.T) {
	s := web()
	s.Ports = append(s.Ports, ipnat.Port{Protocol: ipnat.SCTP, Port: 9}, ipnat.Port{Protocol: ipnat.TCP})
	s.ExternalIPs = []netip.Addr{addr("127.0.0.1"), addr("10.96.0.53"), {}}
	s.HealthPort = 31000
	dns := ipnat.Service{Name: "kube-system/dns", Created: time.Unix(5, 0), ClusterIPs: []netip.Addr{addr("10.96.0.53")},
		Ports: []ipnat.Port{{Protocol: ipnat.TCP, Port: 80, Endpoints: []ipnat.Endpoint{on("n1", "10.244.1.53:53")}}}}
	rules, problems := compile(t, testNode(), s, dns)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := `service default/web: InvalidService: 127.0.0.1 cannot be the address of a service
service default/web: InvalidService: invalid IP cannot be the address of a service
service default/web: HealthCheckNodePortNotServed: nobody answers health checks on port 31000: the load balancer will not send to this node
service default/web: UnsupportedProtocol: port 9: ipnat translates no ports of SCTP
service default/web: InvalidService: port 0: protocol tcp
service default/web: AddressConflict: 10.96.0.53 port 80/tcp on rdwgw0 belongs to service kube-system/dns`
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("problems:\n%s\nwant:\n%s", g, want)
	}
	// The older Service, but an external address: DNS is not taken away.
	if got := newTracer(t, testNode(), rules).Targets(from(podHere, "10.96.0.53:80")); len(got) != 1 || got[0] != "10.244.1.53:53" {
		t.Errorf("the cluster address of another service goes to %q", got)
	}
}

func TestOlderServiceKeepsItsExternalAddress(t *testing.T) {
	a, b := web(), web()
	a.Name, b.Name, a.Created, b.Created = "a/new", "b/old", time.Unix(20, 0), time.Unix(10, 0)
	a.ClusterIPs, b.ClusterIPs = []netip.Addr{addr("10.96.0.3")}, []netip.Addr{addr("10.96.0.4")}
	a.ExternalIPs, b.ExternalIPs = []netip.Addr{addr("203.0.113.9")}, []netip.Addr{addr("203.0.113.9")}
	b.Ports[0].Endpoints = b.Ports[0].Endpoints[:1]
	table, err := ipnat.NewTable(testNode())
	if err != nil {
		t.Fatal(err)
	}
	where := func() string {
		return strings.Join(newTracer(t, testNode(), table.Rules()).Targets(from(outsider, "203.0.113.9:80")), " ")
	}
	table.Set(a)
	table.Set(b)
	if got := where(); got != five || len(table.ProblemsOf("a/new")) != 2 || len(table.ProblemsOf("b/old")) != 0 {
		t.Errorf("goes to %q; problems %v", got, table.Problems())
	}
	table.Delete("b/old")
	if got := where(); got != fiveAndSix || len(table.Problems()) != 0 {
		t.Errorf("after the older is gone: %q, %v", got, table.Problems())
	}
}

func TestUnserved(t *testing.T) {
	table, err := ipnat.NewTable(testNode())
	if err != nil {
		t.Fatal(err)
	}
	s := web()
	if table.Set(s); table.Unserved(s.Name) || table.Unserved("nobody") {
		t.Error("a service with endpoints counts as unserved")
	}
	s.Ports[0].Endpoints = nil
	if table.Set(s); !table.Unserved(s.Name) {
		t.Error("a service without endpoints counts as served")
	}
}

func TestNodeIsChecked(t *testing.T) {
	for name, edit := range map[string]func(*ipnat.Node){
		"gateway":  func(n *ipnat.Node) { n.Gateway = "rdwgw0\nmap net0" },
		"uplink":   func(n *ipnat.Node) { n.Uplink = "from" },
		"the same": func(n *ipnat.Node) { n.Uplink = n.Gateway },
		"pods":     func(n *ipnat.Node) { n.IPv4.Pods = prefix("10.244.1.7/24") },
		"family":   func(n *ipnat.Node) { n.IPv4.Pods = prefix("fd00::/64") },
		"cluster":  func(n *ipnat.Node) { n.IPv4.Cluster = prefix("10.245.0.0/16") },
		"egress":   func(n *ipnat.Node) { n.IPv4.Cluster = netip.Prefix{} },
		"host":     func(n *ipnat.Node) { n.IPv6.Host = addr("198.51.100.1") },
	} {
		n := testNode()
		edit(&n)
		if _, _, err := ipnat.Compile(ipnat.Input{Node: n}); err == nil {
			t.Errorf("%s: no error for %+v", name, n)
		}
	}
}

func TestGolden(t *testing.T) {
	dual := web()
	dual.Name, dual.ClusterIPs = "default/dual", []netip.Addr{addr("10.96.0.2"), addr("fd00:96::2")}
	dual.Ports[0].NodePort = 30080
	dual.Ports[0].Endpoints = append(dual.Ports[0].Endpoints, on("n1", "[fd00:244:0:1::5]:8080"))
	lb := web()
	lb.Name, lb.ClusterIPs, lb.LoadBalancerIPs = "default/lb", []netip.Addr{addr("10.96.0.3")}, []netip.Addr{addr("203.0.113.7")}
	lb.SourceRanges, lb.ExternalLocal = []netip.Prefix{prefix("192.0.2.0/24")}, true
	api := ipnat.Service{Name: "default/kubernetes", ClusterIPs: []netip.Addr{addr("10.96.0.4")},
		Ports: []ipnat.Port{{Name: "https", Protocol: ipnat.TCP, Port: 443, NodePort: 30443, Endpoints: []ipnat.Endpoint{on("", "198.51.100.1:6443")}}}}
	dns := ipnat.Service{Name: "kube-system/dns", ClusterIPs: []netip.Addr{addr("10.96.0.10")}, Ports: []ipnat.Port{
		{Name: "dns", Protocol: ipnat.UDP, Port: 53, Endpoints: []ipnat.Endpoint{on("n1", "10.244.1.53:1053")}},
		{Name: "dns-tcp", Protocol: ipnat.TCP, Port: 53, Endpoints: []ipnat.Endpoint{on("n1", "10.244.1.53:1053")}}}}
	sticky := web()
	sticky.Affinity = true
	for name, services := range map[string][]ipnat.Service{"none": nil, "web": {web()}, "dual": {dual}, "loadbalancer": {lb}, "kubernetes": {api}, "dns": {dns}, "affinity": {sticky}} {
		t.Run(name, func(t *testing.T) {
			rules, problems := compile(t, testNode(), services...)
			text := rules.String()
			for _, p := range problems {
				text += fmt.Sprintf("# %s\n", p)
			}
			golden(t, "testdata/compile/"+name+".ipnat", text)
		})
	}
}
