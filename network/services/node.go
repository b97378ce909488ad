package services

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/network/ipnat"
)

// Node is what a node's rules are compiled for.
type Node struct {
	ipnat.Node
	Refuse []ipnat.Refusal // the networks of cluster addresses
}

func (n Node) equal(o Node) bool { return reflect.DeepEqual(n, o) }

// Settings are what the cluster does not tell of a node.
type Settings struct {
	Gateway  string         // interface of the host's pods
	Uplink   string         // interface to all others; may be empty
	Pods     []netip.Prefix // instead of node.spec.podCIDRs
	Cluster  []netip.Prefix // all nodes' pods, one network a family at most
	Services []netip.Prefix // networks of cluster addresses
	Egress   bool           // give pods' packets that leave the cluster the host's address
}

// TranslateNode returns what rules are compiled for. It is pure. The error says
// what is missing; it may come later.
func TranslateNode(node *corev1.Node, s Settings) (Node, error) {
	out := Node{Node: ipnat.Node{Name: node.Name, Zone: node.Labels[corev1.LabelTopologyZone], Gateway: s.Gateway, Uplink: s.Uplink}}
	pods := s.Pods
	if len(pods) == 0 {
		for _, text := range node.Spec.PodCIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return out, fmt.Errorf("services: node %s: pod network %q: %w", node.Name, text, err)
			}
			pods = append(pods, p.Masked())
		}
	}
	if len(pods) == 0 {
		return out, fmt.Errorf("services: node %s has no spec.podCIDRs yet", node.Name)
	}
	for _, p := range pods {
		is4 := p.Addr().Is4()
		w := &ipnat.Networks{Pods: p, Gateway: p.Addr().Next(), Host: hostAddress(node, is4), Egress: s.Egress}
		if i := slices.IndexFunc(s.Cluster, func(c netip.Prefix) bool { return c.Addr().Is4() == is4 }); i >= 0 {
			w.Cluster = s.Cluster[i]
		}
		family := &out.IPv6
		if is4 {
			family = &out.IPv4
		}
		if *family != nil {
			return out, fmt.Errorf("services: node %s: two pod networks of one family", node.Name)
		}
		*family = w
		for _, n := range s.Services {
			if n.Addr().Is4() == is4 {
				out.Refuse = append(out.Refuse, ipnat.Refusal{Network: n, Interface: s.Gateway, Gateway: w.Gateway})
			}
		}
	}
	return out, nil
}

// hostAddress returns where NodePorts are: the node's first InternalIP of the
// family, else its first ExternalIP, as kube-proxy chooses it.
func hostAddress(node *corev1.Node, is4 bool) netip.Addr {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); a.Type == kind && err == nil && ip.Unmap().Is4() == is4 {
				return ip.Unmap()
			}
		}
	}
	return netip.Addr{}
}
