package nat

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/linux/links"
)

// compile turns rules of one family into chains.
func compile(f family, nat []ipf.Rule, filter []ipf.FilterRule) (*ruleset, error) {
	rs := &ruleset{family: f, chains: map[string]string{}, vips: map[int]map[netip.Addr]string{},
		ages: map[uint32]map[netip.AddrPort]bool{}}
	byVIP := map[netip.Prefix][]ipf.Rule{}
	var mapRules []ipf.Rule
	for _, r := range nat {
		if err := r.Supported(); err != nil {
			return nil, fmt.Errorf("rule %s: %w", r, err)
		}
		if r.Kind == ipf.Redirect {
			p := f.prefix(r.Dst)
			byVIP[p] = append(byVIP[p], r)
			rs.age(r)
		} else {
			mapRules = append(mapRules, r)
		}
	}
	for p, rules := range byVIP {
		name := "vip_" + strings.NewReplacer(".", "_", ":", "_", "/", "_").Replace(p.String())
		rs.chains[name] = f.redirectChain(rules)
		if rs.vips[p.Bits()] == nil {
			rs.vips[p.Bits()] = map[netip.Addr]string{}
		}
		rs.vips[p.Bits()][p.Addr()] = name
	}
	rs.chains["redirects"] = f.dispatch(rs.vips)
	rs.chains["maps"] = f.mapChain(mapRules)
	rs.chains["ages"] = rs.ageChain()
	f.compileFilter(rs.chains, filter)
	return rs, nil
}

func (f family) prefix(n ipf.Net) netip.Prefix {
	if n.IsAny() {
		return f.any()
	}
	return netip.PrefixFrom(n.Addr, n.Bits())
}

// dispatch looks a destination up, longest masks first as fr_checknatin().
func (f family) dispatch(vips map[int]map[netip.Addr]string) string {
	var b strings.Builder
	for n := f.bits; n >= 0; n-- {
		switch {
		case vips[n] == nil:
		case n == f.bits:
			fmt.Fprintf(&b, "%s daddr vmap @vip%d\n", f.ip, n)
		default:
			fmt.Fprintf(&b, "%s daddr & %s vmap @vip%d\n", f.ip, f.mask(n), n)
		}
	}
	return b.String()
}

// mask is an address of n ones.
func (f family) mask(n int) string {
	raw := make([]byte, f.bits/8)
	for i := range n {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a.String()
}

// redirectChain compiles the rules of one destination. Rules without
// round-robin hide those after them that choose the same packets; rules with
// it take turns, since each goes to the end of the list when it was used.
func (f family) redirectChain(rules []ipf.Rule) string {
	var b strings.Builder
	done := map[ipf.Rule]bool{}
	for i, r := range rules {
		key := criteria(r)
		if done[key] {
			continue
		}
		done[key] = true
		group := []ipf.Rule{r}
		for _, x := range rules[i+1:] {
			if r.RoundRobin && x.RoundRobin && criteria(x) == key {
				group = append(group, x)
			}
		}
		b.WriteString(f.match("iifname", r) + " " + f.target(group) + "\n")
	}
	return b.String()
}

// criteria is a rule without what it does to packets.
func criteria(r ipf.Rule) ipf.Rule {
	return ipf.Rule{Kind: r.Kind, Interface: r.Interface, Filter: r.Filter, Src: r.Src, Dst: r.Dst, NotSrc: r.NotSrc, NotDst: r.NotDst,
		SrcPort: r.SrcPort, DstPort: r.DstPort, PortLow: r.PortLow, PortHigh: r.PortHigh, TCP: r.TCP, UDP: r.UDP, Proto: r.Proto}
}

// match is the left side of a rule: which packets.
func (f family) match(direction string, r ipf.Rule) string {
	var parts []string
	if r.Interface != "*" {
		parts = append(parts, fmt.Sprintf("%s %q", direction, links.InterfaceName(r.Interface)))
	}
	parts = append(parts, f.addresses("saddr", r.Src, r.NotSrc)...)
	if r.Kind != ipf.Redirect {
		if r.Filter {
			parts = append(parts, f.addresses("daddr", r.Dst, r.NotDst)...)
		}
	} else if r.NotDst {
		parts = append(parts, f.addresses("daddr", r.Dst, true)...)
	}
	parts = append(parts, protocols(r.TCP, r.UDP, r.Proto)...)
	if r.TCP || r.UDP {
		parts = append(parts, ports("sport", r.SrcPort)...)
		if r.Filter {
			parts = append(parts, ports("dport", r.DstPort)...)
		} else if r.Kind == ipf.Redirect && (r.PortLow != 0 || r.PortHigh != 0) {
			parts = append(parts, portRange(r.PortLow, r.PortHigh))
		}
	}
	return strings.Join(parts, " ")
}

func portRange(low, high uint16) string {
	if low == high {
		return fmt.Sprintf("th dport %d", low)
	}
	return fmt.Sprintf("th dport %d-%d", low, high)
}

func (f family) addresses(field string, n ipf.Net, not bool) []string {
	op := ""
	if not {
		op = "!= "
	}
	switch {
	case n.IsAny() && not:
		return []string{f.ip + " " + field + " != " + f.any().String()}
	case n.IsAny():
		return nil
	case n.Bits() < 0: // a mask with holes
		if not {
			return []string{fmt.Sprintf("%s %s & %s != %s", f.ip, field, n.Mask, n.Addr)}
		}
		return []string{fmt.Sprintf("%s %s & %s == %s", f.ip, field, n.Mask, n.Addr)}
	}
	return []string{fmt.Sprintf("%s %s %s%s", f.ip, field, op, netip.PrefixFrom(n.Addr, n.Bits()))}
}

func protocols(tcp, udp bool, number int) []string {
	switch {
	case tcp && udp:
		return []string{"meta l4proto { tcp, udp }"}
	case tcp:
		return []string{"meta l4proto tcp"}
	case udp:
		return []string{"meta l4proto udp"}
	case number != 0:
		return []string{fmt.Sprintf("meta l4proto %d", number)}
	}
	return nil
}

// ports compiles a comparison. The range <> is what is outside, >< what is
// strictly inside.
func ports(field string, p ipf.PortMatch) []string {
	switch p.Op {
	case "":
		return nil
	case "=":
		return []string{fmt.Sprintf("th %s %d", field, p.Low)}
	case "<>":
		return []string{fmt.Sprintf("th %s != %d-%d", field, p.Low, max(p.Low, p.High))}
	case "><":
		return []string{fmt.Sprintf("th %s > %d", field, p.Low), fmt.Sprintf("th %s < %d", field, p.High)}
	}
	return []string{fmt.Sprintf("th %s %s %d", field, p.Op, p.Low)}
}

// target is the right side of redirects that choose the same packets.
func (f family) target(group []ipf.Rule) string {
	var ends []string
	r := group[0]
	withPort := (r.TCP || r.UDP) && r.TargetPort != 0
	moving := r.PortHigh > r.PortLow && !r.Fixed && !r.Filter
	for _, g := range group {
		for _, a := range targets(g) {
			if withPort && !moving {
				a += fmt.Sprintf(" . %d", g.TargetPort)
			}
			ends = append(ends, a)
		}
	}
	if moving {
		return f.moveRange(r, ends)
	}
	if len(ends) == 1 {
		addr, port, has := strings.Cut(ends[0], " . ")
		if !has {
			return "dnat to " + addr
		}
		return "dnat to " + net.JoinHostPort(addr, port)
	}
	var b strings.Builder
	for i, e := range ends {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d : %s", i, e)
	}
	to := "dnat to"
	if withPort {
		to = f.withPort()
	}
	return fmt.Sprintf("%s numgen inc mod %d map { %s }", to, len(ends), b.String())
}

func targets(r ipf.Rule) []string {
	if r.Split {
		return []string{r.Target.Addr.String(), r.Target2.String()}
	}
	return []string{r.Target.Addr.String()}
}

// moveRange keeps the distances of a range of ports, to the first target.
func (f family) moveRange(r ipf.Rule, ends []string) string {
	var pairs []string
	for p := int(r.PortLow); p <= int(r.PortHigh); p++ {
		pairs = append(pairs, fmt.Sprintf("%d : %s . %d", p, ends[0], (int(r.TargetPort)+p-int(r.PortLow))&0xffff))
	}
	return fmt.Sprintf("%s th dport map { %s }", f.withPort(), strings.Join(pairs, ", "))
}

// withPort begins a dnat that takes addresses with ports from a map.
func (f family) withPort() string { return "dnat " + f.ip + " addr . port to" }

// mapChain compiles map rules: longest source masks first, then in order of
// insertion, as fr_checknatout().
func (f family) mapChain(rules []ipf.Rule) string {
	slices.SortStableFunc(rules, func(a, b ipf.Rule) int { return b.Src.Bits() - a.Src.Bits() })
	var b strings.Builder
	for _, r := range rules {
		b.WriteString(f.match("oifname", r) + " " + f.source(r) + "\n")
	}
	return b.String()
}

// source is the right side of a map rule.
func (f family) source(r ipf.Rule) string {
	ports := ""
	if (r.TCP || r.UDP) && r.PortHigh != 0 {
		ports = fmt.Sprintf(":%d-%d", r.PortLow, r.PortHigh)
	}
	switch to := f.prefix(r.To); {
	case r.Range:
		return "snat to " + f.bracket(r.RangeLow) + "-" + f.bracket(r.RangeHigh) + ports
	case to.Bits() == 0: // keep the address, and look no further
		return "accept"
	case to.Addr().IsUnspecified(): // 0/32: the interface's own address
		if ports != "" {
			return "masquerade to " + ports
		}
		return "masquerade"
	case to.IsSingleIP():
		return "snat to " + f.bracket(to.Addr()) + ports
	default:
		return "snat to " + f.bracket(to.Addr()) + "-" + f.bracket(last(to)) + ports
	}
}

// bracket writes an address that ports may follow.
func (f family) bracket(a netip.Addr) string {
	if f == ipv6 {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// last is the last address of a network.
func last(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
