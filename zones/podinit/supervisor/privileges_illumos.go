package supervisor

import (
	"errors"
	"fmt"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit"
)

// hasNoNewPrivileges: illumos has no such flag. The container's root is mounted
// without set-user-id instead.
func hasNoNewPrivileges() bool { return false }

// closeOnExec makes sure that nothing but the standard streams survives exec.
func closeOnExec() {
	for fd := 3; fd < 1024; fd++ {
		syscall.CloseOnExec(fd)
	}
}

// takeOn sets groups and user. What root may do is bounded by the zone's
// privileges; Linux' capabilities have no meaning here, so to be asked for them
// is an error rather than a promise that is not kept. Only dropping them is
// true by itself for a user who is not root.
func takeOn(id identity, c podinit.Container) error {
	if len(c.AddCapabilities) > 0 || len(c.DropCapabilities) > 0 && id.UID == 0 {
		return errors.New("capabilities cannot be changed in a native zone")
	}
	groups := make([]int, len(id.Groups))
	for i, g := range id.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setgid(int(id.GID)); err != nil {
		return fmt.Errorf("setgid %d: %w", id.GID, err)
	}
	if err := syscall.Setuid(int(id.UID)); err != nil {
		return fmt.Errorf("setuid %d: %w", id.UID, err)
	}
	return nil
}
