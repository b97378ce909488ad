//go:build linux

// Package nstest gives tests a network namespace of their own.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process whose namespace is its own.
const insideEnv = "NSTEST_INSIDE"

// Main is for TestMain: it runs the tests in a network namespace that ends with
// them, also when they are killed. There, prepare comes first; it may be nil.
// Without root it returns false, and the caller says what that means for its
// tests.
func Main(m *testing.M, prepare func() error) (done bool) {
	if os.Getenv(insideEnv) != "" {
		if prepare != nil {
			if err := prepare(); err != nil {
				fmt.Println("cannot prepare the network namespace:", err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		return false
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:noctx // it ends with this one
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal follows the thread
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		fmt.Println("cannot make a network namespace:", err)
		os.Exit(1)
	}
	return true
}

// New makes another network namespace, which is what a zone has here. It returns
// a file that stands for it until end is called, at the latest by the end of the
// test.
func New(t testing.TB) (file string, end func()) {
	t.Helper()
	holder := exec.Command("sleep", "600") //nolint:noctx // ended by end
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		holder.Process.Kill() //nolint:errcheck // Wait tells
		holder.Wait()         //nolint:errcheck // killed
	})
	t.Cleanup(end)
	return fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid), end
}

// In runs f on a thread in the network namespace that a file such as
// /proc/PID/ns/net stands for. Sockets that f opens stay in it.
func In(file string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		ns, err := os.Open(file)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close() //nolint:errcheck // only named by it
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", file, err)
			return
		}
		done <- f()
	}()
	return <-done
}
