package ipnat

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxInterface is the longest name of an interface: LIFNAMSIZ without its NUL.
const maxInterface = 31

// ParseRule reads one line of ipnat -lR. Lines that this package would not
// write, such as those of other people, are [ErrSyntax].
func ParseRule(line string) (Rule, error) {
	p := parser{rest: line}
	var r Rule
	switch p.word() {
	case "rdr":
		p.redirect(&r)
	case "map":
		p.mapping(&r)
	default:
		p.bad = true
	}
	if p.bad || p.rest != "" {
		return Rule{}, fmt.Errorf("ipnat: rule %q: %w", line, ErrSyntax)
	}
	return r, nil
}

// parser takes words from the front of a line. Once something is wrong it
// stays bad.
type parser struct {
	rest string
	bad  bool
}

func (p *parser) word() string {
	p.rest = strings.TrimLeft(p.rest, " ")
	w := p.rest
	if i := strings.IndexByte(w, ' '); i >= 0 {
		w = w[:i]
	}
	p.rest = strings.TrimLeft(p.rest[len(w):], " ")
	return w
}

// accept takes the next word if it is this one.
func (p *parser) accept(w string) bool {
	if !strings.HasPrefix(p.rest, w) || len(p.rest) > len(w) && p.rest[len(w)] != ' ' {
		return false
	}
	p.word()
	return true
}

func (p *parser) expect(w string) {
	if !p.accept(w) {
		p.bad = true
	}
}

func (p *parser) redirect(r *Rule) {
	r.Kind = Redirect
	r.Interface = p.name()
	if p.accept("from") {
		p.fromTo(r)
		p.expectTrue(!r.NotTo)
	} else {
		r.To = p.net()
		p.expect("port")
		r.ToPort = p.port()
	}
	p.expectTrue(r.ToPort != 0 && r.To.Bits() == r.To.Addr.BitLen())
	p.expect("->")
	r.Target = p.addr()
	p.expect("port")
	r.TargetPort = p.port()
	r.Proto = p.protocol()
	r.RoundRobin = p.accept("round-robin")
	if p.accept("age") {
		forward, back, _ := strings.Cut(p.word(), "/")
		r.Age = p.number(forward)
		p.expectTrue(forward == back && r.Age != 0)
	}
	if p.accept("tag") {
		r.Tag = p.word()
		p.expectTrue(isTag(r.Tag))
	}
	p.expectTrue(!r.Target.IsUnspecified() && r.Target.BitLen() == r.To.Addr.BitLen())
}

func (p *parser) mapping(r *Rule) {
	r.Kind = Map
	r.Interface = p.name()
	p.expect("from")
	p.fromTo(r)
	p.expect("->")
	target := p.net()
	r.Target = target.Addr
	switch target.Bits() {
	case 0:
		p.expectTrue(r.Target.IsUnspecified())
	case r.Target.BitLen(): // 0/32 is the interface's own address: not ours
		p.expectTrue(!r.Target.IsUnspecified())
	default:
		p.bad = true
	}
	if p.accept("portmap") {
		r.Proto = p.protocol()
		low, high, _ := strings.Cut(p.word(), ":")
		r.Low, r.High = p.number(low), p.number(high)
		p.expectTrue(r.Low != 0 && r.Low <= r.High)
	}
	r.Mark = p.accept("frag")
	p.expectTrue(target.Addr.BitLen() == r.To.Addr.BitLen())
}

// fromTo reads what follows "from".
func (p *parser) fromTo(r *Rule) {
	from := p.word()
	r.NotTo = p.accept("!")
	p.expect("to")
	to := p.word()
	if p.accept("port") {
		p.expect("=")
		r.ToPort = p.port()
	}
	r.From, r.To = p.object(from), p.object(to)
	p.expectTrue(r.From.Addr.BitLen() == r.To.Addr.BitLen())
}

func (p *parser) expectTrue(ok bool) {
	if !ok {
		p.bad = true
	}
}

// name reads an interface. Rules for two of them are not ours.
func (p *parser) name() string {
	w := p.word()
	p.expectTrue(validInterface(w))
	return w
}

// validInterface says whether ipnat takes the name for one word and keeps it
// whole. It is narrower than ipnat is.
func validInterface(name string) bool {
	if name == "" || len(name) > maxInterface {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return !keywords[name]
}

// keywords are the words of ipnat's lexer that an interface could be called.
var keywords = map[string]bool{
	"age": true, "any": true, "auto": true, "bimap": true, "eq": true, "frag": true, "from": true, "ge": true, "gt": true,
	"icmpidmap": true, "le": true, "lt": true, "map": true, "mask": true, "mssclamp": true, "ne": true, "netmask": true, "port": true,
	"portmap": true, "ports": true, "proxy": true, "range": true, "rdr": true, "sequential": true, "sticky": true, "tag": true,
	"tcp": true, "tcpudp": true, "to": true, "udp": true,
}

func (p *parser) addr() netip.Addr { return p.address(p.word()) }

func (p *parser) address(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		p.bad = true
		return netip.IPv4Unspecified()
	}
	return a
}

func (p *parser) object(w string) Net {
	if w == "any" {
		return Net{netip.IPv4Unspecified(), netip.IPv4Unspecified()}
	}
	return p.network(w)
}

func (p *parser) net() Net { return p.network(p.word()) }

// network reads an address with a length, or with an IPv4 mask with holes.
func (p *parser) network(w string) Net {
	first, mask, ok := strings.Cut(w, "/")
	a := p.address(first)
	n := Net{a, a}
	if strings.Contains(mask, ".") {
		n.Mask = p.address(mask)
		p.expectTrue(a.Is4() && n.Mask.Is4() && n.Bits() < 0)
	} else {
		length := int(p.number(mask))
		p.expectTrue(ok && length <= a.BitLen() && (length != 0 || mask == "0"))
		n.Mask = lengthMask(a, min(length, a.BitLen()))
	}
	p.expectTrue(n.Addr == and(n.Addr, n.Mask))
	return n
}

// and returns the bits of a under a mask of its family.
func and(a, mask netip.Addr) netip.Addr {
	if a.BitLen() != mask.BitLen() {
		return netip.Addr{}
	}
	x, m := a.As16(), mask.As16()
	skip := 16 - a.BitLen()/8
	for i := range x {
		x[i] &= m[i]
	}
	masked, _ := netip.AddrFromSlice(x[skip:])
	return masked
}

func (p *parser) port() uint16 {
	n := p.number(p.word())
	p.expectTrue(n != 0)
	return n
}

// number reads a number as ipnat prints it: no sign, no leading zero.
func (p *parser) number(w string) uint16 {
	n, err := strconv.ParseUint(w, 10, 16)
	if err != nil || len(w) > 1 && w[0] == '0' {
		p.bad = true
	}
	return uint16(n)
}

func (p *parser) protocol() Protocol {
	switch p.word() {
	case "tcp":
		return TCP
	case "udp":
		return UDP
	case "tcp/udp":
		return TCPUDP
	}
	p.bad = true
	return Any
}
