//go:build linux

// Package lab is the place where simulated hosts and the dev cluster live: one
// set of namespaces with a LAN, in which everything ends when the process that
// started it does, however that happens.
//
// Three processes keep a lab: the launcher outside, which the user sees; the
// first process inside, which the launcher's end kills and which takes all
// others along; and a watchdog outside, which outlives both and removes what
// the kernel does not remove by itself.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
)

// Env is the variable that names the lab's directory to programs inside it.
const Env = "REDDWARF_LAB"

// Bridge is the LAN of a lab; Gateway is the lab's own address on it.
const Bridge = "lan0"

// Gateway returns the lab's own address on the LAN.
func Gateway() netip.Prefix { return netip.MustParsePrefix("198.51.100.1/24") }

// The names under which this binary is executed again.
const (
	InitName     = "(lab-init)"
	WatchdogName = "(lab-watchdog)"
	ProbeName    = "(lab-probe)"
)

// ErrNoLab means that no lab runs in a directory.
var ErrNoLab = errors.New("no lab is running there")

// Lab is one lab, named by its directory.
type Lab struct {
	Dir string // absolute
}

// At returns the lab of a directory, which need not run or exist.
func At(dir string) (Lab, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Lab{}, fmt.Errorf("lab: %w", err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return Lab{Dir: abs}, nil
}

// Current returns the lab that this process is in.
func Current() (Lab, bool) {
	dir := os.Getenv(Env)
	return Lab{Dir: dir}, dir != ""
}

// Hosts is the directory that holds one directory for every host.
func (l Lab) Hosts() string { return filepath.Join(l.Dir, "hosts") }

// Logs is the directory of the hosts' logs.
func (l Lab) Logs() string { return filepath.Join(l.Dir, "logs") }

// Groups is the beginning of the names of all cgroups of this lab's hosts.
func (l Lab) Groups() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(l.Dir)) // never fails
	return fmt.Sprintf("simhost-%08x-", h.Sum32())
}

// status is what the launcher leaves for those who want to enter.
type status struct {
	Init  spaces.Process // as the launcher sees it
	Group string         // version 2 cgroup to make the zones' groups in, if not the own one
}

func (l Lab) statusFile() string { return filepath.Join(l.Dir, "lab.json") }

func (l Lab) status() (status, error) {
	var s status
	b, err := os.ReadFile(l.statusFile())
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("lab %s: %w", l.Dir, ErrNoLab)
	}
	if err != nil {
		return s, fmt.Errorf("lab %s: %w", l.Dir, err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("lab %s: %w", l.Dir, err)
	}
	return s, nil
}

// GroupParent returns the version 2 cgroup in which hosts make their groups;
// empty means in their own.
func (l Lab) GroupParent() (string, error) {
	s, err := l.status()
	return s.Group, err
}

// Process returns the lab's first process, seen from outside.
func (l Lab) Process() (spaces.Process, error) {
	s, err := l.status()
	if err != nil {
		return spaces.Process{}, err
	}
	if !s.Init.Alive() {
		return spaces.Process{}, fmt.Errorf("lab %s: %w", l.Dir, ErrNoLab)
	}
	return s.Init, nil
}

// Exec runs argv in a lab that runs and returns its exit code, see spaces.Run.
func (l Lab) Exec(argv []string) (int, error) { return l.exec(argv, spaces.Run) }

// ExecSelf runs this binary again in a lab that runs.
func (l Lab) ExecSelf(argv []string) (int, error) { return l.exec(argv, spaces.RunSelf) }

func (l Lab) exec(argv []string, run func(p spaces.Process, argv, env []string) (int, error)) (int, error) {
	p, err := l.Process()
	if err != nil {
		return 0, err
	}
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("lab: %w", userns.Enter(p.PID))
	}
	code, err := run(p, argv, []string{Env + "=" + l.Dir})
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	return code, nil
}
