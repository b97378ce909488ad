package ipnat

import (
	"math/bits"
	"net/netip"
	"strconv"
)

// Kind is what a rule does to packets.
type Kind uint8

// The kinds of rules that are written here.
const (
	Redirect Kind = iota + 1 // rdr: another destination for what comes in
	Map                      // map: another source for what goes out
)

// Protocol is what a rule or a Service's port is for.
type Protocol uint8

// The protocols. Any and TCPUDP are for rules only; SCTP is refused.
const (
	Any Protocol = iota
	TCP
	UDP
	TCPUDP
	SCTP
)

// String returns the protocol as ipnat prints it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case TCPUDP:
		return "tcp/udp"
	case SCTP:
		return "sctp"
	}
	return "any"
}

// Net is an address under a mask, which may have holes: it contains the
// addresses that equal Addr in the bits of Mask. The zero Net is no network.
type Net struct{ Addr, Mask netip.Addr }

// netOf returns p as a Net.
func netOf(p netip.Prefix) Net {
	p = p.Masked()
	return Net{p.Addr(), lengthMask(p.Addr(), p.Bits())}
}

// single returns the network of one address.
func single(a netip.Addr) Net { return Net{a, lengthMask(a, a.BitLen())} }

func lengthMask(a netip.Addr, n int) netip.Addr {
	var raw [16]byte
	for i := range n / 8 {
		raw[i] = 0xff
	}
	if n%8 != 0 {
		raw[n/8] = 0xff << (8 - n%8)
	}
	m, _ := netip.AddrFromSlice(raw[:a.BitLen()/8])
	return m
}

// Bits returns the length of the mask, or -1 if it has holes.
func (n Net) Bits() int {
	ones, ended := 0, false
	raw := n.Mask.As16()
	for _, b := range raw[16-n.Mask.BitLen()/8:] {
		lead := bits.LeadingZeros8(^b)
		if b<<lead != 0 || ended && b != 0 {
			return -1
		}
		ended = ended || lead < 8
		ones += lead
	}
	return ones
}

// append writes the network as ipnat prints it. An IPv6 mask with holes cannot
// be written: ipnat prints the number of its bits.
func (n Net) append(b []byte) []byte {
	b = append(n.Addr.AppendTo(b), '/')
	if ones := n.Bits(); ones >= 0 {
		return strconv.AppendInt(b, int64(ones), 10)
	}
	return n.Mask.AppendTo(b)
}

// object writes an address of the from/to form. IPv4 has a word for all.
func (n Net) object(b []byte) []byte {
	if n.Addr.Is4() && n.Addr.IsUnspecified() && n.Mask.IsUnspecified() {
		return append(b, "any"...)
	}
	return n.append(b)
}

// Rule is one rule of a form that this package writes. Rules that compare equal
// are one rule to the kernel.
type Rule struct {
	Kind       Kind
	Proto      Protocol // what it is for; of a map with ports, what gets them
	RoundRobin bool     // take turns with the rules for the same packets
	Mark       bool     // print "frag", which has no effect: our mark on map rules
	NotTo      bool     // of a map: all destinations but To

	Interface string
	From      Net    // sources; none is the form of redirects without from
	To        Net    // destinations; of a redirect one address
	ToPort    uint16 // destination port; 0 is all, for map rules only

	// Target is where a redirect goes, at TargetPort, or the source that a map
	// gives, with a port from Low to High if there are any. The unspecified
	// address as a map's target keeps the source as it is.
	Target     netip.Addr
	TargetPort uint16
	Low, High  uint16

	Age uint16 // seconds that an idle session lives; 0 is the kernel's default
	Tag string // our mark on redirects
}

// String returns the rule as ipnat -lR prints it, which ipnat also reads.
func (r Rule) String() string { return string(r.AppendTo(nil)) }

// AppendTo is String for many rules.
func (r Rule) AppendTo(b []byte) []byte {
	if r.Kind == Map {
		return r.appendMap(b)
	}
	b = append(append(b, "rdr "...), r.Interface...)
	if r.From != (Net{}) {
		b = r.from(append(b, ' '))
	} else {
		b = r.To.append(append(b, ' '))
		b = number(append(b, " port "...), r.ToPort)
	}
	b = r.Target.AppendTo(append(b, " -> "...))
	b = number(append(b, " port "...), r.TargetPort)
	b = append(append(b, ' '), r.Proto.String()...)
	if r.RoundRobin {
		b = append(b, " round-robin"...)
	}
	if r.Age != 0 {
		b = number(append(b, " age "...), r.Age)
		b = number(append(b, '/'), r.Age)
	}
	if r.Tag != "" {
		b = append(append(b, " tag "...), r.Tag...)
	}
	return b
}

func (r Rule) appendMap(b []byte) []byte {
	b = append(append(b, "map "...), r.Interface...)
	b = r.from(append(b, ' '))
	b = r.Target.AppendTo(append(b, " -> "...))
	if r.Target.IsUnspecified() {
		b = append(b, "/0"...)
	} else {
		b = number(append(b, '/'), uint16(r.Target.BitLen()))
	}
	if r.Low != 0 {
		b = append(append(b, " portmap "...), r.Proto.String()...)
		b = number(append(b, ' '), r.Low)
		b = number(append(b, ':'), r.High)
	}
	if r.Mark {
		b = append(b, " frag"...)
	}
	return b
}

// from writes "from S [!] to D [port = N]".
func (r Rule) from(b []byte) []byte {
	b = r.From.object(append(b, "from "...))
	if r.NotTo {
		b = append(b, " !"...)
	}
	b = r.To.object(append(b, " to "...))
	if r.ToPort != 0 {
		b = number(append(b, " port = "...), r.ToPort)
	}
	return b
}

func number(b []byte, n uint16) []byte { return strconv.AppendUint(b, uint64(n), 10) }

// Rules is a set of rules without duplicates.
type Rules []Rule

// String returns the rules as a file for ipnat -f.
func (rs Rules) String() string {
	b := make([]byte, 0, len(rs)*128)
	for _, r := range rs {
		b = append(r.AppendTo(b), '\n')
	}
	return string(b)
}
