//go:build linux

package spaces

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// First is the life of a process 1: it starts argv, reaps whatever is left to
// it, passes signals on to its program, and returns the program's exit code
// when that has ended. It must not run together with os/exec, whose children
// it would reap.
func First(path string, argv, env []string, files []uintptr) (int, error) {
	sig := make(chan os.Signal, 16)
	signal.Notify(sig, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	path, err := exec.LookPath(path)
	if err != nil {
		return 127, err
	}
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: env, Files: files})
	if err != nil {
		return 126, fmt.Errorf("%s: %w", path, err)
	}
	go func() {
		for s := range sig {
			if n, ok := s.(syscall.Signal); ok && !FromTerminal(s) {
				_ = unix.Kill(pid, n)
			}
		}
	}()
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR { //nolint:errorlint // an errno as it is
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if got == pid {
			return Code(ws), nil
		}
	}
}

// MountProc makes this mount namespace private and gives it the /proc of this
// process's pid namespace.
func MountProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
