// Package trace follows packets through ipnat's rules as fr_checknatin() and
// fr_checknatout() in ip_nat.c do, without a host: tests ask it what rules mean
// instead of what they say. It knows the rules only as ipnat understood their
// text.
package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"reddwarf.io/reddwarf/hack/host/ipf"
)

// Node is the host that the rules are on.
type Node struct {
	Gateway, Uplink string    // interfaces: to this host's pods, and to all others
	Networks        []Network // one for each family
}

// Network is the host's addresses of one family.
type Network struct {
	Pods, Cluster netip.Prefix // this host's pods, and all hosts'
	Gateway, Host netip.Addr   // the host's own addresses, which need not be there
}

// Tracer follows packets.
type Tracer struct {
	node  Node
	rules []ipf.Rule
}

// New returns a Tracer of rules as ipnat reads them. A text of which ipnat
// would ignore anything is an error.
func New(n Node, rules string) (*Tracer, error) {
	tr := &Tracer{node: n}
	warnings, err := ipf.ParseRules(rules, func(r ipf.Rule, _ int) error { tr.rules = append(tr.rules, r); return nil })
	if err == nil && len(warnings) > 0 {
		err = fmt.Errorf("ipnat warns: %q", warnings)
	}
	return tr, err
}

// Rules returns how many there are.
func (tr *Tracer) Rules() int { return len(tr.rules) }

// Packet is the first of a connection. It is of TCP unless it says otherwise.
type Packet struct {
	Interface string // where it comes in
	Src, Dst  netip.AddrPort
	UDP, ICMP bool
	SCTP      bool
}

// String returns the packet for a failure's message.
func (p Packet) String() string { return fmt.Sprintf("%s: %s to %s", p.Interface, p.Src, p.Dst) }

// End is one way that a packet may go.
type End struct {
	To        netip.AddrPort // where it is in the end
	Source    netip.Addr     // who the receiver sees
	Interface string         // by which it leaves; empty is to the host itself
	Back      bool           // the answer comes through this host, so that the client knows it
}

func contains(n ipf.Net, a netip.Addr) bool {
	if !n.Mask.IsValid() {
		return true
	}
	if a.BitLen() != n.Mask.BitLen() {
		return false
	}
	x, m, want := a.AsSlice(), n.Mask.AsSlice(), n.Addr.AsSlice()
	for i := range x {
		if x[i]&m[i] != want[i] {
			return false
		}
	}
	return true
}

func (p Packet) proto(r ipf.Rule) bool {
	switch {
	case r.TCP || r.UDP:
		return !p.ICMP && !p.SCTP && (p.UDP && r.UDP || !p.UDP && r.TCP)
	case r.Proto == 1:
		return p.ICMP
	}
	return r.Proto == 0
}

func (p Packet) portIs(m ipf.PortMatch) bool {
	return m.Op == "" || m.Op == "=" && m.Low == p.Dst.Port()
}

// matches is all criteria but the interface.
func (p Packet) matches(r ipf.Rule) bool {
	if r.IPv6 != p.Dst.Addr().Is6() || !p.proto(r) || contains(r.Dst, p.Dst.Addr()) == r.NotDst {
		return false
	}
	if r.Filter {
		return contains(r.Src, p.Src.Addr()) != r.NotSrc && p.portIs(r.DstPort)
	}
	return r.Kind == ipf.Map && contains(r.Src, p.Src.Addr()) ||
		r.Kind == ipf.Redirect && p.Dst.Port() >= r.PortLow && p.Dst.Port() <= r.PortHigh
}

// Redirects returns all targets that a new connection may get: that of the
// first rule that matches, and those it takes turns with.
func (tr *Tracer) Redirects(p Packet) []netip.AddrPort {
	var out []netip.AddrPort
	best, turns := -1, false
	for _, r := range tr.rules {
		if r.Kind != ipf.Redirect || r.Interface != p.Interface || !p.matches(r) {
			continue
		}
		to := netip.AddrPortFrom(r.Target.Addr, r.TargetPort)
		switch {
		case r.Dst.Bits() > best:
			best, turns, out = r.Dst.Bits(), r.RoundRobin, []netip.AddrPort{to}
		case r.Dst.Bits() == best && turns && r.RoundRobin:
			out = append(out, to)
		}
	}
	return out
}

func (tr *Tracer) network(a netip.Addr) Network {
	for _, w := range tr.node.Networks {
		if w.Pods.Addr().Is4() == a.Is4() {
			return w
		}
	}
	return Network{}
}

// Leaves returns the interface to an address; empty is the host itself.
func (tr *Tracer) Leaves(a netip.Addr) string {
	switch w := tr.network(a); {
	case a == w.Gateway || a == w.Host:
		return ""
	case w.Pods.Contains(a):
		return tr.node.Gateway
	}
	return tr.node.Uplink
}

// Mapped returns the map rule for a packet that leaves by iface, or nil.
func (tr *Tracer) Mapped(p Packet, iface string) *ipf.Rule {
	var found *ipf.Rule
	for i, r := range tr.rules {
		if r.Kind == ipf.Map && r.Interface == iface && p.matches(r) && (found == nil || r.Src.Bits() > found.Src.Bits()) {
			found = &tr.rules[i]
		}
	}
	return found
}

// Source returns who the receiver of a packet that leaves by iface sees.
func (tr *Tracer) Source(p Packet, iface string) netip.Addr {
	found := tr.Mapped(p, iface)
	if found == nil || found.To.Addr.IsUnspecified() && found.To.Bits() == 0 {
		return p.Src.Addr()
	}
	return found.To.Addr
}

// Trace returns the ways that a new connection to a Service may go: none if it
// is not translated at all.
func (tr *Tracer) Trace(p Packet) []End {
	var out []End
	for _, to := range tr.Redirects(p) {
		e := End{To: to, Interface: tr.Leaves(to.Addr()), Source: p.Src.Addr()}
		if e.Interface != "" {
			q := p
			q.Dst = to
			e.Source = tr.Source(q, e.Interface)
		}
		// The receiver answers to e.Source. A neighbour of the client on its link
		// would answer past this host; so would one outside who is not sent back.
		switch {
		case e.Interface == "" || tr.Leaves(e.Source) == "": // the host itself answers, or gets the answer
			e.Back = true
		case e.Interface == tr.node.Gateway:
			e.Back = tr.Leaves(e.Source) != tr.node.Gateway
		default: // a pod of another host answers to our pods by their own addresses
			e.Back = p.Interface == tr.node.Gateway && tr.network(to.Addr()).Cluster.Contains(to.Addr())
		}
		out = append(out, e)
	}
	return out
}

// Targets is where a packet may go, as sorted text; ways on which no answer
// comes back are marked.
func (tr *Tracer) Targets(p Packet) []string {
	var out []string
	for _, e := range tr.Trace(p) {
		s := e.To.String()
		if !e.Back {
			s += " (no way back)"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
