package kubeproxy

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/hack/host/ipf/trace"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
)

var (
	clusters = flag.Int("clusters", 1000, "how many random clusters to compare")
	first    = flag.Uint64("seed", 1, "seed of the first of them")
)

// bench is both sides with the same objects.
type bench struct {
	t       *testing.T
	kube    []*Proxier
	node    services.Node
	outcome struct{ asked, excused, reached int }
	used    map[string]int // how often an exception was needed
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, used: map[string]int{}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "za"}},
		Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24", "fd00:244:0:1::/64"}}}
	for _, ip := range hostIPs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	var err error
	b.node, err = services.TranslateNode(node, services.Settings{Gateway: "rdwgw0", Uplink: "net0", Egress: true,
		Cluster: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*ipnat.Networks{b.node.IPv4, b.node.IPv6} {
		p, err := NewProxier(t.Context(), Node{Name: "n1", Zone: "za", Host: w.Host, Pods: w.Pods})
		if err != nil {
			t.Fatal(err)
		}
		b.kube = append(b.kube, p)
	}
	return b
}

// ours compiles the objects as the controller does.
func (b *bench) ours(o Objects) *trace.Tracer {
	b.t.Helper()
	in := ipnat.Input{Node: b.node.Node}
	for _, svc := range o.Services {
		var eps []discoveryv1.EndpointSlice
		for _, s := range o.Slices {
			if s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
				eps = append(eps, *s)
			}
		}
		if s, ok := services.Translate(svc, eps); ok {
			in.Services = append(in.Services, s)
		}
	}
	rules, _, err := ipnat.Compile(in)
	if err != nil {
		b.t.Fatal(err)
	}
	n := trace.Node{Gateway: b.node.Gateway, Uplink: b.node.Uplink}
	for _, w := range []*ipnat.Networks{b.node.IPv4, b.node.IPv6} {
		n.Networks = append(n.Networks, trace.Network{Pods: w.Pods, Cluster: w.Cluster, Gateway: w.Gateway, Host: w.Host})
	}
	tr, err := trace.New(n, rules.String())
	if err != nil {
		b.t.Fatal(err)
	}
	return tr
}

// clients are pods of this node and of another, other nodes, and outsiders,
// some of whom load balancers know.
var clients = []string{
	"10.244.1.2", "10.244.1.200", "10.244.2.9", "198.51.100.12", "192.0.2.7", "192.0.2.70", "198.51.100.77",
	"fd00:244:0:1::2", "fd00:244:0:2::9", "fd00:1::12", "2001:db8::7", "fd00:9::1",
}

// frontends returns what a port of a Service may be asked at.
func (b *bench) frontends(svc *corev1.Service, p *corev1.ServicePort) []question {
	var out []question
	add := func(text string, port int32, cluster bool) {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, question{svc: svc, port: p, to: netip.AddrPortFrom(a, uint16(port)), cluster: cluster})
		}
	}
	for _, ip := range svc.Spec.ClusterIPs {
		add(ip, p.Port, true)
		add(ip, p.Port+3, true) // a port that nobody has
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add(ip, p.Port, false)
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		add(in.IP, p.Port, false)
	}
	if p.NodePort != 0 {
		for _, ip := range hostIPs {
			add(ip, p.NodePort, false)
		}
	}
	return out
}

// compare asks both sides everything about a cluster.
func (b *bench) compare(name string, o Objects) {
	b.t.Helper()
	for _, k := range b.kube {
		k.Fake()
		k.Add(o)
		k.Sync()
	}
	defer func() {
		for _, k := range b.kube {
			k.Delete(o)
		}
	}()
	tr := b.ours(o)
	for _, svc := range o.Services {
		for i := range svc.Spec.Ports {
			for _, q := range b.frontends(svc, &svc.Spec.Ports[i]) {
				for _, client := range clients {
					if q.client = netip.MustParseAddr(client); q.client.Is4() == q.to.Addr().Is4() {
						b.ask(name, tr, q)
					}
				}
			}
		}
	}
}

func (b *bench) ask(name string, tr *trace.Tracer, q question) {
	b.t.Helper()
	kube, w := b.kube[0], b.node.IPv4
	if q.client.Is6() {
		kube, w = b.kube[1], b.node.IPv6
	}
	p := trace.Packet{Interface: "net0", Src: netip.AddrPortFrom(q.client, 40000), Dst: q.to, UDP: q.port.Protocol == corev1.ProtocolUDP, SCTP: q.port.Protocol == corev1.ProtocolSCTP}
	if q.fromPods = w.Pods.Contains(q.client); q.fromPods {
		p.Interface = "rdwgw0"
	}
	ours, theirs := tr.Targets(p), kube.Trace(p.Src, p.Dst, q.port.Protocol)
	b.outcome.asked++
	if len(ours) > 0 {
		b.outcome.reached++
	}
	if slices.Equal(ours, theirs.Reached) {
		return
	}
	for _, e := range exceptions {
		if e.holds(q) && e.allows(ours, theirs) {
			b.used[e.name]++
			b.outcome.excused++
			return
		}
	}
	b.t.Errorf("%s: service %s/%s (%s), port %s: %s %s reaches %q, with kube-proxy %+v", name, q.svc.Namespace, q.svc.Name, q.svc.Spec.Type, q.port.Name, q.port.Protocol, p, ours, theirs)
}

// TestReference compares what clients reach for every address and port of many
// random clusters.
func TestReference(t *testing.T) {
	b := newBench(t)
	for i := range *clusters {
		seed := *first + uint64(i)
		b.compare(fmt.Sprintf("cluster %d", seed), seeded(seed).cluster(6))
		if t.Failed() {
			t.Fatalf("run it alone with -args -seed=%d -clusters=1", seed)
		}
	}
	t.Logf("%d clusters: %d connections asked for, %d reach somebody, %d fall under an exception: %v", *clusters, b.outcome.asked, b.outcome.reached, b.outcome.excused, b.used)
	if b.outcome.reached < b.outcome.asked/10 {
		t.Errorf("only %d of %d connections reach anybody: the generator makes dull clusters", b.outcome.reached, b.outcome.asked)
	}
	for _, e := range exceptions {
		if b.used[e.name] == 0 && *clusters >= 100 {
			t.Errorf("nothing needs the exception %q any more", e.name)
		}
	}
}

// TestReferenceTellsWrong shows that the comparison sees a rule too few, a
// rule too many, and a way back that is missing.
func TestReferenceTellsWrong(t *testing.T) {
	b := newBench(t)
	port, name := int32(8080), "p0"
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"},
		Ports: []corev1.ServicePort{{Name: name, Port: 80, Protocol: corev1.ProtocolTCP}}}}
	node, proto := "n1", corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.5"}, NodeName: &node}, {Addresses: []string{"10.244.2.6"}, NodeName: &node}}}
	o := Objects{[]*corev1.Service{svc}, []*discoveryv1.EndpointSlice{slice}}
	b.kube[0].Fake()
	b.kube[0].Add(o)
	b.kube[0].Sync()
	p := trace.Packet{Interface: "rdwgw0", Src: netip.MustParseAddrPort("10.244.1.9:40000"), Dst: netip.MustParseAddrPort("10.96.0.10:80")}
	theirs := b.kube[0].Trace(p.Src, p.Dst, corev1.ProtocolTCP)
	if !slices.Equal(theirs.Reached, []string{"10.244.1.5:8080", "10.244.2.6:8080"}) {
		t.Fatalf("kube-proxy reaches %+v", theirs)
	}
	if other := b.kube[0].Trace(p.Src, netip.MustParseAddrPort("10.96.0.10:81"), corev1.ProtocolTCP); !other.Rejected || other.Reached != nil {
		t.Errorf("kube-proxy takes a port that no service has for %+v", other)
	}
	if got := b.ours(o).Targets(p); !slices.Equal(got, theirs.Reached) {
		t.Errorf("ours reaches %q", got)
	}
	fewer := *slice
	fewer.Endpoints = slice.Endpoints[:1]
	if got := b.ours(Objects{o.Services, []*discoveryv1.EndpointSlice{&fewer}}).Targets(p); slices.Equal(got, theirs.Reached) {
		t.Errorf("an endpoint less is not seen: %q", got)
	}
	n := b.node
	n.IPv4 = &ipnat.Networks{Pods: netip.MustParsePrefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.1")}
	b.node = n
	if got := b.ours(o).Targets(p); !strings.Contains(strings.Join(got, " "), "no way back") {
		t.Errorf("a missing map rule is not seen: %q", got)
	}
}
