package ipf

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// Kind is what a rule does.
type Kind string

// The kinds of rules.
const (
	Map      Kind = "map"
	Bimap    Kind = "bimap"
	MapBlock Kind = "map-block"
	Redirect Kind = "rdr"
)

// Net is an address under a mask, which may have holes. The zero Net is any.
type Net struct{ Addr, Mask netip.Addr }

// IsAny says whether every address matches.
func (n Net) IsAny() bool {
	return !n.Mask.IsValid() || n.Mask.IsUnspecified() && n.Addr.IsUnspecified()
}

// Bits returns the length of the mask, or -1 if it has holes.
func (n Net) Bits() int {
	if !n.Mask.IsValid() {
		return 0
	}
	ones, ended := 0, false
	for _, b := range n.Mask.AsSlice() {
		lead := bits.LeadingZeros8(^b)
		if b<<lead != 0 || ended && b != 0 {
			return -1
		}
		ended = ended || lead < 8
		ones += lead
	}
	return ones
}

func (n Net) text() string { return n.Addr.String() + n.maskText() }

func (n Net) maskText() string {
	if b := n.Bits(); b >= 0 {
		return fmt.Sprintf("/%d", b)
	}
	return "/" + n.Mask.String()
}

// object prints an address of the from/to form.
func (n Net) object() string {
	if n.IsAny() && (!n.Addr.IsValid() || n.Addr.Is4()) {
		return "any"
	}
	return n.text()
}

// PortMatch compares a port: Op is one of = != < > <= >= with Low, or <> and
// >< with both. The zero PortMatch matches all.
type PortMatch struct {
	Op        string
	Low, High uint16
}

// Endpoint is an address with a port, which is 0 where the protocol has none.
type Endpoint struct {
	Addr netip.Addr
	Port uint16
}

// Rule is one parsed rule. Rules that compare equal are one rule to the
// kernel, however they were written.
type Rule struct {
	Kind             Kind
	Interface, Other string // Other is the interface of the other direction, mostly the same
	IPv6             bool

	// Filter says that the rule has the from/to form: Src and Dst with their
	// ports choose packets, negated by NotSrc and NotDst. Without it, a map
	// rule has only Src, and a redirect only Dst with PortLow to PortHigh.
	Filter           bool
	Src, Dst         Net
	NotSrc, NotDst   bool
	SrcPort, DstPort PortMatch

	// For a redirect PortLow to PortHigh are the original ports; for a map
	// rule the ports that are handed out, if there are any.
	PortLow, PortHigh uint16

	// A redirect goes to Target, and by turns to Target2 if Split, at
	// TargetPort. A range of ports keeps its distances unless Fixed.
	Target     Net
	Target2    netip.Addr
	Split      bool
	TargetPort uint16
	Fixed      bool

	// A map rule uses the addresses of To, or from RangeLow to RangeHigh.
	To                  Net
	Range               bool
	RangeLow, RangeHigh netip.Addr

	TCP, UDP   bool // both in tcp/udp
	Proto      int  // 0 is any, or tcp/udp
	ICMPQuery  bool // icmpidmap
	Auto       bool // portmap … auto, ports auto
	Sequential bool

	RoundRobin, Frag, Sticky bool
	AgeForward, AgeBackward  uint32 // seconds
	MSSClamp                 uint32
	Proxy                    string
	Tag                      string
}

// String returns the canonical text with numbers only, as ipnat -lR.
func (r Rule) String() string { return r.text(true) }

// text is printnat(); numeric keeps port numbers from becoming names. It
// prints some options of map rules at places where the grammar has none.
func (r Rule) text(numeric bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Kind, r.Interface)
	if r.Other != "" && r.Other != r.Interface {
		fmt.Fprintf(&b, ",%s ", r.Other)
	}
	b.WriteByte(' ')
	if r.Filter {
		r.writeFilter(&b, numeric)
	}
	if r.Kind == Redirect {
		r.writeRedirect(&b)
	} else {
		r.writeMap(&b, numeric)
	}
	return b.String()
}

func (r Rule) writeFilter(b *strings.Builder, numeric bool) {
	if r.NotSrc {
		b.WriteString("! ")
	}
	b.WriteString("from " + r.Src.object() + r.SrcPort.text(r.Proto, numeric))
	if r.NotDst {
		b.WriteString(" !")
	}
	b.WriteString(" to " + r.Dst.object() + r.DstPort.text(r.Proto, numeric))
}

func (p PortMatch) text(proto int, numeric bool) string {
	switch p.Op {
	case "":
		return ""
	case "<>", "><":
		return fmt.Sprintf(" port %d %s %d", p.Low, p.Op, p.High)
	}
	return fmt.Sprintf(" port %s %s", p.Op, portName(proto, p.Low, numeric))
}

func (r Rule) writeRedirect(b *strings.Builder) {
	if !r.Filter {
		b.WriteString(orZero(r.Dst, r.IPv6).text())
		if r.TCP || r.UDP {
			fmt.Fprintf(b, " port %d", r.PortLow)
			if r.PortHigh != r.PortLow {
				fmt.Fprintf(b, "-%d", r.PortHigh)
			}
		}
	}
	target := orZero(r.Target, r.IPv6)
	fmt.Fprintf(b, " -> %s", target.Addr)
	if r.Split {
		fmt.Fprintf(b, ",%s", r.Target2)
	}
	if target.Addr.IsUnspecified() {
		b.WriteString(target.maskText())
	}
	if r.TCP || r.UDP {
		if r.Fixed {
			b.WriteString(" port = ")
		} else {
			b.WriteString(" port ")
		}
		fmt.Fprintf(b, "%d", r.TargetPort)
	}
	b.WriteString(" " + r.protoText())
	r.option(b, r.RoundRobin, "round-robin")
	r.option(b, r.Frag, "frag")
	r.writeAge(b)
	r.option(b, r.Sticky, "sticky")
	r.writeMSS(b)
	r.option(b, r.Proxy != "", "proxy "+r.Proxy)
	r.option(b, r.Tag != "", "tag "+r.Tag)
}

func (r Rule) option(b *strings.Builder, on bool, text string) {
	if on {
		b.WriteString(" " + text)
	}
}

func (r Rule) writeAge(b *strings.Builder) {
	r.option(b, r.AgeForward != 0 || r.AgeBackward != 0, fmt.Sprintf("age %d/%d", r.AgeForward, r.AgeBackward))
}

func (r Rule) writeMSS(b *strings.Builder) {
	r.option(b, r.MSSClamp != 0, fmt.Sprintf("mssclamp %d", r.MSSClamp))
}

func (r Rule) writeMap(b *strings.Builder, numeric bool) {
	if !r.Filter {
		b.WriteString(orZero(r.Src, r.IPv6).text())
	}
	b.WriteString(" -> ")
	if r.Range {
		fmt.Fprintf(b, "range %s-%s", r.RangeLow, r.RangeHigh)
	} else {
		b.WriteString(orZero(r.To, r.IPv6).text())
	}
	switch {
	case r.Proxy != "":
		fmt.Fprintf(b, " proxy port %s %s/%s", portName(r.Proto, r.DstPort.Low, numeric), r.Proxy, protoName(r.Proto))
	case r.Kind == MapBlock && r.Auto && r.PortLow == 0:
		b.WriteString(" ports auto")
	case r.Kind == MapBlock:
		fmt.Fprintf(b, " ports %d", r.PortLow)
	case r.PortLow != 0 || r.PortHigh != 0:
		r.writePortmap(b)
	case r.TCP || r.UDP || r.Proto != 0:
		b.WriteString(" " + r.protoText())
	}
	r.option(b, r.Frag, "frag")
	r.writeAge(b)
	r.writeMSS(b)
	r.option(b, r.Tag != "", "tag "+r.Tag)
	r.option(b, r.Sequential, "sequential")
}

func (r Rule) writePortmap(b *strings.Builder) {
	word := "portmap"
	if r.ICMPQuery {
		word = "icmpidmap"
	}
	fmt.Fprintf(b, " %s %s", word, r.protoText())
	if r.Auto {
		b.WriteString(" auto")
	} else {
		fmt.Fprintf(b, " %d:%d", r.PortLow, r.PortHigh)
	}
}

// protoText is printproto().
func (r Rule) protoText() string {
	switch {
	case r.TCP && r.UDP:
		return "tcp/udp"
	case r.TCP:
		return "tcp"
	case r.UDP:
		return "udp"
	case r.ICMPQuery:
		return "icmp"
	}
	return protoName(r.Proto)
}

func orZero(n Net, v6 bool) Net {
	if n.Addr.IsValid() {
		return n
	}
	if v6 {
		return Net{netip.IPv6Unspecified(), netip.IPv6Unspecified()}
	}
	return Net{netip.IPv4Unspecified(), netip.IPv4Unspecified()}
}
