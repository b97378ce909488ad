package ipnat

import (
	"fmt"
	"net/netip"
	"slices"
)

const (
	// lowPort to highPort are the source ports of translated connections: below
	// NodePorts and the ports that the host itself takes.
	lowPort, highPort = 10000, 29999

	// udpAge is how many seconds an idle UDP session stays with its endpoint. A
	// client that keeps its port would else stay with a dead one for ten minutes.
	// TCP rules have no age: it would end connections that are open.
	udpAge = 30
)

// Input is everything that rules depend on.
type Input struct {
	Node     Node
	Services []Service
}

// Compile returns the rules of a node, sorted by Service, and what of the
// Services it cannot do. It is pure: the same input gives the same rules,
// whatever the order of Services and endpoints. A Service that is faulty in
// part is compiled for the rest.
func Compile(in Input) (Rules, []Problem, error) {
	t, err := NewTable(in.Node)
	if err != nil {
		return nil, nil, err
	}
	for i := range in.Services {
		t.Set(in.Services[i])
	}
	return t.Rules(), t.Problems(), nil
}

// base returns the rules that serve all Services: they make answers come back
// through this host.
func (n *Node) base() Rules {
	var rules Rules
	for _, w := range []*Networks{n.IPv4, n.IPv6} {
		if w == nil {
			continue
		}
		pods := netOf(w.Pods)
		rules = append(rules, keep(n.Gateway, single(w.Gateway), pods),
			translate(n.Gateway, pods, pods, w.Gateway))
		if n.Uplink == "" || !w.Host.IsValid() || !w.Cluster.IsValid() {
			continue
		}
		cluster := netOf(w.Cluster)
		all := netOf(netip.PrefixFrom(w.Pods.Addr(), 0))
		rules = append(rules, keep(n.Uplink, pods, cluster), keep(n.Uplink, single(w.Host), cluster),
			translate(n.Uplink, all, cluster, w.Host))
		if w.Egress {
			leave := translate(n.Uplink, pods, cluster, w.Host)
			leave.NotTo = true
			rest := leave // ICMP and what has no ports
			rest.Proto, rest.Low, rest.High = Any, 0, 0
			rules = append(rules, leave, rest)
		}
	}
	return rules
}

// keep leaves the source as it is. Its sources are fewer than those of
// [translate], so ipnat asks it first: long masks go before short ones.
func keep(iface string, from, to Net) Rule {
	nowhere := netip.IPv4Unspecified()
	if from.Addr.Is6() {
		nowhere = netip.IPv6Unspecified()
	}
	return Rule{Kind: Map, Mark: true, Interface: iface, From: from, To: to, Target: nowhere}
}

func translate(iface string, from, to Net, source netip.Addr) Rule {
	return Rule{Kind: Map, Mark: true, Interface: iface, From: from, To: to, Target: source, Proto: TCPUDP, Low: lowPort, High: highPort}
}

// frontend is what one Service at a time may have: a port of an address on an
// interface. A frontend with mask set is the source translation towards an
// endpoint, which Services share.
type frontend struct {
	iface string
	addr  netip.Addr
	port  uint16
	proto Protocol
	mask  bool
}

// Rank of a claim: nobody takes a cluster address by naming it as an external
// one.
const (
	rankCluster int8 = iota
	rankNodePort
	rankLoadBalancer
	rankExternal
)

// part is what a Service wants for one frontend.
type part struct {
	at   frontend
	rank int8
	lead
}

// compiler compiles one Service.
type compiler struct {
	node     *Node
	svc      *Service
	parts    []part
	problems []Problem
}

func (c *compiler) problem(reason, format string, args ...any) {
	c.problems = append(c.problems, Problem{c.svc.Name, reason, fmt.Sprintf(format, args...)})
}

// compile returns what a Service wants of each frontend. The list may be longer
// than what it gets: see [Table].
func (n *Node) compile(s *Service) ([]part, []Problem) {
	c := compiler{node: n, svc: s}
	for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs) {
		if !plain(a) {
			c.problem(ReasonInvalid, "%s cannot be the address of a service", a)
		}
	}
	if s.HealthPort != 0 {
		c.problem(ReasonHealth, "nobody answers health checks on port %d: the load balancer will not send to this node", s.HealthPort)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		switch {
		case p.Protocol == SCTP:
			c.problem(ReasonProtocol, "port %d: ipnat translates no ports of SCTP", p.Port)
		case p.Protocol != TCP && p.Protocol != UDP || p.Port == 0:
			c.problem(ReasonInvalid, "port %d: protocol %s", p.Port, p.Protocol)
		default:
			c.port(p)
		}
	}
	return c.parts, c.problems
}

func (c *compiler) port(p *Port) {
	if c.node.IPv4 != nil {
		c.family(p, c.node.IPv4, true)
	}
	if c.node.IPv6 != nil {
		c.family(p, c.node.IPv6, false)
	}
}

// family compiles a port for the addresses of one family. A Service without a
// cluster address of it is none of that family, whatever else it names.
func (c *compiler) family(p *Port, w *Networks, is4 bool) {
	s := c.svc
	if !slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is4() == is4 }) {
		return
	}
	any, picked := c.node.usable(p.Endpoints, is4), false
	var eps chosen
	pick := func() { // only Services with addresses that can be used need it
		if !picked {
			picked, eps = true, c.node.choose(any)
		}
	}
	for _, vip := range s.ClusterIPs {
		if vip.Is4() == is4 && plain(vip) {
			pick()
			c.redirects(p, c.node.Gateway, vip, p.Port, rankCluster, internal(s, eps), nil)
		}
	}
	outside := func(vip netip.Addr, port uint16, rank int8, ranges []Net) {
		pick()
		c.redirects(p, c.node.Gateway, vip, port, rank, eps.cluster, ranges)
		if c.node.Uplink != "" {
			c.redirects(p, c.node.Uplink, vip, port, rank, external(s, eps), ranges)
			c.returns(p, w, external(s, eps))
		}
	}
	if p.NodePort != 0 && w.Host.IsValid() {
		outside(w.Host, p.NodePort, rankNodePort, nil)
	}
	for _, vip := range s.LoadBalancerIPs {
		if vip.Is4() == is4 && plain(vip) {
			outside(vip, p.Port, rankLoadBalancer, ranges(s.SourceRanges, is4))
		}
	}
	for _, vip := range s.ExternalIPs {
		if vip.Is4() == is4 && plain(vip) {
			outside(vip, p.Port, rankExternal, nil)
		}
	}
}

func internal(s *Service, c chosen) []netip.AddrPort {
	if s.InternalLocal {
		return c.local
	}
	return c.cluster
}

func external(s *Service, c chosen) []netip.AddrPort {
	if s.ExternalLocal {
		return c.local
	}
	return c.cluster
}

// ranges returns the source ranges of a family without those inside others, so
// that no packet is in two. Nil is no restriction.
func ranges(all []netip.Prefix, is4 bool) []Net {
	var nets []Net
	for i, p := range all {
		p = p.Masked()
		inside := slices.ContainsFunc(all[:i], func(q netip.Prefix) bool { return q.Masked() == p }) ||
			slices.ContainsFunc(all, func(q netip.Prefix) bool { return q.Bits() < p.Bits() && q.Overlaps(p) })
		switch {
		case !p.IsValid() || p.Addr().Is4() != is4 || inside:
		case p.Bits() == 0:
			return nil
		default:
			nets = append(nets, netOf(p))
		}
	}
	return nets
}

// redirects compiles one frontend.
func (c *compiler) redirects(p *Port, iface string, vip netip.Addr, port uint16, rank int8, eps []netip.AddrPort, from []Net) {
	to := part{at: frontend{iface: iface, addr: vip, port: port, proto: p.Protocol}, rank: rank, lead: lead{eps: eps, from: from}}
	if c.svc.Affinity && len(eps) > 1 {
		if to.sticky = vip.Is4(); to.sticky {
			to.port = p.Name
		} else if rank == rankCluster {
			c.problem(ReasonAffinity, "%s: ipnat prints no IPv6 masks with holes, so clients are spread over the endpoints", vip)
		}
	}
	c.parts = append(c.parts, to)
}

// returns makes answers to clients outside come back through this host when the
// endpoint is neither here nor a pod: on another node's own address.
func (c *compiler) returns(p *Port, w *Networks, eps []netip.AddrPort) {
	for _, e := range eps {
		a := e.Addr()
		if !w.Host.IsValid() || a == w.Host || a == w.Gateway || w.Pods.Contains(a) || w.Cluster.IsValid() && w.Cluster.Contains(a) {
			continue
		}
		c.parts = append(c.parts,
			part{at: frontend{iface: c.node.Uplink, addr: a, mask: true}},
			part{at: frontend{iface: c.node.Uplink, addr: a, port: e.Port(), proto: p.Protocol, mask: true}})
	}
}
