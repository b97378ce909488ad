//go:build linux

// Package spaces runs programs in the namespaces of other processes and keeps
// track of those processes across restarts of this one.
package spaces

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// All are the namespaces that labs and hosts have of their own.
const All = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// ErrGone means that a process is not there any more.
var ErrGone = errors.New("the process is gone")

// Process names a process for good: its id may be given to another one, but
// not with the same start time.
type Process struct {
	PID   int
	Start string // field 22 of /proc/PID/stat
}

// Find returns the process that has pid now.
func Find(pid int) (Process, error) {
	start, err := startTime(pid)
	return Process{PID: pid, Start: start}, err
}

func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 || f[0] == "Z" {
		return "", fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return f[19], nil
}

// Open returns a pidfd of p, or ErrGone.
func (p Process) Open() (*os.File, error) {
	if p.PID <= 0 {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", p.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if start, err := startTime(p.PID); err != nil || start != p.Start {
		_ = f.Close()
		return nil, ErrGone
	}
	return f, nil
}

// Alive reports whether p is still there.
func (p Process) Alive() bool {
	f, err := p.Open()
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// Run runs argv in all namespaces of p with this process's files, directory
// and terminal, and returns its exit code, 128 and the signal for a death by
// signal. env is added to the environment; its PATH, if any, finds argv[0].
// The program is killed when this process is.
//
// The calling process must do nothing else afterwards: one of its threads stays
// in the namespaces.
func Run(p Process, argv, env []string) (int, error) {
	return run(p, argv, env, func() (string, error) { return exec.LookPath(argv[0]) })
}

// RunSelf is Run of this binary, which need not be seen from p's namespaces.
func RunSelf(p Process, argv, env []string) (int, error) {
	return run(p, argv, env, func() (string, error) { return "/proc/self/exe", nil })
}

func run(p Process, argv, env []string, find func() (string, error)) (int, error) {
	runtime.LockOSThread()
	pidfd, err := p.Open()
	if err != nil {
		return 0, err
	}
	defer pidfd.Close() //nolint:errcheck // nothing was written
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	defer exe.Close() //nolint:errcheck // only read
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // see setns(2)
		return 0, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(int(pidfd.Fd()), All); err != nil {
		return 0, fmt.Errorf("enter namespaces: %w", err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		dir = "/"
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	path, err := find()
	if err != nil {
		return 127, err
	}
	cmd, alive, err := child(exe, path, argv)
	if err != nil {
		return 0, err
	}
	defer alive.Close() //nolint:errcheck // its end is the message
	cmd.Dir = dir
	return Wait(cmd)
}

// Wait starts cmd, passes on the signals that this process gets, and returns
// the exit code as a shell would.
func Wait(cmd *exec.Cmd) (int, error) {
	return WaitStarted(cmd, func() error { return nil })
}

// WaitStarted is Wait, with something to do once cmd has started. If that
// fails, cmd is killed.
func WaitStarted(cmd *exec.Cmd, started func() error) (int, error) {
	sig := make(chan os.Signal, 16)
	signal.Notify(sig, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(sig)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	startErr := started()
	if startErr != nil {
		_ = cmd.Process.Kill()
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-sig:
			if !FromTerminal(s) {
				_ = cmd.Process.Signal(s)
			}
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if startErr != nil {
				return 0, startErr
			}
			ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok {
				return 0, errors.New("no wait status")
			}
			return Code(ws), nil
		}
	}
}

// Code returns what a shell makes of a wait status.
func Code(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// FromTerminal reports whether s was sent, in all likelihood, by a key: then
// every process of the terminal's foreground group has got it already.
func FromTerminal(s os.Signal) bool {
	if s != unix.SIGINT && s != unix.SIGQUIT {
		return false
	}
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return err == nil
}
