package links

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"reddwarf.io/reddwarf/hack/host/datalink"
)

// guardTable holds one chain per guarded port, found by a verdict map over the
// port's name, so that each can change alone whatever their number.
const guardTable = "add table bridge datalink\n" +
	"add map bridge datalink guards { type ifname : verdict ; }\n" +
	"add chain bridge datalink prerouting { type filter hook prerouting priority -300 ; policy accept ; }\n"

// guardChain is the chain of a link; its name can hold everything that a link
// name can.
func guardChain(link string) string { return "g_" + link }

// SetGuard implements datalink.Backend: packets that enter the bridge at the
// VNIC's port are dropped there, and those that leave it wait in a queue.
func (b *Backend) SetGuard(ctx context.Context, name string, g datalink.Guard) error {
	port, chain := portName(name), guardChain(name)
	if err := shape(port, g.BitsPerSecond); err != nil {
		return err
	}
	var s strings.Builder
	s.WriteString(guardTable)
	// Adding before flushing makes both work whether or not the chain is there.
	s.WriteString("flush chain bridge datalink prerouting\n" +
		"add rule bridge datalink prerouting iifname vmap @guards\n")
	fmt.Fprintf(&s, "add chain bridge datalink %s\n", chain)
	fmt.Fprintf(&s, "add element bridge datalink guards { %q : goto %s }\n", port, chain)
	fmt.Fprintf(&s, "delete element bridge datalink guards { %q }\n", port)
	fmt.Fprintf(&s, "flush chain bridge datalink %s\n", chain)
	rules := guardRules(g)
	if len(rules) == 0 {
		fmt.Fprintf(&s, "delete chain bridge datalink %s\n", chain)
		return nft(ctx, s.String())
	}
	for _, r := range rules {
		fmt.Fprintf(&s, "add rule bridge datalink %s %s\n", chain, r)
	}
	fmt.Fprintf(&s, "add element bridge datalink guards { %q : goto %s }\n", port, chain)
	return nft(ctx, s.String())
}

// guardRules are the rules of one port. The unspecified address is always
// allowed as a sender, as in the kernel of illumos, and so is the IPv6
// link-local address that belongs to the MAC address.
func guardRules(g datalink.Guard) []string {
	var rules []string
	if g.MACNospoof {
		rules = append(rules, fmt.Sprintf("ether saddr != %s drop", g.MAC))
	}
	if g.Restricted {
		rules = append(rules, "ether type != { ip, ip6, arp } drop")
	}
	if g.IPNospoof {
		rules = append(rules, nospoofRules(g)...)
	}
	if g.BitsPerSecond > 0 { // last: what is dropped anyway does not count
		rules = append(rules, fmt.Sprintf("limit rate over %d bytes/second burst %d bytes drop", g.BitsPerSecond/8, burst(g.BitsPerSecond)))
	}
	return rules
}

// nospoofRules are those of ip-nospoof.
func nospoofRules(g datalink.Guard) []string {
	v4, v6 := []string{"0.0.0.0"}, []string{"::", linkLocal(g.MAC).String()}
	for _, p := range g.Allowed {
		if p.Addr().Is4() {
			v4 = append(v4, setElement(p))
		} else {
			v6 = append(v6, setElement(p))
		}
	}
	return []string{
		fmt.Sprintf("ether type arp arp saddr ether != %s drop", g.MAC),
		fmt.Sprintf("ether type arp arp saddr ip != { %s } drop", strings.Join(v4, ", ")),
		fmt.Sprintf("ether type ip ip saddr != { %s } drop", strings.Join(v4, ", ")),
		fmt.Sprintf("ether type ip6 ip6 saddr != { %s } drop", strings.Join(v6, ", ")),
	}
}

func setElement(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// linkLocal is the address that IPv6 makes of a MAC address (RFC 4291).
func linkLocal(mac []byte) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	if len(mac) == 6 {
		copy(a[8:11], mac[:3])
		copy(a[13:], mac[3:])
		a[8] ^= 2
	}
	return netip.AddrFrom16(a)
}
