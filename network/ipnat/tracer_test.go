package ipnat_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/network/ipnat"
)

// tracer follows packets through rules as fr_checknatin() and fr_checknatout()
// in ip_nat.c do. It knows the rules only as ipnat understood their text.
type tracer struct {
	node  ipnat.Node
	rules []ipf.Rule
}

func newTracer(t testing.TB, n ipnat.Node, rules ipnat.Rules) *tracer {
	t.Helper()
	tr := &tracer{node: n}
	warnings, err := ipf.ParseRules(rules.String(), func(r ipf.Rule, _ int) error { tr.rules = append(tr.rules, r); return nil })
	if err != nil || len(warnings) > 0 || len(tr.rules) != len(rules) {
		t.Fatalf("ipnat reads %d of %d rules: %v %q", len(tr.rules), len(rules), err, warnings)
	}
	return tr
}

type packet struct {
	iface     string
	src, dst  netip.AddrPort
	udp, icmp bool
}

// end is one way that a packet may go.
type end struct {
	to     netip.AddrPort // where it is in the end
	source netip.Addr     // who the receiver sees
	iface  string         // by which it leaves; empty is to the host itself
	back   bool           // the answer comes through this host, so that the client knows it
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

func (p packet) proto(r ipf.Rule) bool {
	switch {
	case r.TCP || r.UDP:
		return !p.icmp && (p.udp && r.UDP || !p.udp && r.TCP)
	case r.Proto == 1:
		return p.icmp
	}
	return r.Proto == 0
}

func (p packet) portIs(m ipf.PortMatch) bool {
	return m.Op == "" || m.Op == "=" && m.Low == p.dst.Port()
}

// matches is all criteria but the interface.
func (p packet) matches(r ipf.Rule) bool {
	if r.IPv6 != p.dst.Addr().Is6() || !p.proto(r) || contains(r.Dst, p.dst.Addr()) == r.NotDst {
		return false
	}
	if r.Filter {
		return contains(r.Src, p.src.Addr()) != r.NotSrc && p.portIs(r.DstPort)
	}
	return r.Kind == ipf.Map && contains(r.Src, p.src.Addr()) ||
		r.Kind == ipf.Redirect && p.dst.Port() >= r.PortLow && p.dst.Port() <= r.PortHigh
}

// redirects returns all targets that a new connection may get: that of the
// first rule that matches, and those it takes turns with.
func (tr *tracer) redirects(p packet) []netip.AddrPort {
	var out []netip.AddrPort
	best, turns := -1, false
	for _, r := range tr.rules {
		if r.Kind != ipf.Redirect || r.Interface != p.iface || !p.matches(r) {
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

// leaves returns the interface to an address; empty is the host itself.
func (tr *tracer) leaves(a netip.Addr) string {
	w := tr.node.IPv4
	if a.Is6() {
		w = tr.node.IPv6
	}
	switch {
	case a == w.Gateway || a == w.Host:
		return ""
	case w.Pods.Contains(a):
		return tr.node.Gateway
	}
	return tr.node.Uplink
}

// mapped returns the map rule for a packet that leaves by iface, or nil.
func (tr *tracer) mapped(p packet, iface string) *ipf.Rule {
	var found *ipf.Rule
	for i, r := range tr.rules {
		if r.Kind == ipf.Map && r.Interface == iface && p.matches(r) && (found == nil || r.Src.Bits() > found.Src.Bits()) {
			found = &tr.rules[i]
		}
	}
	return found
}

// source returns who the receiver of a packet that leaves by iface sees.
func (tr *tracer) source(p packet, iface string) netip.Addr {
	found := tr.mapped(p, iface)
	if found == nil || found.To.Addr.IsUnspecified() && found.To.Bits() == 0 {
		return p.src.Addr()
	}
	return found.To.Addr
}

// trace returns the ways that a new connection to a Service may go: none if it
// is not translated at all.
func (tr *tracer) trace(p packet) []end {
	var out []end
	for _, to := range tr.redirects(p) {
		e := end{to: to, iface: tr.leaves(to.Addr()), source: p.src.Addr()}
		if e.iface != "" {
			q := p
			q.dst = to
			e.source = tr.source(q, e.iface)
		}
		// The receiver answers to e.source. A neighbour of the client on its link
		// would answer past this host; so would one outside who is not sent back.
		switch {
		case e.iface == "" || tr.leaves(e.source) == "": // the host itself answers, or gets the answer
			e.back = true
		case e.iface == tr.node.Gateway:
			e.back = tr.leaves(e.source) != tr.node.Gateway
		default:
			e.back = p.iface == tr.node.Gateway && tr.clusterHas(to.Addr())
		}
		out = append(out, e)
	}
	return out
}

// clusterHas says whether a is a pod, who answers to pods of other nodes by
// their own addresses.
func (tr *tracer) clusterHas(a netip.Addr) bool {
	w := tr.node.IPv4
	if a.Is6() {
		w = tr.node.IPv6
	}
	return w.Cluster.Contains(a)
}

// targets is where a packet may go, as text; ways on which no answer comes back
// are marked.
func (tr *tracer) targets(p packet) []string {
	var out []string
	for _, e := range tr.trace(p) {
		s := e.to.String()
		if !e.back {
			s += " (no way back)"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p packet) String() string {
	return fmt.Sprintf("%s: %s to %s", p.iface, p.src, p.dst)
}
