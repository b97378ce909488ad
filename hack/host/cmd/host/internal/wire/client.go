//go:build linux

package wire

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Main is a host command: it has the supervisor run argv with this process's
// files, and returns the exit code.
func Main(argv []string) int {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	state, terminal := terminalState()
	reply, err := Call(Socket, Request{Kind: Run, Argv: argv, Dir: dir, Terminal: terminal}, os.Stdin, os.Stdout, os.Stderr)
	if terminal {
		// Whoever had the terminal in raw mode may have been killed.
		_ = unix.IoctlSetTermios(0, unix.TCSETS, state)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "simulated host: %s: %v\n", argv[0], err)
		return 125
	}
	return reply.Exit
}

// terminalState returns how the terminal on standard input is set, if it is
// one.
func terminalState() (*unix.Termios, bool) {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return t, err == nil
}
