//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
)

// asRoot runs this binary again with argv as root of a user namespace.
func asRoot(argv []string) (int, error) {
	code, err := userns.Run(argv)
	if err != nil {
		return 1, fmt.Errorf("lab: a lab needs root or a user namespace: %w", err)
	}
	return code, nil
}

// Check says what this user is missing to run a lab. Root is told nothing: what
// it may do is seen when the lab starts.
func Check() error {
	if os.Geteuid() != 0 {
		code, err := asRoot([]string{"host", "lab", "check"})
		if err == nil && code != 0 {
			err = errors.New("lab: a lab needs root or a user namespace in which mounts can be made")
		}
		return err
	}
	if !userns.Inside() {
		return nil
	}
	dir, err := os.MkdirTemp("", "reddwarf-check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an empty one
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{ProbeName}
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces.All}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return userns.Refused(errors.New(strings.TrimSpace(string(out) + " " + err.Error())))
	}
	return nil
}

// ProbeMain tries, in namespaces of its own, the mounts that a lab stands on.
func ProbeMain() error {
	if err := spaces.MountProc(); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("probe", "root", "overlay", 0, "lowerdir=/etc,upperdir=upper,workdir=work,userxattr"); err != nil {
		return fmt.Errorf("mount an overlay in %s: %w", os.TempDir(), err)
	}
	return unix.Unmount("root", 0)
}
