package kubeproxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// generator makes clusters of three nodes, of which n1 is this one. The same
// seed makes the same clusters. It makes everything that an API server lets
// through and that either side looks at, but for what is undefined in
// kube-proxy: two Services with one address and port, and two different
// endpoints with one address.
type generator struct{ *rand.Rand }

func seeded(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 37))} }

// one says yes in one of n cases.
func (g generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g generator, all ...T) T { return all[g.IntN(len(all))] }

var (
	hostIPs  = []string{"198.51.100.11", "fd00:1::11"}
	outerIPs = [][]string{{"203.0.113.1", "fd00:2::1"}, {"203.0.113.2", "fd00:2::2"}, hostIPs}
)

// cluster returns n Services with their slices.
func (g generator) cluster(n int) Objects {
	var o Objects
	for i := range n {
		svc := g.service(i)
		o.Services = append(o.Services, svc)
		if g.one(12) {
			continue // no slice yet
		}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			o.Slices = append(o.Slices, g.slices(svc, family)...)
		}
	}
	return o
}

func (g generator) service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns%d", g.IntN(2)), Name: fmt.Sprintf("s%d", i), CreationTimestamp: metav1.Unix(int64(g.IntN(3)), 0)}}
	spec := &s.Spec
	spec.Type = pick(g, corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer)
	v4, v6 := fmt.Sprintf("10.96.0.%d", 10+i), fmt.Sprintf("fd00:96::%x", 10+i)
	spec.ClusterIPs = pick(g, []string{v4}, []string{v4, v6}, []string{v6, v4}, []string{v6})
	switch {
	case g.one(15):
		spec.ClusterIPs = []string{corev1.ClusterIPNone}
	case g.one(20):
		spec.Type, spec.ExternalName, spec.ClusterIPs = corev1.ServiceTypeExternalName, "example.com", []string{""}
	}
	spec.ClusterIP = spec.ClusterIPs[0]
	for _, ip := range spec.ClusterIPs {
		switch a, err := netip.ParseAddr(ip); {
		case err != nil:
		case a.Is4():
			spec.IPFamilies = append(spec.IPFamilies, corev1.IPv4Protocol)
		default:
			spec.IPFamilies = append(spec.IPFamilies, corev1.IPv6Protocol)
		}
	}
	if g.one(25) {
		s.Labels = map[string]string{pick(g, "service.kubernetes.io/service-proxy-name", corev1.IsHeadlessService): "x"}
	}
	if g.one(4) {
		seconds := int32(10800)
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	internal := pick(g, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	if spec.InternalTrafficPolicy = &internal; g.one(5) {
		spec.InternalTrafficPolicy = nil
	}
	spec.ExternalTrafficPolicy = pick(g, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal, "")
	if g.one(4) {
		spec.ExternalIPs = pick(g, outerIPs...)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		g.balancer(s)
	}
	for j := range 1 + g.IntN(3) {
		p := corev1.ServicePort{Name: fmt.Sprintf("p%d", j), Port: int32(1000 + 10*i + j), Protocol: pick(g, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP)}
		if j > 0 && g.one(3) { // the same port over the other protocol, as DNS has it
			p.Port = spec.Ports[0].Port
			p.Protocol = corev1.ProtocolUDP
			if spec.Ports[0].Protocol == corev1.ProtocolUDP {
				p.Protocol = corev1.ProtocolTCP
			}
			if j > 1 && spec.Ports[1].Port == p.Port {
				continue
			}
		}
		if g.one(15) {
			p.Protocol = corev1.ProtocolSCTP
			p.Port += 5000
		}
		if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer && !g.one(3) {
			p.NodePort = int32(30000 + 10*i + j)
		}
		spec.Ports = append(spec.Ports, p)
	}
	if len(spec.Ports) == 1 && g.one(3) {
		spec.Ports[0].Name = ""
	}
	return s
}

// balancer gives a Service what a cloud would.
func (g generator) balancer(s *corev1.Service) {
	for _, ip := range pick(g, outerIPs...) {
		in := corev1.LoadBalancerIngress{IP: ip}
		if g.one(2) {
			mode := pick(g, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)
			in.IPMode = &mode
		}
		if g.one(8) {
			in = corev1.LoadBalancerIngress{Hostname: "lb.example.com"}
		}
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, in)
	}
	for range g.IntN(4) {
		s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, pick(g,
			"192.0.2.0/24", " 192.0.2.64/26 ", "10.244.1.0/25", "198.51.100.77/32", "2001:db8::/32", "0.0.0.0/0", "fd00:244:0:1::/64"))
	}
}

// slices returns one or two slices of a Service, which may share an endpoint,
// and which resolve named ports differently.
func (g generator) slices(svc *corev1.Service, family discoveryv1.AddressType) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	n := 1 + g.IntN(2)
	for i := range n {
		s := &discoveryv1.EndpointSlice{AddressType: family, ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: fmt.Sprintf("%s-%s-%d", svc.Name, family, i),
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}}}
		for k, v := range svc.Labels {
			s.Labels[k] = v
		}
		for j := range svc.Spec.Ports {
			p := &svc.Spec.Ports[j]
			if g.one(12) {
				continue // none of these pods has the port
			}
			port := int32(8000 + 10*j + g.IntN(2))
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &port})
		}
		for range g.IntN(5) {
			s.Endpoints = append(s.Endpoints, g.endpoint(family, i))
		}
		s.Endpoints = distinct(s.Endpoints)
		out = append(out, s)
	}
	if n == 2 && g.one(3) && len(out[0].Endpoints) > 0 { // one on its way from one slice to the other
		twin := *out[0].Endpoints[0].DeepCopy()
		if g.one(2) {
			twin.Conditions.Terminating = new(!(twin.Conditions.Terminating != nil && *twin.Conditions.Terminating))
			twin.Conditions.Ready = new(g.one(2))
		}
		out[1].Ports = out[0].Ports
		out[1].Endpoints = append(out[1].Endpoints, twin)
	}
	return out
}

func distinct(all []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	seen, out := map[string]bool{}, all[:0]
	for _, e := range all {
		if !seen[e.Addresses[0]] {
			seen[e.Addresses[0]] = true
			out = append(out, e)
		}
	}
	return out
}

// endpoint is on one of the nodes, in one of all conditions. Slices of one
// Service have different pods.
func (g generator) endpoint(family discoveryv1.AddressType, slice int) discoveryv1.Endpoint {
	node := 1 + g.IntN(3)
	number := 2 + 2*g.IntN(10) + slice
	addr := fmt.Sprintf("10.244.%d.%d", node, number)
	if family == discoveryv1.AddressTypeIPv6 {
		addr = fmt.Sprintf("fd00:244:0:%d::%x", node, number)
	}
	if g.one(10) { // on the host's network
		addr = fmt.Sprintf("198.51.100.%d", 10+node+10*slice)
		if family == discoveryv1.AddressTypeIPv6 {
			addr = fmt.Sprintf("fd00:1::%x", 0x10+node+0x10*slice)
		}
	}
	e := discoveryv1.Endpoint{Addresses: []string{netip.MustParseAddr(addr).String()}}
	if name := fmt.Sprintf("n%d", node); !g.one(15) {
		e.NodeName = &name
	}
	condition := func(yes int) *bool {
		switch {
		case g.one(6):
			return nil
		}
		return new(g.IntN(8) < yes)
	}
	e.Conditions = discoveryv1.EndpointConditions{Ready: condition(5), Serving: condition(6), Terminating: condition(2)}
	hints := &discoveryv1.EndpointHints{}
	if !g.one(3) {
		hints.ForZones = []discoveryv1.ForZone{{Name: pick(g, "za", "zb")}}
	}
	if g.one(2) {
		hints.ForNodes = []discoveryv1.ForNode{{Name: fmt.Sprintf("n%d", node)}}
	}
	if !g.one(3) {
		e.Hints = hints
	}
	return e
}
