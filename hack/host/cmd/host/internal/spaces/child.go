//go:build linux

package spaces

import (
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// ChildName is the name under which this binary is executed again to become
// a program in other namespaces.
const ChildName = "(run)"

// File descriptors of the child.
const (
	exeFD   = 3 // this binary
	aliveFD = 4 // ends with the parent
)

// child returns the command that, by way of this binary, exe, becomes argv and dies with this process, and
// the file that must stay open so long. The package os cannot arrange that
// itself: it takes the parent for dead that has no number in the pid namespace.
func child(exe *os.File, path string, argv []string) (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("/proc/self/fd/3") // exeFD, wherever the program lies
	cmd.Args = append([]string{ChildName, path}, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{exe, r}
	return cmd, w, nil
}

// ChildMain becomes the program that args name: its path, then its argv.
func ChildMain(args []string) error {
	runtime.LockOSThread() // the death signal is a thread's
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: aliveFD, Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
		os.Exit(137) // the parent died before it could be noticed
	}
	unix.CloseOnExec(exeFD)
	unix.CloseOnExec(aliveFD)
	err := unix.Exec(args[0], args[1:], os.Environ())
	return &os.PathError{Op: "exec", Path: args[0], Err: err}
}
