package ipf

import (
	"encoding/binary"
	"net/netip"
)

func parseAddr(s string) (netip.Addr, error) { return netip.ParseAddr(s) }

// object reads an address with an optional comparison of its port.
func (p *parser) object() (Net, PortMatch, int) {
	n, v := p.addr()
	if !p.accept("port") {
		return n, PortMatch{}, v
	}
	return n, p.portMatch(), v
}

// comparisons maps the words and signs of comparisons to signs.
var comparisons = map[string]string{
	"=": "=", "eq": "=", "!=": "!=", "ne": "!=", "<": "<", "lt": "<", "<=": "<=", "le": "<=", ">": ">", "gt": ">", ">=": ">=", "ge": ">=",
}

func (p *parser) portMatch() PortMatch {
	if op, ok := comparisons[p.tok.text]; ok && (p.tok.kind == tokenPunct || p.isKeyword()) {
		p.advance()
		return PortMatch{Op: op, Low: p.port()}
	}
	low := p.port()
	for _, op := range []string{"<>", "><"} {
		if p.accept(op) {
			return PortMatch{Op: op, Low: low, High: p.port()}
		}
	}
	p.syntax()
	return PortMatch{}
}

// port reads a port number or the name of a service.
func (p *parser) port() uint16 {
	if p.tok.kind == tokenNumber {
		if p.tok.num > 65535 {
			p.fail("invalid port number")
		}
		return uint16(p.number())
	}
	if p.tok.kind != tokenWord || p.isKeyword() {
		p.syntax()
	}
	n, ok := servicePort(p.tok.text)
	if !ok {
		p.fail("invalid port number")
	}
	p.advance()
	return n
}

// addr reads any, an address, or an address with a mask. It returns the
// version of the address, 0 where that is not known.
func (p *parser) addr() (Net, int) {
	if p.accept("any") {
		return Net{}, p.version
	}
	a, v := p.hostname()
	switch {
	case p.accept("/"):
		return p.mask(a, v)
	case p.accept("mask"), p.accept("netmask"):
		if p.tok.kind == tokenNumber && p.tok.num <= 32 { // not an address: the grammar wants one here
			save := p.tok
			if m, ok := p.dotted(); ok {
				return p.masked(a, v, m, 4)
			}
			p.tok = save
			p.syntax()
		}
		return p.mask(a, v)
	}
	if v == 0 { // a bare 0
		v = p.version
	}
	return Net{a, lengthMask(a, a.BitLen())}, v
}

// mask reads a length, an address or a hex number as the mask of a.
func (p *parser) mask(a netip.Addr, v int) (Net, int) {
	switch p.tok.kind {
	case tokenHex:
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], p.tok.num)
		p.advance()
		if v == 6 {
			p.fail("address family mismatch")
		}
		p.version = 4
		return p.masked(a, 4, netip.AddrFrom4(raw), 4)
	case tokenIPv6:
		m, _ := parseAddr(p.tok.text)
		p.advance()
		return p.masked(a, v, m, 6)
	}
	n := p.number()
	if p.is(".") {
		return p.masked(a, v, p.octets(n), 4)
	}
	if v == 0 {
		switch n {
		case 0, 32:
			v = 4
		case 128:
			v, a = 6, netip.IPv6Unspecified()
		default:
			p.fail("invalid mask")
		}
		p.version = v
	}
	if int(n) > a.BitLen() {
		p.fail("invalid mask")
	}
	return p.masked(a, v, lengthMask(a, int(n)), v)
}

func (p *parser) masked(a netip.Addr, v int, m netip.Addr, w int) (Net, int) {
	if v == 0 {
		v = w
	}
	if v != w || a.BitLen() != m.BitLen() {
		p.fail("address family mismatch")
	}
	raw, mask := a.AsSlice(), m.AsSlice()
	for i := range raw {
		raw[i] &= mask[i]
	}
	masked, _ := netip.AddrFromSlice(raw)
	return Net{masked, m}, v
}

// hostname reads an address. A lone number is an address too, and 0 is one of
// no version yet.
func (p *parser) hostname() (netip.Addr, int) {
	switch p.tok.kind {
	case tokenIPv6:
		a, _ := parseAddr(p.tok.text)
		p.advance()
		p.version = 6
		return a, 6
	case tokenNumber:
		n := p.number()
		if p.is(".") {
			a := p.octets(n)
			p.version = 4
			return a, 4
		}
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], n)
		if n != 0 {
			p.version = 4
		}
		if p.version == 6 {
			return netip.IPv6Unspecified(), 6
		}
		return netip.AddrFrom4(raw), p.version
	case tokenWord:
		if !p.isKeyword() {
			p.fail("Unknown hostname") // nothing resolves names here
		}
	}
	p.syntax()
	return netip.Addr{}, 0
}

// dotted reads an IPv4 address if there is one.
func (p *parser) dotted() (netip.Addr, bool) {
	n := p.number()
	if !p.is(".") {
		return netip.Addr{}, false
	}
	return p.octets(n), true
}

// octets reads the rest of an IPv4 address whose first number was n.
func (p *parser) octets(n uint32) netip.Addr {
	parts := [4]uint32{n}
	for i := 1; i < 4; i++ {
		p.expect(".")
		parts[i] = p.number()
	}
	var raw [4]byte
	for i, x := range parts {
		if x > 255 {
			p.fail("Invalid octet string for IP address")
		}
		raw[i] = byte(x)
	}
	return netip.AddrFrom4(raw)
}
