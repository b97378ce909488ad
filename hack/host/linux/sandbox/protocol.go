//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// The names under which this binary is executed again. They are no file names,
// so nobody runs them by accident.
const (
	initName  = "(zone-init)"
	enterName = "(zone-enter)"
)

// controlFD is where a re-executed process finds its end of the control socket.
const controlFD = 3

// aLongTimeAgo as a deadline wakes whoever reads or writes.
var aLongTimeAgo = time.Unix(1, 0) //nolint:gochecknoglobals // never changes

// order is one message to a zone's first process. One field is set.
type order struct {
	Build *build   `json:",omitempty"`
	Exec  []string `json:",omitempty"`
}

// build is what the zone is made of.
type build struct {
	Sandbox zones.Sandbox
	Console string
}

// entry is the message to a process that enters a zone.
type entry struct {
	Argv     []string
	Env      []string
	Dir      string
	Terminal bool
	Groups   []string // cgroup directories to start in, v1: of every hierarchy
	V2       bool     // Groups[0] is a cgroup v2 directory
	Locked   uint64   // zone.max-locked-memory
}

// answer is what a re-executed process says back.
type answer struct {
	Error  string
	Errno  syscall.Errno
	Status int // wait status of the program that entered
}

// failure makes an answer of err, keeping its errno.
func failure(err error) answer {
	a := answer{Error: err.Error()}
	errors.As(err, &a.Errno)
	return a
}

func (a answer) err() error {
	switch {
	case a.Error == "":
		return nil
	case a.Errno != 0:
		return &remoteError{text: a.Error, errno: a.Errno}
	}
	return errors.New(a.Error)
}

// remoteError is an error of another process. errors.Is finds its errno.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.errno }

// Main runs this process as part of a zone if it was executed for that, and
// then does not return. Otherwise it returns at once.
func Main() {
	if len(os.Args) == 0 {
		return
	}
	var run func() error
	switch os.Args[0] {
	case initName:
		run = initMain
	case enterName:
		run = enterMain
	default:
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(125)
	}
	os.Exit(0)
}
