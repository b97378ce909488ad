//go:build linux

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// enterMain runs one program in the zone whose first process the second passed
// file refers to, and reports its wait status.
func enterMain() error {
	// The namespaces, the bounding set and the cgroups below are those of one
	// thread, the one that forks the program.
	runtime.LockOSThread()
	unix.CloseOnExec(controlFD)
	unix.CloseOnExec(controlFD + 1)
	unix.Umask(0o022)
	// A reader that went away must not kill this process before it reports.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	control := os.NewFile(controlFD, "control")
	var e entry
	if err := json.NewDecoder(control).Decode(&e); err != nil {
		return err
	}
	a := answer{}
	status, err := e.run(controlFD + 1)
	if err != nil {
		a = failure(err)
	}
	a.Status = int(status)
	return json.NewEncoder(control).Encode(a)
}

// run enters the zone, runs the program and waits for it.
func (e *entry) run(pidfd int) (syscall.WaitStatus, error) {
	groups, err := e.openGroups()
	if err != nil {
		return 0, err
	}
	if err := enterNamespaces(pidfd); err != nil {
		return 0, err
	}
	if err := boundCapabilities(e.Locked); err != nil {
		return 0, err
	}
	cmd := &exec.Cmd{Path: e.Argv[0], Args: e.Argv, Env: e.Env, Dir: e.Dir}
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean this process's
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	connect := connectPipes
	if e.Terminal {
		connect = connectTerminal
	}
	streams, err := connect(cmd)
	if err != nil {
		return 0, err
	}
	if err := groups.start(cmd); err != nil {
		streams.abandon()
		return 0, err
	}
	streams.copy()
	err = cmd.Wait()
	streams.finish()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, errors.New("no wait status")
	}
	return status, nil
}

// enterNamespaces moves this thread into every namespace of a process. The
// pid namespace is that of its children only.
func enterNamespaces(pidfd int) error {
	// A thread that shares its root directory with others cannot change its
	// mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter: unshare: %w", err)
	}
	if err := unix.Setns(pidfd, namespaces|unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter: setns: %w", err)
	}
	return nil
}

// entryGroups are the zone's cgroups, opened before the zone was entered.
type entryGroups struct {
	dir   *os.File   // v2
	tasks []*os.File // v1: the zone's
	home  []*os.File // v1: our own, in the same order
}

func (e *entry) openGroups() (*entryGroups, error) {
	g := &entryGroups{}
	for _, dir := range e.Groups {
		if e.V2 {
			f, err := os.Open(dir)
			if err != nil {
				return nil, err
			}
			g.dir = f
			continue
		}
		zone, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		// ZONES/ZONE lie directly below our own group.
		home, err := os.OpenFile(filepath.Join(dir, "..", "..", "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		g.tasks, g.home = append(g.tasks, zone), append(g.home, home)
	}
	return g, nil
}

// start starts cmd in the zone's cgroups. In version 1 this thread goes there
// for the moment of the fork, and only this thread.
func (g *entryGroups) start(cmd *exec.Cmd) error {
	if g.dir != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.dir.Fd())
		return cmd.Start()
	}
	if err := join(g.tasks); err != nil {
		return err
	}
	err := cmd.Start()
	return errors.Join(err, join(g.home))
}

// join moves the calling thread.
func join(tasks []*os.File) error {
	for _, f := range tasks {
		if _, err := f.WriteAt([]byte("0"), 0); err != nil {
			return fmt.Errorf("enter: join cgroup: %w", err)
		}
	}
	return nil
}
