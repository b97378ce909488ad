// Package services makes the Services of a cluster work on one node: it watches
// Services and EndpointSlices, translates them for package ipnat, and has the
// kernel's rules follow.
//
// It knows no ipnat(8) and no rules; those are in network/ipnat. Its one
// surprising rule: it reads all Services before it touches a rule, so a
// controller that restarts takes away nothing that still holds, and one without
// an API server changes nothing at all.
package services

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"reddwarf.io/reddwarf/network/ipnat"
)

// proxyNameLabel on a Service says that another proxy serves it.
const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// Selector chooses the objects that no other proxy serves, as kube-proxy does:
// Services and EndpointSlices that are not chosen have no rules here.
func Selector() labels.Selector {
	s := labels.NewSelector()
	for _, name := range []string{proxyNameLabel, corev1.IsHeadlessService} {
		absent, err := labels.NewRequirement(name, selection.DoesNotExist, nil)
		if err != nil {
			panic(err) // a constant is no label's name
		}
		s = s.Add(*absent)
	}
	return s
}

var selector = Selector() //nolint:gochecknoglobals // it never changes

// Translate returns a Service with the endpoints of its slices as ipnat wants
// it. The bool is false for a Service that has no rules: headless, ExternalName,
// or served by another proxy. It is pure.
func Translate(svc *corev1.Service, slices []discoveryv1.EndpointSlice) (ipnat.Service, bool) {
	out := ipnat.Service{Name: svc.Namespace + "/" + svc.Name}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || !selector.Matches(labels.Set(svc.Labels)) {
		return out, false
	}
	vips := svc.Spec.ClusterIPs
	if len(vips) == 0 {
		vips = []string{svc.Spec.ClusterIP}
	}
	out.ClusterIPs = addresses(vips)
	if len(out.ClusterIPs) == 0 {
		return out, false
	}
	out.Created = svc.CreationTimestamp.Time
	out.Affinity = svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	out.InternalLocal = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	out.ExternalLocal = reachable(svc) && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if out.ExternalLocal && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		out.HealthPort = uint16(svc.Spec.HealthCheckNodePort)
	}
	out.ExternalIPs = addresses(svc.Spec.ExternalIPs)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			out.LoadBalancerIPs = append(out.LoadBalancerIPs, addresses([]string{in.IP})...)
		}
	}
	for _, s := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil {
			out.SourceRanges = append(out.SourceRanges, p.Masked())
		}
	}
	for i := range svc.Spec.Ports {
		out.Ports = append(out.Ports, port(&svc.Spec.Ports[i], slices))
	}
	return out, true
}

// reachable says whether a Service is meant for clients outside the cluster: on
// others their traffic policy has no meaning.
func reachable(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeExternalName:
		return false
	}
	return len(svc.Spec.ExternalIPs) > 0
}

// addresses returns those that are addresses; "None" and "" are not.
func addresses(all []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range all {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func protocol(p corev1.Protocol) ipnat.Protocol {
	switch p {
	case corev1.ProtocolTCP, "":
		return ipnat.TCP
	case corev1.ProtocolUDP:
		return ipnat.UDP
	case corev1.ProtocolSCTP:
		return ipnat.SCTP
	}
	return ipnat.Any // refused with a problem
}

// port collects the endpoints of a port. Slices name ports as the Service does,
// and say the number that a named target port has in each pod.
func port(p *corev1.ServicePort, slices []discoveryv1.EndpointSlice) ipnat.Port {
	out := ipnat.Port{Name: p.Name, Protocol: protocol(p.Protocol), Port: uint16(p.Port), NodePort: uint16(p.NodePort)}
	for i := range slices {
		s := &slices[i]
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for j := range s.Ports {
			sp := &s.Ports[j]
			if sp.Name == nil || *sp.Name != p.Name || protocol(value(sp.Protocol)) != out.Protocol || sp.Port == nil {
				continue
			}
			for k := range s.Endpoints {
				if e, ok := endpoint(&s.Endpoints[k], uint16(*sp.Port)); ok {
					out.Endpoints = append(out.Endpoints, e)
				}
			}
		}
	}
	return out
}

// endpoint translates an endpoint. All addresses of one are the same place, so
// the first one is used, as kube-proxy does.
func endpoint(e *discoveryv1.Endpoint, port uint16) (ipnat.Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return ipnat.Endpoint{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return ipnat.Endpoint{}, false
	}
	c := &e.Conditions
	out := ipnat.Endpoint{Addr: a.Unmap(), Port: port, Node: value(e.NodeName),
		Ready: c.Ready == nil || *c.Ready, Serving: c.Serving == nil || *c.Serving, Terminating: value(c.Terminating)}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.ForNodes = append(out.ForNodes, n.Name)
		}
	}
	return out, true
}

func value[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
