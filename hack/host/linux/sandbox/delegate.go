//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Unified returns this process's version 2 group where zones have to use that
// version, and whether groups made below it can have limits. They can not
// while processes are in it, but for the root of the hierarchy.
func Unified() (dir string, usable bool, err error) {
	own, err := ownGroups("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return "", false, err
	}
	for _, controller := range []string{cpu, memory, pids} {
		if _, ok := own[controller]; ok {
			return "", true, nil // version 1
		}
	}
	dir = own[""]
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if dir == "" || err != nil || !slices.Contains(strings.Fields(string(available)), memory) {
		return "", false, nil //nolint:nilerr // nothing to be had here
	}
	_, err = os.Stat(filepath.Join(dir, "cgroup.type")) // which only the root lacks
	return dir, errors.Is(err, fs.ErrNotExist), nil
}

// StepAside moves this process from its version 2 group into a new one below
// it, so that others below it can have limits. It must be the only process
// there.
func StepAside(dir, name string) error {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if self := strconv.Itoa(os.Getpid()); strings.TrimSpace(string(procs)) != self {
		return fmt.Errorf("cgroup %s: other processes are in it", dir)
	}
	leaf := filepath.Join(dir, name)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}
