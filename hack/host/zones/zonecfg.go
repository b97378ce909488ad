package zones

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// session is one run of zonecfg(8).
type session struct {
	m   *Model
	inv *program.Invocation

	zone       string // the name that commands apply to
	revertZone string
	uuid       string // -u, SmartOS

	cfg        *zoneConfig // the handle; nil while nothing is loaded
	deleteName string      // the saved name of a zone that is being renamed
	gotHandle  bool
	fresh      bool // cfg was created here and never saved

	scope  string    // the resource type being edited; empty in the global scope
	endOp  string    // "add" or "select"
	old    *resource // what select chose
	work   *resource // what is being edited
	memory uint64    // OpenIndiana: capped-memory physical being edited

	needCommit  bool
	sawError    bool
	timeToExit  bool
	forceExit   bool
	interactive bool
	fileMode    bool
	fileName    string
	mayPrompt   bool

	stopped bool // exit(2) was called
	status  int

	lex      *lexer
	stdin    *bufio.Reader
	lastLine int // zerr's last_lineno
}

// zonecfg implements zonecfg(8).
func (m *Model) zonecfg(_ context.Context, inv *program.Invocation) int {
	s := &session{m: m, inv: inv, lex: newLexer(m.distro, ""), stdin: bufio.NewReader(inv.Stdin)}
	args := inv.Args()
	if len(args) == 0 {
		s.usage(inv.Stderr, helpUsage|helpCommands)
		return exitUsage
	}
	if args[0] == "help" {
		s.lex = newLexer(m.distro, strings.Join(args, " ")+"\n")
		s.parseAll()
		return exitOK
	}
	rest, code, ok := s.options(args)
	if !ok {
		return code
	}
	s.mayPrompt = inv.Terminal
	switch {
	case len(rest) > 0:
		return s.oneShot(rest)
	case s.fileMode:
		return s.commandFile()
	}
	s.interactive = true
	s.initialize(false)
	return s.readInteractive()
}

// options reads the command line. It returns the words of a command given
// there.
func (s *session) options(args []string) (rest []string, code int, ok bool) {
	spec := "?f:R:z:"
	if s.m.distro == SmartOS {
		spec += "u:"
	}
	o := &options{args: args, spec: spec, inv: s.inv, name: "zonecfg"}
	for {
		switch c := o.next(); c {
		case 0:
			if s.zone == "" {
				s.usage(s.inv.Stderr, helpUsage)
				return nil, exitUsage, false
			}
			return o.rest(), 0, true
		case 'f':
			s.fileName, s.fileMode = o.arg, true
		case 'R':
			s.zerr("simulated host: alternate roots are not simulated: %s", o.arg)
			return nil, exitErr, false
		case 'u':
			s.uuid = o.arg
		case 'z':
			if o.arg == "global" {
				s.zerr("simulated host: the configuration of the global zone is not simulated")
				return nil, exitErr, false
			}
			if !validZoneName(o.arg) {
				s.perror(o.arg, zBogusZoneName, true)
				s.usage(s.inv.Stderr, helpSyntax)
				return nil, exitUsage, false
			}
			s.zone, s.revertZone = o.arg, o.arg
		default:
			if o.bad == '?' {
				s.usage(s.inv.Stdout, helpUsage|helpCommands)
			} else {
				s.usage(s.inv.Stderr, helpUsage)
			}
			return nil, exitUsage, false
		}
	}
}

// validZoneName is zonecfg_validate_zonename.
func validZoneName(name string) bool {
	if name == "global" || name == "" || len(name) >= zoneNameSize || !isAlnum(name[0]) {
		return false
	}
	for i := 1; i < len(name); i++ {
		if c := name[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// oneShot runs commands given as arguments. All of them run, also after one
// has failed.
func (s *session) oneShot(words []string) int {
	s.lex = newLexer(s.m.distro, strings.Join(words, " ")+"\n")
	s.parseAll()
	if s.stopped {
		return s.status
	}
	code, _ := s.cleanup()
	return code
}

// commandFile runs -f FILE. It stops reading at the first error, but what was
// built until then is committed all the same.
func (s *session) commandFile() int {
	if s.fileName == "-" {
		s.interactive = true
		return s.readInteractive()
	}
	s.fileMode = false // no line numbers in what follows
	text, code := s.readFile()
	if code != exitOK {
		return code
	}
	s.fileMode, s.mayPrompt = true, false
	s.lex = newLexer(s.m.distro, text)
	for !s.stopped {
		s.parseOne()
		if s.sawError {
			s.timeToExit = true
		}
		if s.timeToExit || s.lex.atEnd() {
			break
		}
	}
	if s.stopped {
		return s.status
	}
	code, _ = s.cleanup()
	return code
}

func (s *session) readFile() (string, int) {
	name := s.fileName
	if !strings.HasPrefix(name, "/") {
		name = strings.TrimSuffix(s.inv.Dir, "/") + "/" + name
	}
	if s.inv.Files == nil {
		s.zerr("could not open file %s: %s", s.fileName, errnoText(fs.ErrNotExist))
		return "", exitErr
	}
	f, err := s.inv.Files.Open(name)
	if err != nil {
		s.zerr("could not open file %s: %s", s.fileName, errnoText(err))
		return "", exitErr
	}
	defer f.Close()
	info, err := s.inv.Files.Lstat(name)
	if st, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err = st.Stat()
	}
	if err != nil {
		s.zerr("could not stat file %s: %s", s.fileName, errnoText(err))
		return "", exitErr
	}
	if !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink {
		s.zerr("%s is not a regular file.", s.fileName)
		return "", exitErr
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<20))
	if err != nil {
		s.zerr("could not open file %s: %s", s.fileName, errnoText(err))
		return "", exitErr
	}
	return string(text), exitOK
}

// readInteractive reads standard input, with a prompt if it is a terminal.
func (s *session) readInteractive() int {
	for {
		if s.inv.Terminal {
			s.readLines()
		} else {
			text, err := io.ReadAll(s.stdin)
			if err != nil {
				text = nil
			}
			line := s.lex.line
			s.lex = newLexer(s.m.distro, string(text))
			s.lex.line = line
			for !s.stopped && !s.timeToExit && !s.lex.atEnd() {
				s.parseOne()
			}
		}
		if s.stopped {
			return s.status
		}
		code, again := s.cleanup()
		if !again {
			return code
		}
		if s.fileMode {
			return exitErr
		}
	}
}

func (s *session) readLines() {
	for !s.stopped && !s.timeToExit {
		if s.scope == "" {
			s.inv.Outf("zonecfg:%s> ", s.zone)
		} else {
			s.inv.Outf("zonecfg:%s:%s> ", s.zone, s.scope)
		}
		text, err := s.stdin.ReadString('\n')
		if text == "" && err != nil {
			return
		}
		line := s.lex.line
		s.lex = newLexer(s.m.distro, text)
		s.lex.line = line
		s.parseAll()
	}
}

func (s *session) parseAll() {
	for !s.stopped && !s.lex.atEnd() {
		s.parseOne()
	}
}

// parseOne reads one command and runs it.
func (s *session) parseOne() {
	p := &parser{lex: s.lex}
	c, kind := p.parse(s.parseError)
	if kind == parsedCommand {
		s.run(c)
	}
}

// parseError prints what zonecfg prints of a command that it cannot read. At
// the end of the input that is nothing: a last command without a newline is
// dropped in silence.
func (s *session) parseError(kind parsed, c command, at token) {
	if kind == parsedUsage {
		s.shortUsage(c.name)
		if c.name == "select" && c.resource != "" {
			return
		}
		s.inv.Errf("\n")
		flags := helpProps
		if c.name != "set" && c.name != "clear" {
			flags |= helpResources
		}
		s.usage(s.inv.Stderr, flags)
		return
	}
	if at.kind == tokenEnd {
		return
	}
	s.sawError = true
	raw := at.raw
	if raw == "\n" {
		raw = `\n`
	}
	if s.fileMode {
		s.inv.Errf("syntax error on line %d at '%s'\n", s.lex.line, raw)
	} else {
		s.inv.Errf("syntax error at '%s'\n", raw)
	}
	s.usage(s.inv.Stderr, helpCommands)
}
