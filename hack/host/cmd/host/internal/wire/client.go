//go:build linux

package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Main is a host command: it has the supervisor run argv with this process's
// files, and returns the exit code.
func Main(argv []string) int {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	if argv[0] == "ipmgmtd" && os.Getenv("SMF_FMRI") == "" {
		fmt.Fprintln(os.Stderr, "ipmgmtd is an smf(7) managed service and cannot be run from the command line")
		return 22
	}
	socket := Socket
	if _, err := os.Stat(socket); err != nil {
		socket = ZoneSocket
	}
	state, terminal := terminalState()
	reply, err := Call(socket, Request{Kind: Run, Argv: argv, Dir: dir, Terminal: terminal}, os.Stdin, os.Stdout, os.Stderr)
	if terminal {
		// Whoever had the terminal in raw mode may have been killed.
		_ = unix.IoctlSetTermios(0, unix.TCSETS, state)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "simulated host: %s: %v\n", argv[0], err)
		return 125
	}
	if reply.Exit == 0 && len(reply.Launch) > 0 {
		return launch(argv[0], reply.Launch)
	}
	return reply.Exit
}

// launch starts a program with this process's files and does not wait for its
// end. The codes are a launcher's: the program is not there, or cannot be run.
func launch(name string, argv []string) int {
	path, err := exec.LookPath(argv[0])
	if err == nil {
		_, err = os.StartProcess(path, argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		fmt.Fprintf(os.Stderr, "%s: exec failed: No such file or directory\n", name)
		return 127
	default:
		fmt.Fprintf(os.Stderr, "%s: exec failed: %v\n", name, err)
		return 126
	}
}

// terminalState returns how the terminal on standard input is set, if it is
// one.
func terminalState() (*unix.Termios, bool) {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return t, err == nil
}
