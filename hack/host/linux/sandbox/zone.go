//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// namespaces are what a zone has of its own from its first process on. The
// cgroup namespace follows when that process is in its groups.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// zone is one sandbox: its first process and what keeps it together.
type zone struct {
	sandbox zones.Sandbox
	group   *group
	cmd     *exec.Cmd
	control *os.File // the first process's other end is closed by its exec
	pidfd   *os.File

	gone chan struct{} // closed when the first process was waited for

	mu     sync.Mutex
	halted bool
	booted bool
	exited func(status int) // nil until booted
}

// newZone starts the first process and lets it build the zone's mounts.
func newZone(ctx context.Context, s zones.Sandbox, g *group, console string) (*zone, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() //nolint:errcheck // the child has its own
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Dir = "/"
	cmd.Env = []string{} // nothing of ours reaches the zone
	cmd.ExtraFiles = []*os.File{theirs}
	var pidfd int
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true, PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		ours.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("start the zone's first process: %w", err)
	}
	z := &zone{
		sandbox: s, group: g, cmd: cmd, control: ours, gone: make(chan struct{}),
		pidfd: os.NewFile(uintptr(pidfd), "pidfd"),
	}
	go z.wait() // halt waits for it
	if err := z.build(ctx, console); err != nil {
		return nil, errors.Join(err, z.halt(context.WithoutCancel(ctx)))
	}
	return z, nil
}

// build has the first process set the zone up.
func (z *zone) build(ctx context.Context, console string) error {
	if err := z.group.add(z.cmd.Process.Pid); err != nil {
		return err
	}
	return z.ask(ctx, order{Build: &build{Sandbox: z.sandbox, Console: console}}, false)
}

// netnsPath names the zone's network namespace while the zone has processes.
// The namespace, and what is left in it, ends with them.
func (z *zone) netnsPath() string { return fmt.Sprintf("/proc/%d/ns/net", z.cmd.Process.Pid) }

// wait reaps the first process, which ends last of all the zone's processes.
func (z *zone) wait() {
	_ = z.cmd.Wait() // the status says it all
	z.mu.Lock()
	status, _ := z.cmd.ProcessState.Sys().(syscall.WaitStatus)
	var tell func(int)
	if !z.halted && z.booted {
		tell = z.exited
	}
	z.mu.Unlock()
	close(z.gone)
	if tell != nil {
		tell(int(status))
	}
}

// ask sends o and waits for the answer. An exec answers by closing the socket.
func (z *zone) ask(ctx context.Context, o order, exec bool) error {
	stop := context.AfterFunc(ctx, func() {
		_ = z.control.SetDeadline(aLongTimeAgo)
	})
	defer stop()
	if err := json.NewEncoder(z.control).Encode(o); err != nil {
		return fmt.Errorf("talk to the zone's first process: %w", err)
	}
	var a answer
	err := json.NewDecoder(z.control).Decode(&a)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF) && exec:
		return nil
	case err != nil:
		return fmt.Errorf("the zone's first process gave no answer: %w", err)
	}
	return a.err()
}

// boot executes init as the zone's process 1.
func (z *zone) boot(ctx context.Context, init []string, exited func(int)) error {
	if len(init) == 0 {
		return errors.New("boot: no init given")
	}
	z.mu.Lock()
	if z.booted {
		z.mu.Unlock()
		return errors.New("boot: the zone has been booted")
	}
	z.booted, z.exited = true, exited // before the exec: init may end at once
	z.mu.Unlock()
	err := z.ask(ctx, order{Exec: init}, true)
	if err == nil {
		return nil
	}
	z.mu.Lock()
	z.exited = nil
	z.mu.Unlock()
	return fmt.Errorf("boot: %w", err)
}

// halt kills the first process, which takes every other one with it, and waits.
func (z *zone) halt(ctx context.Context) error {
	z.mu.Lock()
	z.halted = true
	z.mu.Unlock()
	_ = z.cmd.Process.Kill() // fails only when it is gone
	select {
	case <-z.gone:
	case <-ctx.Done():
		return fmt.Errorf("halt: processes are still there: %w", context.Cause(ctx))
	}
	if err := z.group.remove(); err != nil {
		return fmt.Errorf("halt: %w", err)
	}
	for _, f := range []*os.File{z.control, z.pidfd} {
		_ = f.Close() // nothing was written
	}
	return nil
}

// running says whether programs can enter.
func (z *zone) running() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	select {
	case <-z.gone:
		return false
	default:
		return !z.halted
	}
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that deadlines work
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}
