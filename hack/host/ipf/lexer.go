package ipf

import (
	"strconv"
	"strings"
)

// token is one token of ipnat's or ipf's lexer.
type token struct {
	kind   tokenKind
	text   string
	num    uint32
	quoted bool // never a keyword
	line   int  // where the lexer stood when it had read the token
}

type tokenKind int

const (
	tokenEOF tokenKind = iota
	tokenWord
	tokenNumber
	tokenHex
	tokenIPv6
	tokenPunct // one character, or an operator of two
	tokenComment
)

// lexer cuts rules into tokens. A line end is only a blank to it: a rule ends
// where no more of it follows.
type lexer struct {
	in        string
	pos, line int
	variables map[string]string
}

func newLexer(text string) *lexer {
	return &lexer{in: text, line: 1, variables: map[string]string{}}
}

// separators end a word.
const separators = " \t\r\n#=,/;{}()@!<>:\"'$"

func (l *lexer) next() token {
	l.skipBlanks()
	if l.pos >= len(l.in) {
		l.line = 1 // the lexer of ipnat starts counting again
		return token{kind: tokenEOF, line: 1}
	}
	t := l.scan()
	t.line = l.line
	return t
}

func (l *lexer) skipBlanks() {
	for l.pos < len(l.in) {
		switch l.in[l.pos] {
		case '\n':
			l.line++
		case ' ', '\t', '\r':
		default:
			return
		}
		l.pos++
	}
}

func (l *lexer) scan() token {
	rest := l.in[l.pos:]
	switch c := rest[0]; {
	case c == '#':
		n := strings.IndexByte(rest, '\n')
		if n < 0 {
			n = len(rest)
		}
		l.pos += n
		return token{kind: tokenComment, text: rest[:n]}
	case c == '$':
		return l.variable(rest)
	case c == '"' || c == '\'':
		return l.quoted(rest)
	case strings.HasPrefix(rest, "->"):
		return l.take(tokenWord, 2)
	case hasAny(rest, "!=", "<=", "<>", ">=", "><"):
		return l.take(tokenPunct, 2)
	case strings.IndexByte("=,/;{}()@.-!<>", c) >= 0:
		return l.take(tokenPunct, 1)
	}
	if n := ipv6Length(rest); n > 0 {
		return l.take(tokenIPv6, n)
	}
	if rest[0] == ':' {
		return l.take(tokenPunct, 1)
	}
	if strings.HasPrefix(rest, "0x") {
		n := 2 + span(rest[2:], isHex)
		t := l.take(tokenHex, n)
		v, _ := strconv.ParseUint(t.text[2:], 16, 64) // too large a number wraps, as with sscanf
		t.num = uint32(v)
		return t
	}
	if n := span(rest, isDigit); n > 0 {
		t := l.take(tokenNumber, n)
		v, err := strconv.ParseUint(t.text, 10, 64)
		if err != nil {
			v = 1<<32 - 1
		}
		t.num = uint32(min(v, 1<<32-1))
		return t
	}
	n := strings.IndexAny(rest, separators)
	if n < 0 {
		n = len(rest)
	}
	return l.take(tokenWord, max(n, 1))
}

func (l *lexer) take(k tokenKind, n int) token {
	t := token{kind: k, text: l.in[l.pos : l.pos+n]}
	l.pos += n
	return t
}

// variable replaces $name or ${name} by its value and goes on there.
func (l *lexer) variable(rest string) token {
	name, n := "", 0
	if strings.HasPrefix(rest, "${") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			l.pos = len(l.in)
			return token{kind: tokenPunct, text: rest}
		}
		name, n = rest[2:end], end+1
	} else {
		n = 1 + span(rest[1:], func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' })
		name = rest[1:n]
	}
	value, ok := l.variables[name]
	if !ok || strings.Contains(value, "$") {
		return l.take(tokenPunct, max(n, 1))
	}
	l.in, l.pos = value+l.in[l.pos+n:], 0
	l.skipBlanks()
	if l.pos >= len(l.in) {
		return token{kind: tokenEOF}
	}
	return l.scan()
}

func (l *lexer) quoted(rest string) token {
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 {
		l.pos = len(l.in)
		return token{kind: tokenPunct, text: rest}
	}
	l.line += strings.Count(rest[:end+2], "\n")
	l.pos += end + 2
	return token{kind: tokenWord, text: rest[1 : end+1], quoted: true}
}

func hasAny(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func span(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool   { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// ipv6Length is how much of s is an IPv6 address; 0 is nothing.
func ipv6Length(s string) int {
	n := span(s, func(c byte) bool { return isHex(c) || c == ':' || c == '.' })
	if n > 45 {
		n = 45
	}
	if a, err := parseAddr(s[:n]); err == nil && a.Is6() {
		return n
	}
	return 0
}
