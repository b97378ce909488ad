package zones

import "strings"

// tokenKind classifies the tokens of a zonecfg command.
type tokenKind int

const (
	tokenEnd        tokenKind = iota // end of input
	tokenCommand                     // a command's name
	tokenKeyword                     // the name of a resource or property
	tokenText                        // any other word, and every quoted one
	tokenPunct                       // = [ ] ( ) , and characters that belong nowhere
	tokenTerminator                  // newline or semicolon
)

// token is one token. raw is the text in the input, as messages show it.
type token struct {
	kind tokenKind
	text string
	raw  string
}

// is reports whether t is the punctuation s.
func (t token) is(s string) bool { return t.kind == tokenPunct && t.text == s }

// lexState is a start condition of zonecfg_lex.l.
type lexState int

const (
	lexInitial lexState = iota // at the start of a command
	lexSimple                  // TSTATE: simple values
	lexList                    // LSTATE: between [ and ]
	lexComplex                 // CSTATE: between ( and )
)

// lexer splits zonecfg's input into tokens as zonecfg_lex.l does.
type lexer struct {
	distro Distro
	input  string
	pos    int
	line   int // lex_lineno: 1 and one more for each newline token
	state  lexState
	back   lexState // where ) returns to
}

func newLexer(d Distro, input string) *lexer { return &lexer{distro: d, input: input, line: 1} }

// atEnd reports whether all input was read, as feof does after a parse.
func (l *lexer) atEnd() bool { return l.pos >= len(l.input) }

// next returns the next token.
func (l *lexer) next() token {
	for {
		if l.atEnd() {
			return token{kind: tokenEnd}
		}
		c := l.input[l.pos]
		switch {
		case c == ' ' || c == '\t':
			l.pos++
		case c == '\n':
			l.line++
			l.state = lexInitial
			return l.take(tokenTerminator, 1)
		case c == ';':
			l.state = lexInitial
			return l.take(tokenTerminator, 1)
		case l.state == lexInitial:
			if t, ok := l.initial(); ok {
				return t
			}
		default:
			return l.value(c)
		}
	}
}

func (l *lexer) take(kind tokenKind, n int) token {
	s := l.input[l.pos : l.pos+n]
	l.pos += n
	return token{kind: kind, text: s, raw: s}
}

// initial reads a command's name. Lex takes the longest name that the input
// starts with, so "created" is the command create and the word "d".
func (l *lexer) initial() (token, bool) {
	rest := l.input[l.pos:]
	if rest[0] == '#' {
		n := strings.IndexByte(rest, '\n')
		if n < 0 {
			n = len(rest)
		}
		l.pos += n
		return token{}, false
	}
	best := ""
	for _, name := range commandWords {
		if strings.HasPrefix(rest, name) && len(name) > len(best) {
			best = name
		}
	}
	if best == "" {
		return l.take(tokenPunct, 1), true
	}
	l.state, l.back = lexSimple, lexSimple
	t := l.take(tokenCommand, len(best))
	if best == "?" {
		t.text = "help"
	}
	return t, true
}

// value reads a token after a command's name.
func (l *lexer) value(c byte) token {
	if c == '"' && (l.state != lexComplex || !l.distro.gate()) {
		return l.quoted()
	}
	if n := l.wordLen(); n > 0 {
		t := l.take(tokenText, n)
		if l.keyword(t.text) {
			t.kind = tokenKeyword
		}
		return t
	}
	switch {
	case c == '[' && l.state == lexSimple:
		l.state, l.back = lexList, lexList
	case c == ']' && l.state == lexList:
		l.state, l.back = lexSimple, lexSimple
	case c == '(' && l.state != lexComplex:
		l.state = lexComplex
	case c == ')' && l.state == lexComplex:
		l.state = l.back
	}
	return l.take(tokenPunct, 1)
}

// quoted reads a quoted token. There is no escape in it; a newline ends it
// like a quote does, and then belongs to the value.
func (l *lexer) quoted() token {
	body := l.input[l.pos+1:]
	n := strings.IndexAny(body, "\"\n")
	if n < 0 {
		return l.take(tokenPunct, 1)
	}
	t := l.take(tokenText, n+2)
	t.text = body[:n]
	if body[n] == '\n' {
		t.text += "\n"
	}
	return t
}

// wordLen is the length of the unquoted word at the position.
func (l *lexer) wordLen() int {
	stop := " \t\n\";=[]()"
	switch l.state {
	case lexList:
		stop += ","
	case lexComplex:
		stop = " \t\n\",;=()"
	default:
	}
	n := strings.IndexAny(l.input[l.pos:], stop)
	if n < 0 {
		n = len(l.input) - l.pos
	}
	return n
}

// keyword reports whether a word is a keyword in the current state.
func (l *lexer) keyword(word string) bool {
	switch l.state {
	case lexSimple:
		return isResource(word) || isProperty(l.distro, word)
	case lexComplex:
		return isProperty(l.distro, word)
	default:
		return false
	}
}
