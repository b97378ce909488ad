//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/wire"
)

// downTime is how long a host may take to shut down before its power is cut.
const downTime = time.Minute

// Down shuts a host down. It keeps its disks: Up with the same name boots them
// again. A host that is down stays so.
func (h Host) Down(ctx context.Context) error {
	p, err := h.Process()
	if errors.Is(err, ErrNoHost) {
		return err
	}
	if err != nil {
		return err
	}
	pidfd, err := p.Open()
	if err != nil {
		return nil //nolint:nilerr // gone meanwhile
	}
	defer pidfd.Close() //nolint:errcheck // nothing was written
	_, callErr := wire.Call(h.socket(), wire.Request{Kind: wire.Down})
	if callErr != nil {
		// It cannot listen, so it cannot shut down either.
		_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
	}
	if !awaitEnd(ctx, pidfd, downTime) {
		_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
		if !awaitEnd(ctx, pidfd, downTime) {
			return fmt.Errorf("host %s: does not end", h.Name)
		}
	}
	return nil
}

// awaitEnd reports whether the process ends before ctx does and within limit.
func awaitEnd(ctx context.Context, pidfd *os.File, limit time.Duration) bool {
	const slice = 100 * time.Millisecond
	for end := time.Now().Add(limit); ctx.Err() == nil && time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}, int(slice.Milliseconds())) //nolint:gosec // small
		if n > 0 && err == nil {
			return true
		}
	}
	return false
}

// Reboot cuts the host's power and boots it again: what is temporary on
// illumos, every zone and every program that ran on the host is gone.
func (h Host) Reboot() error {
	if _, err := h.Process(); err != nil {
		return err
	}
	_, err := wire.Call(h.socket(), wire.Request{Kind: wire.Reboot})
	return err
}

// AddFault makes the commands that f matches go wrong.
func (h Host) AddFault(f host.Fault) error {
	if err := f.Validate(); err != nil {
		return err
	}
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = wire.Call(h.socket(), wire.Request{Kind: wire.Fault, Body: body})
	return err
}

// ClearFaults makes everything go well again.
func (h Host) ClearFaults() error {
	_, err := wire.Call(h.socket(), wire.Request{Kind: wire.Clear})
	return err
}

// Faults returns the faults in force, one on each line.
func (h Host) Faults() (string, error) {
	r, err := wire.Call(h.socket(), wire.Request{Kind: wire.Faults})
	return r.Text, err
}
