//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/host/linux/sandbox"
)

// teardownTime is how long the kernel may take to give back the loop devices
// of mounts that went with their namespace.
const teardownTime = 20 * time.Second

func (l Lab) watchdogLog() string { return filepath.Join(l.Logs(), "watchdog.log") }

// startWatchdog starts the process that cleans up after the lab. It does so
// when every copy of watch is closed, and holds the lock until it is done.
func (l Lab) startWatchdog(lock *os.File, group string, temporary bool) (cmd *exec.Cmd, watch *os.File, err error) {
	log, err := os.Create(l.watchdogLog())
	if err != nil {
		return nil, nil, fmt.Errorf("lab: watchdog: %w", err)
	}
	defer log.Close() //nolint:errcheck // the child has its own
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("lab: watchdog: %w", err)
	}
	defer r.Close() //nolint:errcheck // the child has its own
	cmd = exec.Command("/proc/self/exe")
	cmd.Args = []string{WatchdogName, l.Dir, group, strconv.FormatBool(temporary)}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{r, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // keys do not reach it
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("lab: watchdog: %w", err)
	}
	return cmd, w, nil
}

// WatchdogMain waits for the end of the lab and removes what is left of it.
// group is the version 2 cgroup with the hosts' groups, if not the own one. Of
// a temporary lab the whole directory goes, unless something went wrong.
func WatchdogMain(dir, group string, temporary bool) error {
	l := Lab{Dir: dir}
	_, _ = io.Copy(io.Discard, os.NewFile(3, "watch"))
	var errs []error
	errs = append(errs, sandbox.Sweep(l.Groups(), group))
	errs = append(errs, l.awaitLoops())
	errs = append(errs, os.RemoveAll(l.Hosts()), ignoreMissing(os.Remove(l.statusFile())))
	if err := errors.Join(errs...); err != nil || !temporary {
		return err
	}
	return os.RemoveAll(l.Dir)
}

// awaitLoops waits until no loop device has a file of the lab.
func (l Lab) awaitLoops() error {
	for deadline := time.Now().Add(teardownTime); ; time.Sleep(20 * time.Millisecond) {
		busy, err := l.loops()
		if err != nil || len(busy) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("lab: loop devices stay in use: %s", strings.Join(busy, " "))
		}
	}
}

func (l Lab) loops() ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var busy []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.HasPrefix(string(b), l.Dir+"/") {
			busy = append(busy, filepath.Base(filepath.Dir(filepath.Dir(f))))
		}
	}
	return busy, nil
}
