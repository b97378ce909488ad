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
	if r.AgeForward == 0 || !r.UDP || !single || r.Dst.Bits() != 32 {
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
		fmt.Fprintf(&b, "ct state new meta l4proto udp ct original ip daddr . ct original proto-dst @aged%d ct timeout set \"age%d\"\n", n, n)
	}
	return b.String()
}

// agesDifference changes the sets of destinations. Those of ages that are no
// longer used stay, empty.
func (rs *ruleset) agesDifference(b *strings.Builder, old *ruleset) {
	for _, n := range slices.Sorted(maps.Keys(rs.ages)) {
		if old.ages[n] == nil {
			fmt.Fprintf(b, "add ct timeout %s age%d { protocol udp ; l3proto ip ; policy = { unreplied : %d, replied : %d } ; }\n", table, n, n, n)
			fmt.Fprintf(b, "add set %s aged%d { type ipv4_addr . inet_service ; }\n", table, n)
		}
		change(b, "add", n, rs.ages[n], old.ages[n])
	}
	for _, n := range slices.Sorted(maps.Keys(old.ages)) {
		change(b, "delete", n, old.ages[n], rs.ages[n])
	}
}

// change writes the elements of one set that another lacks.
func change(b *strings.Builder, verb string, age uint32, has, lacks map[netip.AddrPort]bool) {
	for _, a := range slices.SortedFunc(maps.Keys(has), netip.AddrPort.Compare) {
		if !lacks[a] {
			fmt.Fprintf(b, "%s element %s aged%d { %s . %d }\n", verb, table, age, a.Addr(), a.Port())
		}
	}
}
