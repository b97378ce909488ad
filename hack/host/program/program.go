// Package program is what every command of the simulated host is written
// against: one run of a program with its streams and files, and nothing of the
// machine that the simulation runs on.
package program

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// Invocation is one run of a command.
type Invocation struct {
	Argv []string // Argv[0] is the command's name, without its directory
	Dir  string   // the caller's working directory

	// Stdin, Stdout and Stderr are never nil. They are *os.File where the
	// command was started as a process.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Terminal says whether Stdin is a terminal.
	Terminal bool

	// Files opens files of the host by their absolute path.
	Files Files

	// Launch makes the caller's own process start another program, found in its
	// PATH, that outlives it. It is nil where there is no such process. The exit
	// code is that of the launch, unless the command's own is another than 0.
	Launch func(argv []string)
}

// Files is the host's file system as its commands see it.
type Files interface {
	Open(path string) (io.ReadCloser, error)
	Lstat(path string) (fs.FileInfo, error)
}

// Command runs one invocation and returns its exit code. It returns when ctx
// ends, as a program that was killed.
type Command func(ctx context.Context, inv *Invocation) int

// Args returns the arguments after the command's name.
func (inv *Invocation) Args() []string { return inv.Argv[1:] }

// Outf prints to standard output.
func (inv *Invocation) Outf(format string, args ...any) {
	fmt.Fprintf(inv.Stdout, format, args...) //nolint:errcheck // the reader may be gone, as with any program
}

// Errf prints to standard error.
func (inv *Invocation) Errf(format string, args ...any) {
	fmt.Fprintf(inv.Stderr, format, args...) //nolint:errcheck // as in Outf
}
