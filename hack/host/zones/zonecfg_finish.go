package zones

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// cleanup commits at the end of the input. again says that the user wants to
// go on after all.
func (s *session) cleanup() (exit int, again bool) {
	if !s.interactive && !s.fileMode {
		s.mayPrompt = false
	}
	if s.scope != "" {
		if s.timeToExit {
			s.sawError = true
		} else {
			switch s.ask("Resource incomplete; really quit") {
			case answerNone:
				s.zerr("Resource incomplete.")
				return exitErr, false
			case answerNo:
				return exitErr, true
			default:
			}
		}
	}
	if s.needCommit && s.cfg != nil {
		s.verify(true)
		if s.needCommit {
			if s.forceExit {
				s.zerr("Configuration not saved.")
				return exitErr, false
			}
			switch s.ask("Configuration not saved; really quit") {
			case answerNone:
				s.zerr("Configuration not saved.")
				return exitErr, false
			case answerNo:
				s.timeToExit = false
				return exitErr, true
			default:
			}
		}
	}
	if s.needCommit || s.sawError {
		return exitErr, false
	}
	return exitOK, false
}

type answer int

const (
	answerNone answer = iota // could not ask
	answerNo
	answerYes
)

// ask asks a question whose default answer is no.
func (s *session) ask(question string) answer {
	if !s.mayPrompt {
		s.sawError = true
		return answerNone
	}
	for {
		s.inv.Outf("%s (y/[n])? ", question)
		line, err := s.stdin.ReadString('\n')
		if line == "" && err != nil {
			return answerNone
		}
		switch {
		case strings.HasPrefix(line, "\n"), strings.HasPrefix(line, "n"), strings.HasPrefix(line, "N"):
			return answerNo
		case strings.HasPrefix(line, "y"), strings.HasPrefix(line, "Y"):
			return answerYes
		}
	}
}

// zerr prints an error, after the place in the file if that is a new one.
func (s *session) zerr(format string, args ...any) {
	if s.fileMode && s.lex.line > s.lastLine {
		if s.fileName == "-" {
			s.inv.Errf("On line %d:\n", s.lex.line-1)
		} else {
			s.inv.Errf("On line %d of %s:\n", s.lex.line-1, s.fileName)
		}
		s.lastLine = s.lex.line
	}
	s.inv.Errf(format+"\n", args...)
}

// fail is zerr for what sets the error flag.
func (s *session) fail(format string, args ...any) {
	s.zerr(format, args...)
	s.sawError = true
}

func (s *session) perror(what string, err code, setSaw bool) {
	s.zerr("%s: %s", what, err.Error())
	if setSaw {
		s.sawError = true
	}
}

// exit is exit(2): nothing else happens, not even the commit.
func (s *session) exit(code int) { s.stopped, s.status = true, code }

// errnoText is what strerror(3C) says of an error of the file system.
func errnoText(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "Permission denied"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Sprint(pe.Err)
	}
	return err.Error()
}
