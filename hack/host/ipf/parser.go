package ipf

import (
	"errors"
	"fmt"
	"net/netip"
)

// SyntaxError is what stops ipnat: it exits with 1 at the first one.
type SyntaxError struct {
	Message string
	Token   string
	Line    int
}

// Error returns what yyerror() prints.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s error at \"%s\", line %d", e.Message, e.Token, e.Line)
}

// ParseRules reads NAT rules and calls add for each as soon as it is complete,
// with the line where the lexer is then. The error is a *SyntaxError or one
// of add; rules before it have been added. Warnings are what goes to standard
// error beside.
func ParseRules(text string, add func(r Rule, line int) error) (warnings []string, err error) {
	if text == "" {
		return nil, nil
	}
	p := &parser{lex: newLexer(text)}
	defer func() {
		warnings = p.warnings
		if e := recover(); e != nil {
			stop, ok := e.(*SyntaxError)
			if !ok {
				panic(e)
			}
			err = stop
		}
	}()
	p.advance()
	for first := true; first || p.tok.kind != tokenEOF; first = false {
		switch {
		case p.tok.kind == tokenComment:
			p.advance()
		case p.tok.kind == tokenWord && !p.isKeyword():
			p.assignment()
		default:
			r := p.rule()
			line := p.tok.line
			if p.accept(";") {
				line = p.prevLine
			}
			if err := add(r, line); err != nil {
				return p.warnings, err
			}
		}
	}
	return p.warnings, nil
}

// ParseRule reads exactly one rule.
func ParseRule(text string) (Rule, error) {
	var rules []Rule
	if _, err := ParseRules(text, func(r Rule, _ int) error { rules = append(rules, r); return nil }); err != nil {
		return Rule{}, err
	}
	if len(rules) != 1 {
		return Rule{}, fmt.Errorf("rule %q: %w", text, errNotOne)
	}
	return rules[0], nil
}

var errNotOne = errors.New("not exactly one rule")

// parser is a recursive-descent parser of ipnat_y.y with one token of
// look-ahead. It gives up by a panic with a *SyntaxError, which ParseRules
// recovers.
type parser struct {
	lex      *lexer
	tok      token
	prevLine int
	warnings []string
	version  int // 4 or 6 once the rule has an address, as in_v
}

func (p *parser) advance() {
	p.prevLine = p.tok.line
	p.tok = p.lex.next()
}

func (p *parser) fail(message string) {
	panic(&SyntaxError{message, p.tok.text, p.tok.line})
}

func (p *parser) syntax() { p.fail("syntax error") }

// keywords are the words that the lexer does not take for names.
var keywords = map[string]bool{
	"age": true, "any": true, "auto": true, "bimap": true, "frag": true, "from": true, "icmpidmap": true, "mask": true, "map": true,
	"map-block": true, "mssclamp": true, "netmask": true, "port": true, "portmap": true, "ports": true, "proxy": true, "range": true,
	"rdr": true, "round-robin": true, "sequential": true, "sticky": true, "tag": true, "tcp": true, "tcpudp": true, "to": true, "udp": true,
	"->": true, "eq": true, "ne": true, "lt": true, "gt": true, "le": true, "ge": true,
}

func (p *parser) isKeyword() bool {
	return p.tok.kind == tokenWord && !p.tok.quoted && keywords[p.tok.text]
}

// is says whether the next token is this keyword or character.
func (p *parser) is(text string) bool {
	return p.tok.text == text && (p.tok.kind == tokenPunct || p.isKeyword())
}

func (p *parser) accept(text string) bool {
	if !p.is(text) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.syntax()
	}
}

// word takes a name.
func (p *parser) word() string {
	if p.tok.kind != tokenWord || p.isKeyword() {
		p.syntax()
	}
	text := p.tok.text
	p.advance()
	return text
}

func (p *parser) number() uint32 {
	if p.tok.kind != tokenNumber {
		p.syntax()
	}
	n := p.tok.num
	p.advance()
	return n
}

// assignment reads name = value ;
func (p *parser) assignment() {
	name := p.word()
	if !p.is("=") {
		p.syntax()
	}
	p.advance()
	if p.tok.kind != tokenWord {
		p.syntax()
	}
	value := p.tok.text
	p.advance()
	if !p.is(";") {
		p.syntax()
	}
	p.lex.variables[name] = value // before the token after ; is read
	p.advance()
}

func (p *parser) rule() Rule {
	p.version = 0
	var r Rule
	switch {
	case p.accept("map"):
		r.Kind = Map
		p.mapRule(&r)
	case p.accept("bimap"):
		r.Kind = Bimap
		p.mapRule(&r)
	case p.accept("map-block"):
		r.Kind = MapBlock
		p.mapBlock(&r)
	case p.accept("rdr"):
		r.Kind = Redirect
		p.redirect(&r)
	default:
		p.syntax()
	}
	r.IPv6 = p.version == 6
	return r
}

func (p *parser) interfaces(r *Rule) {
	r.Interface = p.interfaceName()
	r.Other = r.Interface
	if p.accept(",") {
		r.Other = p.interfaceName()
	}
}

const maxInterface = 31 // LIFNAMSIZ without the final NUL

func (p *parser) interfaceName() string {
	name := p.word()
	return name[:min(len(name), maxInterface)]
}

func (p *parser) mapRule(r *Rule) {
	p.interfaces(r)
	v := 0
	if p.accept("from") {
		r.Filter = true
		v = p.mapFrom(r)
	} else {
		r.Src, v = p.addr()
	}
	p.expect("->")
	to := p.mapTarget(r)
	if v != 0 && to != 0 && v != to {
		p.fail("address family mismatch")
	}
	switch {
	case p.is("portmap"):
		p.advance()
		p.portmap(r)
	case p.is("icmpidmap"):
		p.advance()
		p.icmpIDMap(r)
	case p.is("proxy"):
		p.advance()
		p.proxy(r)
	}
	p.mapOptions(r)
	if !r.TCP && !r.UDP && !r.ICMPQuery {
		p.setProto(r, r.Proto)
	}
}

// mapFrom reads SRC [port] [!] to DST [port].
func (p *parser) mapFrom(r *Rule) int {
	var v, w int
	r.Src, r.SrcPort, v = p.object()
	r.NotDst = p.accept("!")
	p.expect("to")
	r.Dst, r.DstPort, w = p.object()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	return v
}

// mapTarget reads what a map rule maps to.
func (p *parser) mapTarget(r *Rule) int {
	if !p.accept("range") {
		var v int
		r.To, v = p.addr()
		if v == 0 {
			v = p.version
		}
		return v
	}
	r.Range = true
	low, v := p.hostname()
	p.expect("-")
	high, w := p.hostname()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	r.RangeLow, r.RangeHigh = low, high
	return v
}

func (p *parser) portmap(r *Rule) {
	switch {
	case p.accept("tcp"):
		if p.accept("/") {
			p.expect("udp")
			r.TCP, r.UDP = true, true
		} else {
			p.setProto(r, protoTCP)
		}
	case p.accept("udp"):
		p.setProto(r, protoUDP)
	case p.accept("tcpudp"):
		r.TCP, r.UDP = true, true
	}
	if p.accept("auto") {
		r.Auto, r.PortLow, r.PortHigh = true, 1024, 65535
	} else {
		r.PortLow = p.port()
		p.expect(":")
		r.PortHigh = p.port()
	}
	r.Sequential = p.accept("sequential")
}

// icmpIDMap also forgets that the rule had a from/to form, as ipnat does.
func (p *parser) icmpIDMap(r *Rule) {
	if p.word() != "icmp" {
		p.fail("icmpidmap not followed by icmp")
	}
	low := p.number()
	p.expect(":")
	high := p.number()
	if low > 65535 || high > 65535 {
		p.fail("invalid ICMP Id number")
	}
	r.ICMPQuery, r.PortLow, r.PortHigh = true, uint16(low), uint16(high)
	r.Filter, r.NotDst, r.Range = false, false, false
}

// proxy reads the rest of: proxy port PORT LABEL / PROTO
func (p *parser) proxy(r *Rule) {
	p.expect("port")
	port := p.port()
	r.Proxy = p.word()
	p.expect("/")
	proto := p.proto()
	if r.DstPort.Op == "" {
		r.DstPort.Low = port
	} else if port != r.DstPort.Low {
		p.fail("proxy port numbers not consistant")
	}
	p.setProto(r, proto)
}

func (p *parser) mapBlock(r *Rule) {
	p.interfaces(r)
	var v, w int
	r.Src, v = p.addr()
	p.expect("->")
	r.To, w = p.addr()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	if p.accept("ports") {
		if r.Auto = p.accept("auto"); !r.Auto {
			r.PortLow = uint16(p.number())
		}
	}
	p.mapOptions(r)
	if !r.TCP && !r.UDP {
		p.setProto(r, r.Proto)
	}
}

// mapOptions reads round-robin, frag, age, mssclamp, tag and the protocol.
func (p *parser) mapOptions(r *Rule) {
	p.commonOptions(r)
	p.mssAndTag(r)
	p.protocol(r)
}

func (p *parser) commonOptions(r *Rule) {
	r.RoundRobin = p.accept("round-robin")
	r.Frag = p.accept("frag")
	if p.accept("age") {
		r.AgeForward = p.number()
		r.AgeBackward = r.AgeForward
		if p.accept("/") {
			r.AgeBackward = p.number()
		}
	}
}

func (p *parser) mssAndTag(r *Rule) {
	if p.accept("mssclamp") {
		r.MSSClamp = p.number()
	}
	p.tag(r)
}

const maxTag = 16 // IPFTAG_LEN

func (p *parser) tag(r *Rule) {
	if p.accept("tag") {
		t := p.word()
		r.Tag = t[:min(len(t), maxTag)]
	}
}

// IP protocol numbers.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// protocol reads an optional protocol.
func (p *parser) protocol(r *Rule) {
	named := p.tok.kind == tokenWord && !p.isKeyword() && !p.startsAssignment() || p.tok.kind == tokenNumber
	if !named && !p.is("tcp") && !p.is("udp") && !p.is("tcpudp") {
		return
	}
	if r.Proto != 0 || r.TCP || r.UDP {
		p.fail("protocol set twice")
	}
	if p.accept("tcpudp") {
		r.TCP, r.UDP = true, true
		return
	}
	if p.accept("tcp") {
		if p.accept("/") {
			p.expect("udp")
			r.TCP, r.UDP = true, true
			return
		}
		p.setProto(r, protoTCP)
		return
	}
	p.setProto(r, p.proto())
}

// startsAssignment says whether the word before us is a variable's name. The
// grammar of ipnat needs the next token to know, and takes a word here always
// for a protocol.
func (p *parser) startsAssignment() bool { return false }

func (p *parser) proto() int {
	switch {
	case p.tok.kind == tokenNumber:
		return int(p.number())
	case p.accept("tcp"):
		return protoTCP
	case p.accept("udp"):
		return protoUDP
	}
	return protoNumber(p.word())
}

// setProto is setnatproto(): ports make sense for TCP and UDP only.
func (p *parser) setProto(r *Rule, proto int) {
	r.Proto = proto & 0xff // a byte in the kernel; unknown names become 255
	switch proto {
	case protoTCP:
		r.TCP, r.UDP = true, false
	case protoUDP:
		r.TCP, r.UDP = false, true
	case protoICMP:
		r.TCP, r.UDP = false, false
		if !r.ICMPQuery {
			r.SrcPort.Op, r.DstPort.Op = "", ""
			r.PortLow, r.PortHigh, r.TargetPort = 0, 0, 0
		}
	default:
		if r.Kind == MapBlock {
			break
		}
		if r.DstPort.Low == 0 {
			r.DstPort.Op = ""
		}
		if r.SrcPort.Low == 0 {
			r.SrcPort.Op = ""
		}
		r.TCP, r.UDP = false, false
		r.PortLow, r.PortHigh, r.TargetPort = 0, 0, 0
	}
	if !r.TCP && !r.UDP {
		r.Fixed = false
	}
}

func (p *parser) redirect(r *Rule) {
	p.interfaces(r)
	v, ports := 0, false
	switch {
	case p.is("!"), p.is("from"):
		v = p.redirectFrom(r)
	default:
		r.Dst, v = p.addr()
		ports = p.originalPorts(r)
	}
	p.expect("->")
	target := p.redirectTarget(r)
	if v != 0 && target != 0 && v != target {
		p.fail("address family mismatch")
	}
	if r.Filter || ports || p.is("port") {
		p.expect("port")
		r.Fixed = p.accept("=")
		r.TargetPort = p.port()
	}
	p.protocol(r)
	p.commonOptions(r)
	if p.accept("sticky") {
		if r.RoundRobin || r.Split {
			r.Sticky = true
		} else {
			p.warnings = append(p.warnings, "'sticky' for use with round-robin/IP splitting only")
		}
	}
	if p.accept("mssclamp") {
		r.MSSClamp = p.number()
	}
	if p.accept("proxy") {
		p.redirectProxy(r)
	}
	p.tag(r)
	if r.Proto == 0 && !r.TCP && !r.UDP && (r.PortLow != 0 || r.PortHigh != 0 || r.TargetPort != 0) {
		p.setProto(r, protoTCP)
	}
}

func (p *parser) redirectFrom(r *Rule) int {
	r.NotSrc = p.accept("!")
	p.expect("from")
	r.Filter = true
	var v, w int
	r.Src, r.SrcPort, v = p.object()
	p.expect("to")
	r.Dst, r.DstPort, w = p.object()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	r.PortLow = r.DstPort.Low
	return v
}

// originalPorts reads port P, port P-Q or port P:Q.
func (p *parser) originalPorts(r *Rule) bool {
	if !p.accept("port") {
		return false
	}
	r.PortLow = p.port()
	r.PortHigh = r.PortLow
	if p.accept("-") || p.accept(":") {
		r.PortHigh = p.port()
	}
	return true
}

func (p *parser) redirectTarget(r *Rule) int {
	a, v := p.hostname()
	if v == 0 {
		v = p.version
	}
	switch {
	case p.accept("/"):
		n := p.number()
		if v == 0 && (n == 0 || n == 32) {
			v = 4
		}
		if !a.IsUnspecified() || n != 0 && int(n) != a.BitLen() {
			p.fail("Invalid mask for dip")
		}
		p.version = v
		r.Target = Net{a, lengthMask(a, int(n))}
	case p.accept(","):
		b, w := p.hostname()
		if v != w {
			p.fail("address family mismatch")
		}
		r.Target, r.Target2, r.Split = Net{a, lengthMask(a, a.BitLen())}, b, true
	default:
		r.Target = Net{a, lengthMask(a, a.BitLen())}
	}
	return v
}

// redirectProxy reads the label, or the longer form of map rules.
func (p *parser) redirectProxy(r *Rule) {
	if p.is("port") {
		p.proxy(r)
		r.PortLow, r.PortHigh, r.TargetPort = r.DstPort.Low, r.DstPort.Low, r.DstPort.Low
		return
	}
	r.Proxy = p.word()
	r.DstPort.Low = r.TargetPort
}

func lengthMask(a netip.Addr, n int) netip.Addr {
	raw := make([]byte, a.BitLen()/8)
	for i := range n {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	m, _ := netip.AddrFromSlice(raw)
	return m
}
