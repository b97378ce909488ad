// Package command is the one door from the agent to the programs of the global
// zone. Nothing else in the agent starts a process.
//
// A program is run by its argument vector, never through a shell, so text from
// a pod can be an argument but never syntax. Every failure is an *Error.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Cmd is one run of a program, as plain data, so that tests can compare it.
type Cmd struct {
	Name  string   // the program, found in PATH
	Args  []string // its arguments, never joined into a shell line
	Stdin string   // its whole standard input; empty means none

	// Silent says that a program which succeeds prints nothing on standard
	// error: a run that does is a failure whatever its exit code. ipnat(8) exits
	// with 0 when the kernel has refused every rule.
	Silent bool
}

// ErrComplained is the cause when a silent command said something and exited
// with 0. The words are in the Error's Stderr.
var ErrComplained = errors.New("complaints on standard error")

// New returns the Cmd that runs name with args.
func New(name string, args ...string) Cmd {
	return Cmd{Name: name, Args: args}
}

// String returns the command for logs and errors. Arguments that would be
// ambiguous are quoted in Go syntax; the result is not meant for a shell.
func (c Cmd) String() string {
	var b strings.Builder
	b.WriteString(c.Name)
	for _, a := range c.Args {
		b.WriteByte(' ')
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\") {
			fmt.Fprintf(&b, "%q", a)
		} else {
			b.WriteString(a)
		}
	}
	return b.String()
}

// Runner runs cmd to its end and returns its standard output. Every failure is
// an *Error. Run returns at the latest a few seconds after ctx has ended.
type Runner interface {
	Run(ctx context.Context, cmd Cmd) ([]byte, error)
}

// Streamer runs cmd to its end with open standard streams, for programs that
// carry a conversation or bulk data (zlogin(1), zfs-send(8)). Cmd.Stdin is not
// used. When ctx ends the program is killed. Every failure is an *Error.
type Streamer interface {
	Stream(ctx context.Context, cmd Cmd, stdin io.Reader, stdout io.Writer) error
}

// Host runs programs both ways.
type Host interface {
	Runner
	Streamer
}

// Error says how a program failed. Callers reach it by errors.As.
type Error struct {
	Cmd      Cmd
	ExitCode int    // -1 if the program did not start or died by a signal
	Stdout   string // what it printed; route(8) puts its messages here
	Stderr   string
	Err      error // the cause: the deadline, a start failure, or an exit status
}

// Error returns "name: message: cause", with the program's own last words.
func (e *Error) Error() string {
	words := strings.TrimSpace(e.Stderr)
	if words == "" {
		words = strings.TrimSpace(e.Stdout)
	}
	if words == "" {
		return fmt.Sprintf("%s: %v", e.Cmd, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Cmd, e.Err, strings.ReplaceAll(words, "\n", "; "))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code that err carries, and whether err is an
// *Error of a program that ran to its end.
func ExitCode(err error) (int, bool) {
	var ce *Error
	if !errors.As(err, &ce) || ce.ExitCode < 0 {
		return 0, false
	}
	return ce.ExitCode, true
}
