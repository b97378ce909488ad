//go:build linux

package machine

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// InitMain is the host's process 1: it waits for its network card, gives the
// host its file system, and then keeps the supervisor. Its end is the end of
// everything on the host, so it ends with the supervisor.
func InitMain() (int, error) {
	var b boot
	if err := json.NewDecoder(os.NewFile(bootFD, "boot")).Decode(&b); err != nil {
		return 1, fmt.Errorf("boot: %w", err) // whoever started us has gone
	}
	if err := b.prepare(); err != nil {
		_ = json.NewEncoder(os.NewFile(readyFD, "ready")).Encode(verdict{Error: err.Error()})
		return 1, err
	}
	again, err := passOn(b)
	if err != nil {
		return 1, err
	}
	return spaces.First("/proc/self/exe", []string{SupervisorName}, os.Environ(), []uintptr{0, 1, 2, again, readyFD, traceFD})
}

// prepare turns this process's namespaces into the host's.
func (b *boot) prepare() error {
	unix.Umask(0o022)
	if err := makeRoot(b); err != nil {
		return fmt.Errorf("file system: %w", err)
	}
	if err := unix.Sethostname([]byte(b.Config.Name)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	return nil
}

// passOn returns a file from which the supervisor reads b.
func passOn(b boot) (uintptr, error) {
	fd, err := unix.MemfdCreate("boot", 0)
	if err != nil {
		return 0, fmt.Errorf("boot: %w", err)
	}
	data, err := json.Marshal(b)
	if err != nil {
		return 0, fmt.Errorf("boot: %w", err)
	}
	if _, err := unix.Pwrite(fd, data, 0); err != nil {
		return 0, fmt.Errorf("boot: %w", err)
	}
	return uintptr(fd), nil //nolint:gosec // a file descriptor
}
