package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errAgentRuns means that an agent runs on this host.
var errAgentRuns = errors.New("an agent runs on this host")

// lockHost takes the lock that an agent holds while it runs, or says that one
// does. The lock goes with the process, however that ends.
func lockHost(runDir string) (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(runDir, "agent.lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK} // the whole file
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		cerr := f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("%w: it has locked %s", errAgentRuns, name)
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), cerr)
	}
	return func() { f.Close() }, nil //nolint:errcheck // nothing was written
}
