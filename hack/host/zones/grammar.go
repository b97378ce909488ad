package zones

// command is one parsed zonecfg command.
type command struct {
	name     string
	args     []string // plain words: options and their values
	resource string   // the resource type it is about
	property string   // set, clear, and add or remove in a resource
	value    value    // of property
	pairs    []pairValue
	noValue  bool // set PROP=[]
}

// pairValue is one PROPERTY=VALUE of a qualified command.
type pairValue struct {
	property string
	value    value
}

// valueKind is the shape of a property value.
type valueKind int

const (
	simpleValue valueKind = iota
	complexValue
	listValue
)

// value is a simple word, a (p=v,p=v) or a list of such.
type value struct {
	kind   valueKind
	simple string
	pieces []pair // complex: Name is a property
	list   []value
}

// parsed says how reading one command ended.
type parsed int

const (
	parsedCommand parsed = iota // a command to run
	parsedNothing               // an empty line, or the end of the input
	parsedSyntax                // a token that the grammar does not allow here
	parsedUsage                 // a command without what it needs
)

// parser reads commands with one token of look-ahead, as the LALR parser made
// from zonecfg_grammar.y.
type parser struct {
	lex    *lexer
	peeked bool
	ahead  token
}

func (p *parser) peek() token {
	if !p.peeked {
		p.ahead, p.peeked = p.lex.next(), true
	}
	return p.ahead
}

func (p *parser) next() token {
	t := p.peek()
	p.peeked = false
	return t
}

// maxWords is how many plain words a command takes.
var maxWords = map[string]int{"create": 3, "export": 2, "cancel": 1, "commit": 1, "delete": 1,
	"end": 1, "exit": 1, "help": 1, "revert": 1, "verify": 1}

// parse reads up to and with the next terminator. For parsedSyntax it returns
// the token at fault, for parsedUsage the command's name. onError is called
// between the finding of an error and the reading of the rest of its line:
// that is when zonecfg prints it, with the line number of that moment.
func (p *parser) parse(onError func(kind parsed, c command, at token)) (command, parsed) {
	p.peeked = false
	first := p.next()
	switch first.kind {
	case tokenEnd, tokenTerminator:
		return command{}, parsedNothing
	case tokenCommand: // goes on below
	default:
		onError(parsedSyntax, command{}, first)
		p.skip()
		return command{}, parsedSyntax
	}
	c := command{name: first.text}
	kind := p.arguments(&c)
	if kind == parsedCommand {
		if t := p.peek(); t.kind == tokenTerminator {
			p.next()
			return c, parsedCommand
		}
		kind = parsedSyntax
	}
	onError(kind, c, p.peek())
	p.skip()
	return c, kind
}

// skip drops everything to the end of the command, as yacc's error recovery.
func (p *parser) skip() {
	for {
		if t := p.next(); t.kind == tokenTerminator || t.kind == tokenEnd {
			return
		}
	}
}

func (p *parser) arguments(c *command) parsed {
	switch c.name {
	case "add":
		return p.add(c)
	case "remove":
		return p.remove(c)
	case "select":
		return p.sel(c)
	case "set":
		return p.set(c)
	case "clear":
		t := p.peek()
		if t.kind != tokenKeyword || !isProperty(p.lex.distro, t.text) {
			return parsedUsage
		}
		c.property = p.next().text
		return parsedCommand
	case "info":
		return p.info(c)
	}
	for len(c.args) < maxWords[c.name] && p.peek().kind == tokenText {
		c.args = append(c.args, p.next().text)
	}
	return parsedCommand
}

func (p *parser) add(c *command) parsed {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		c.args = []string{p.next().text}
	case t.kind == tokenKeyword && isResource(t.text):
		c.resource = p.next().text
	case t.kind == tokenKeyword:
		c.property = p.next().text
		return p.value(&c.value)
	default:
		return parsedUsage
	}
	return parsedCommand
}

func (p *parser) remove(c *command) parsed {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		c.args = []string{p.next().text}
		t = p.peek()
		if t.kind != tokenKeyword || !isResource(t.text) {
			return parsedUsage
		}
		c.resource = p.next().text
		if p.lex.distro.gate() {
			return parsedCommand // pairs after -F are a syntax error there
		}
		return p.pairs(c)
	case t.kind == tokenKeyword && isResource(t.text):
		c.resource = p.next().text
		return p.pairs(c)
	case t.kind == tokenKeyword:
		c.property = p.next().text
		return p.value(&c.value)
	}
	return parsedUsage
}

func (p *parser) sel(c *command) parsed {
	t := p.peek()
	if t.kind != tokenKeyword || !isResource(t.text) {
		return parsedUsage
	}
	c.resource = p.next().text
	kind := p.pairs(c)
	if kind == parsedCommand && len(c.pairs) == 0 {
		switch c.resource {
		case "dedicated-cpu", "capped-cpu", "capped-memory":
		default:
			return parsedUsage
		}
	}
	return kind
}

func (p *parser) set(c *command) parsed {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		c.args = []string{p.next().text}
		if t := p.peek(); t.kind != tokenKeyword || t.text != "zonepath" {
			return parsedSyntax
		}
	case t.kind == tokenKeyword && isProperty(p.lex.distro, t.text):
	default:
		return parsedUsage
	}
	c.property = p.next().text
	if !p.peek().is("=") {
		return parsedSyntax
	}
	p.next()
	if p.peek().is("[") && len(c.args) == 0 {
		p.next()
		if p.peek().is("]") {
			p.next()
			c.value.kind, c.noValue = listValue, true
			return parsedCommand
		}
		return p.list(&c.value)
	}
	return p.value(&c.value)
}

func (p *parser) info(c *command) parsed {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		return parsedUsage
	case t.kind == tokenKeyword && isResource(t.text):
		c.resource = p.next().text
		return p.pairs(c)
	case t.kind == tokenKeyword && isGlobalProperty(p.lex.distro, t.text):
		c.property = p.next().text
	}
	return parsedCommand
}

// pairs reads up to three PROPERTY=VALUE.
func (p *parser) pairs(c *command) parsed {
	for len(c.pairs) < 3 {
		t := p.peek()
		if t.kind != tokenKeyword || !isProperty(p.lex.distro, t.text) {
			return parsedCommand
		}
		pv := pairValue{property: p.next().text}
		if !p.peek().is("=") {
			return parsedSyntax
		}
		p.next()
		if kind := p.value(&pv.value); kind != parsedCommand {
			return kind
		}
		c.pairs = append(c.pairs, pv)
	}
	return parsedCommand
}

func (p *parser) value(v *value) parsed {
	t := p.peek()
	switch {
	case t.kind == tokenText || t.kind == tokenKeyword:
		v.kind, v.simple = simpleValue, p.next().text
		return parsedCommand
	case t.is("("):
		p.next()
		return p.complex(v)
	case t.is("["):
		p.next()
		return p.list(v)
	}
	return parsedSyntax
}

// complex reads what follows an opening parenthesis.
func (p *parser) complex(v *value) parsed {
	v.kind = complexValue
	for {
		t := p.peek()
		if t.kind != tokenKeyword || !isProperty(p.lex.distro, t.text) {
			return parsedSyntax
		}
		name := p.next().text
		if !p.peek().is("=") {
			return parsedSyntax
		}
		p.next()
		if t := p.peek(); t.kind != tokenText && t.kind != tokenKeyword {
			return parsedSyntax
		}
		v.pieces = append(v.pieces, pair{Name: name, Value: p.next().text})
		switch t := p.peek(); {
		case t.is(","):
			p.next()
		case t.is(")"):
			p.next()
			return parsedCommand
		default:
			return parsedSyntax
		}
	}
}

// list reads what follows an opening bracket.
func (p *parser) list(v *value) parsed {
	v.kind = listValue
	for {
		var e value
		if p.peek().is("[") {
			return parsedSyntax
		}
		if kind := p.value(&e); kind != parsedCommand {
			return kind
		}
		v.list = append(v.list, e)
		switch t := p.peek(); {
		case t.is(","):
			p.next()
		case t.is("]"):
			p.next()
			return parsedCommand
		default:
			return parsedSyntax
		}
	}
}
