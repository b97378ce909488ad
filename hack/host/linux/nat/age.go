package nat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/ipf"
)

// age records how long idle sessions of a redirect live. Only UDP to one port
// of one address is done: other sessions keep Linux' times.
func (rs *ruleset) age(r ipf.Rule) {
	port := r.PortLow
	single := r.PortHigh == r.PortLow || r.Filter && r.DstPort.Op == "="
	if r.AgeForward == 0 || !r.UDP || !single || r.Dst.Bits() != rs.bits {
		return
	}
	if rs.ages[r.AgeForward] == nil {
		rs.ages[r.AgeForward] = map[netip.AddrPort]bool{}
	}
	rs.ages[r.AgeForward][netip.AddrPortFrom(r.Dst.Addr, port)] = true
}

// ageChain gives new sessions their age, by where they wanted to go. Its first
// rule is always there: Linux tracks connections in a network namespace only
// while some rule asks for it, and sessions have to outlive the last of ipnat's.
func (rs *ruleset) ageChain() string {
	var b strings.Builder
	b.WriteString("ct state established accept\n")
	for _, n := range slices.Sorted(maps.Keys(rs.ages)) {
		fmt.Fprintf(&b, "ct state new meta l4proto udp ct original %s daddr . ct original proto-dst @aged%d ct timeout set \"age%d\"\n", rs.ip, n, n)
	}
	return b.String()
}

// agesDifference changes the sets of destinations. Those of ages that are no
// longer used stay, empty.
func (rs *ruleset) agesDifference(b *strings.Builder, old *ruleset) {
	for _, n := range slices.Sorted(maps.Keys(rs.ages)) {
		if old.ages[n] == nil {
			fmt.Fprintf(b, "add ct timeout %s age%d { protocol udp ; l3proto %s ; policy = { unreplied : %d, replied : %d } ; }\n", rs.table(), n, rs.ip, n, n)
			fmt.Fprintf(b, "add set %s aged%d { type %s . inet_service ; }\n", rs.table(), n, rs.addressType())
		}
		rs.change(b, "add", n, rs.ages[n], old.ages[n])
	}
	for _, n := range slices.Sorted(maps.Keys(old.ages)) {
		rs.change(b, "delete", n, old.ages[n], rs.ages[n])
	}
}

// change writes the elements of one set that another lacks.
func (f family) change(b *strings.Builder, verb string, age uint32, has, lacks map[netip.AddrPort]bool) {
	for _, a := range slices.SortedFunc(maps.Keys(has), netip.AddrPort.Compare) {
		if !lacks[a] {
			fmt.Fprintf(b, "%s element %s aged%d { %s . %d }\n", verb, f.table(), age, a.Addr(), a.Port())
		}
	}
}
