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

func lengthMask(a netip.Addr, n int) netip.Addr {
	raw := make([]byte, a.BitLen()/8)
	for i := range n {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	m, _ := netip.AddrFromSlice(raw)
	return m
}
