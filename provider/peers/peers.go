// Package peers reads the other nodes of a cluster: through whom this host
// reaches their pods, and which addresses are the cluster's. It also says what
// others read of this node. It is pure.
//
// Its surprising rule: what a Node object says is believed only as far as it
// cannot lead this host's own traffic astray, because every node may write its
// own.
package peers

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/network"
)

// The annotations of flannel's kube subnet manager, which a node running
// flannel reads of all others: see subnet/kube/annotations.go of flannel.
const (
	flannelManaged    = "flannel.alpha.coreos.com/kube-subnet-manager"
	flannelBackend    = "flannel.alpha.coreos.com/backend-type"
	flannelData       = "flannel.alpha.coreos.com/backend-data"
	flannelV6Data     = "flannel.alpha.coreos.com/backend-v6-data"
	flannelPublicIP   = "flannel.alpha.coreos.com/public-ip"
	flannelPublicIPv6 = "flannel.alpha.coreos.com/public-ipv6"

	// hostGateway is the backend without a tunnel: plain routes between nodes of
	// one network.
	hostGateway = "host-gw"
)

// Annotations are what makes nodes that run flannel with the backend host-gw
// route to the pods of a node with these addresses.
func Annotations(addresses []netip.Addr) map[string]string {
	out := map[string]string{flannelManaged: "true", flannelBackend: hostGateway}
	for _, a := range addresses {
		switch {
		case a.Is4() && out[flannelPublicIP] == "":
			out[flannelPublicIP], out[flannelData] = a.String(), "null"
		case a.Is6() && out[flannelPublicIPv6] == "":
			out[flannelPublicIPv6], out[flannelV6Data] = a.String(), "null"
		}
	}
	return out
}

// Self is this node.
type Self struct {
	Name    string
	Pods    []netip.Prefix // of its own pods
	Uplink  netip.Prefix   // its address towards the others, with its network's length
	Cluster []netip.Prefix // where pods may be, as the operator said; empty if that is not known
}

// Problem is why a node's pods are not reached.
type Problem struct{ Reason, Message string }

// The reasons of problems.
const (
	ReasonBackend = "FlannelBackendNotSupported"
	ReasonAddress = "NodeAddressMissing"
	ReasonCIDR    = "PodCIDRRefused"
)

// Routes returns the routes to the pods of all other nodes, sorted, and why
// some have none. Of two nodes that claim the same addresses the older one has
// them.
func Routes(nodes []*corev1.Node, self Self) ([]network.Route, []Problem) {
	var routes []network.Route
	var problems []Problem
	for _, n := range byAge(nodes) {
		if n.Name == self.Name {
			continue
		}
		cidrs := podCIDRs(n)
		if b := n.Annotations[flannelBackend]; n.Annotations[flannelManaged] == "true" && b != hostGateway && len(cidrs) > 0 {
			problems = append(problems, Problem{ReasonBackend, fmt.Sprintf(
				"no route to the pods of node %s: its flannel uses the backend %q, and this node has no tunnels; all nodes must use host-gw", n.Name, b)})
			continue
		}
		for _, to := range cidrs {
			gateway, ok := address(n, to.Addr().Is4())
			if !ok {
				problems = append(problems, Problem{ReasonAddress, fmt.Sprintf("no route to the pods of node %s in %s: the node has no InternalIP of that family", n.Name, to)})
				continue
			}
			if why := self.refuses(to, gateway, routes); why != "" {
				problems = append(problems, Problem{ReasonCIDR, fmt.Sprintf("no route to the pods of node %s in %s through %s: %s", n.Name, to, gateway, why)})
				continue
			}
			routes = append(routes, network.Route{To: to, Gateway: gateway})
		}
	}
	slices.SortFunc(routes, func(a, b network.Route) int { return a.To.Addr().Compare(b.To.Addr()) })
	return routes, problems
}

// refuses says why there must be no such route.
func (s Self) refuses(to netip.Prefix, gateway netip.Addr, others []network.Route) string {
	for _, own := range s.Pods {
		if own.Overlaps(to) {
			return fmt.Sprintf("it overlaps %s, which is this node's", own)
		}
	}
	if s.Uplink.IsValid() && (to.Overlaps(s.Uplink.Masked()) || gateway == s.Uplink.Addr()) {
		return fmt.Sprintf("%s is this host's own network", s.Uplink.Masked())
	}
	if to.Contains(gateway) {
		return "the way to a node cannot lead through its pods"
	}
	same := slices.DeleteFunc(slices.Clone(s.Cluster), func(p netip.Prefix) bool { return p.Addr().Is4() != to.Addr().Is4() })
	if len(same) > 0 && !slices.ContainsFunc(same, func(p netip.Prefix) bool { return within(to, p) }) {
		return fmt.Sprintf("it is outside of --cluster-cidr %v", same)
	}
	for _, r := range others {
		if r.To.Overlaps(to) {
			return fmt.Sprintf("it overlaps %s, which an older node has", r.To)
		}
	}
	return ""
}

func within(p, outer netip.Prefix) bool { return outer.Bits() <= p.Bits() && outer.Contains(p.Addr()) }

// Cluster returns the IPv4 network that all pods are in: what the operator
// said, or else the smallest one around this node's and those that there are
// routes to. The error says that this cannot be it.
func Cluster(nodes []*corev1.Node, self Self, routes []network.Route) (netip.Prefix, error) {
	for _, p := range self.Cluster {
		if p.Addr().Is4() {
			return p, nil
		}
	}
	var all netip.Prefix
	add := func(p netip.Prefix) {
		switch {
		case !p.Addr().Is4():
		case !all.IsValid():
			all = p
		default:
			all = around(all, p)
		}
	}
	for _, p := range self.Pods {
		add(p)
	}
	for _, r := range routes {
		add(r.To)
	}
	if !all.IsValid() {
		return all, fmt.Errorf("peers: this node has no IPv4 addresses for pods")
	}
	unfit := func(what string) error {
		return fmt.Errorf("peers: the pods of all nodes are in %s, which has also %s: set --cluster-cidr to where pods are", all, what)
	}
	if self.Uplink.IsValid() && all.Overlaps(self.Uplink.Masked()) {
		return netip.Prefix{}, unfit("this host's own network " + self.Uplink.Masked().String())
	}
	for _, n := range nodes {
		if a, ok := address(n, true); ok && all.Contains(a) {
			return netip.Prefix{}, unfit(fmt.Sprintf("the address %s of node %s", a, n.Name))
		}
	}
	return all, nil
}

// around returns the smallest network that has both.
func around(a, b netip.Prefix) netip.Prefix {
	for bits := min(a.Bits(), b.Bits()); ; bits-- {
		if p := netip.PrefixFrom(a.Addr(), bits).Masked(); p.Contains(b.Addr()) {
			return p
		}
	}
}

// address returns where a node's pods are reached through: what its flannel
// says, or else its InternalIP.
func address(n *corev1.Node, v4 bool) (netip.Addr, bool) {
	name := flannelPublicIP
	if !v4 {
		name = flannelPublicIPv6
	}
	var texts []string
	if n.Annotations[flannelManaged] == "true" {
		texts = append(texts, n.Annotations[name])
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			texts = append(texts, a.Address)
		}
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() == v4 && !a.Is4In6() && a.Zone() == "" && a.IsGlobalUnicast() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// podCIDRs returns the networks of a node's pods, without what is none.
func podCIDRs(n *corev1.Node) []netip.Prefix {
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 && n.Spec.PodCIDR != "" {
		texts = []string{n.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() > 0 && !p.Addr().Is4In6() {
			out = append(out, p.Masked())
		}
	}
	return out
}

func byAge(nodes []*corev1.Node) []*corev1.Node {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return nodes
}

// Lean drops what this package does not read from a Node that a cache is to
// keep: the list of its images alone is often larger than all the rest.
func Lean(n *corev1.Node) {
	n.ManagedFields = nil
	n.Labels = nil
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
	n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}
}

// Same says whether two states of a Node are the same to this package.
func Same(a, b *corev1.Node) bool {
	for _, name := range []string{flannelManaged, flannelBackend, flannelPublicIP, flannelPublicIPv6} {
		if a.Annotations[name] != b.Annotations[name] {
			return false
		}
	}
	return slices.Equal(podCIDRs(a), podCIDRs(b)) && slices.Equal(a.Status.Addresses, b.Status.Addresses)
}
