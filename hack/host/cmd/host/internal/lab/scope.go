//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
	"reddwarf.io/reddwarf/hack/host/linux/sandbox"
)

// scopeEnv says that this process was put into a scope of its own.
const scopeEnv = "REDDWARF_SCOPE"

// stepAside makes room for cgroups with limits, where they are of version 2:
// there, a group either has processes or hands controllers down. With systemd
// the whole command is run again in a scope whose groups are delegated to it.
// The result is the group to make others in; empty means in each one's own,
// or that there are none, and then a zone with a cap does not boot.
func stepAside() (string, error) {
	if userns.Inside() {
		return "", nil // the groups are not ours to change
	}
	dir, usable, err := sandbox.Unified()
	if err != nil || usable || dir == "" {
		return "", err
	}
	if os.Getenv(scopeEnv) != "" {
		if err := sandbox.StepAside(dir, "lab"); err != nil {
			return "", fmt.Errorf("lab: %w", err)
		}
		return dir, nil
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "", nil //nolint:nilerr // another init, which has no scopes
	}
	scope := []string{"systemd-run", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"}
	path, err := exec.LookPath(scope[0])
	if err != nil {
		return "", nil //nolint:nilerr // no scopes to be had
	}
	if out, err := exec.Command(path, append(scope[1:], "true")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "lab: zones cannot have CPU and memory caps: %s: %v\n", out, err)
		return "", nil
	}
	exe, err := exec.LookPath(os.Args[0]) // by the name that tells it what it is
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	err = unix.Exec(path, append(append(scope, exe), os.Args[1:]...), append(os.Environ(), scopeEnv+"=1"))
	return "", fmt.Errorf("lab: %s: %w", path, err)
}
