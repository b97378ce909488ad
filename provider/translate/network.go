package translate

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/network"
)

// The annotations by which pods limit what passes their link, as the bandwidth
// plug-in of CNI knows them.
const (
	IngressBandwidth = "kubernetes.io/ingress-bandwidth"
	EgressBandwidth  = "kubernetes.io/egress-bandwidth"
)

// Bandwidth returns the limit of the pod's link in bits a second, 0 for none.
// A link has one limit, for each of both directions: a pod that names only one
// direction, or two limits, cannot have what it asks for.
func Bandwidth(pod *corev1.Pod) (int64, error) {
	in, hasIn := pod.Annotations[IngressBandwidth]
	out, hasOut := pod.Annotations[EgressBandwidth]
	if !hasIn && !hasOut {
		return 0, nil
	}
	var limits []int64
	for _, a := range []struct{ name, text string }{{IngressBandwidth, in}, {EgressBandwidth, out}} {
		if _, ok := pod.Annotations[a.name]; !ok {
			return 0, fmt.Errorf("annotation %s is missing: a link has one limit for both directions, so both annotations must be there and equal", a.name)
		}
		q, err := resource.ParseQuantity(a.text)
		if err != nil {
			return 0, fmt.Errorf("annotation %s=%q: %w", a.name, a.text, err)
		}
		if n := q.Value(); n < network.MinBandwidth || n > network.MaxBandwidth {
			return 0, fmt.Errorf("annotation %s=%q: a link takes limits from %d to %d bits a second", a.name, a.text, network.MinBandwidth, int64(network.MaxBandwidth))
		}
		limits = append(limits, q.Value())
	}
	if limits[0] != limits[1] {
		return 0, fmt.Errorf("annotations %s=%q and %s=%q differ: a link has one limit for both directions", IngressBandwidth, in, EgressBandwidth, out)
	}
	return limits[0], nil
}

// HostPorts returns the ports of the node's addresses that lead to the pod with
// these addresses. As for a kubelet, those of init containers do not count,
// which have ended when the pod is reached.
func HostPorts(pod *corev1.Pod, addresses []netip.Addr, node Node) []network.HostPort {
	i := slices.IndexFunc(addresses, netip.Addr.Is4)
	if i < 0 || HostPod(pod) {
		return nil
	}
	var out []network.HostPort
	for p := range hostPorts(pod) {
		protocol := "tcp"
		if p.Protocol == corev1.ProtocolUDP {
			protocol = "udp"
		}
		for _, host := range node.HostIPs {
			if host.Is4() && (anyHostIP(p.HostIP) || p.HostIP == host.String()) {
				out = append(out, network.HostPort{
					Protocol: protocol,
					Host:     netip.AddrPortFrom(host, uint16(p.HostPort)),              //nolint:gosec // the API server has checked it
					Pod:      netip.AddrPortFrom(addresses[i], uint16(p.ContainerPort)), //nolint:gosec // likewise
				})
			}
		}
	}
	return out
}

// HasHostPorts reports whether ports of the node's addresses are to lead to the
// pod. A host pod has the addresses themselves.
func HasHostPorts(pod *corev1.Pod) bool {
	if HostPod(pod) {
		return false
	}
	for range hostPorts(pod) {
		return true
	}
	return false
}

// hostPorts yields the ports that are also the host's.
func hostPorts(pod *corev1.Pod) func(yield func(corev1.ContainerPort) bool) {
	return func(yield func(corev1.ContainerPort) bool) {
		for _, c := range AllContainers(pod) {
			if slices.ContainsFunc(pod.Spec.InitContainers, func(x corev1.Container) bool { return x.Name == c.Name }) && !Sidecar(c) {
				continue
			}
			for _, p := range c.Ports {
				if p.HostPort != 0 && !yield(p) {
					return
				}
			}
		}
	}
}

func anyHostIP(ip string) bool { return ip == "" || ip == "0.0.0.0" }

// PortsOverlap says whether two pods ask for the same port of the host, as the
// scheduler sees it.
func PortsOverlap(a, b *corev1.Pod) bool {
	for p := range hostPorts(a) {
		for q := range hostPorts(b) {
			if p.HostPort == q.HostPort && protocolOf(p) == protocolOf(q) && (anyHostIP(p.HostIP) || anyHostIP(q.HostIP) || p.HostIP == q.HostIP) {
				return true
			}
		}
	}
	return false
}

func protocolOf(p corev1.ContainerPort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

// network finds what the pod asks of the host's network and cannot have.
func (a *admission) network(pod *corev1.Pod, node Node) {
	limit, err := Bandwidth(pod)
	a.when(err != nil, "%v", err)
	if HostPod(pod) {
		a.when(limit > 0, "annotation %s: a host pod has no link of its own", IngressBandwidth)
		return
	}
	isHost4 := func(ip string) bool {
		return slices.ContainsFunc(node.HostIPs, func(h netip.Addr) bool { return h.Is4() && (anyHostIP(ip) || ip == h.String()) })
	}
	for p := range hostPorts(pod) {
		switch {
		case protocolOf(p) == corev1.ProtocolSCTP:
			a.when(true, "hostPort %d: ipnat translates no ports of SCTP", p.HostPort)
		case !isHost4(p.HostIP):
			a.when(true, "hostPort %d: hostIP %q is no IPv4 address of this node", p.HostPort, p.HostIP)
		case p.HostPort == node.KubeletPort && protocolOf(p) == corev1.ProtocolTCP:
			a.when(true, "hostPort %d: the node itself is reached there", p.HostPort)
		}
	}
}
