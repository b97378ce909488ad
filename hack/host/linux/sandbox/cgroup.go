//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The controllers that a zone's limits and usage need.
const (
	cpu     = "cpu"
	cpuacct = "cpuacct" // version 1 only; cpu has it in version 2
	memory  = "memory"
	pids    = "pids"
)

// groups is the cgroup that holds the zones' own, in every usable hierarchy.
type groups struct {
	parents map[string]string // controller → directory of the group that holds the zones
	unified bool              // all in one version 2 hierarchy
	missing string            // why controllers are missing, for errors
	lenient bool              // limits without a controller are accepted
}

// newGroups makes the group name below this process's own group, or below
// parent in version 2. Version 1 hierarchies are preferred, because a
// controller lives in one version only.
func newGroups(name, parent string) (*groups, error) {
	own, err := ownGroups("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	g := &groups{parents: make(map[string]string), missing: "no such cgroup controller here"}
	for _, controller := range []string{cpu, cpuacct, memory, pids} {
		dir, ok := own[controller]
		if !ok {
			continue
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			g.missing = err.Error()
			continue
		}
		g.parents[controller] = filepath.Join(dir, name)
	}
	if len(g.parents) > 0 {
		return g, nil
	}
	if parent == "" {
		parent = own[""]
	}
	if parent != "" {
		g.useUnified(parent, name)
	}
	return g, nil
}

// useUnified sets g up in the version 2 group parent, with those controllers
// that parent can hand down.
func (g *groups) useUnified(parent, name string) {
	available, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		g.missing = err.Error()
		return
	}
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		g.missing = err.Error()
		return
	}
	g.unified = true
	for _, controller := range []string{cpu, memory, pids} {
		if !slices.Contains(strings.Fields(string(available)), controller) {
			continue
		}
		err := handDown(parent, controller)
		if err == nil {
			err = handDown(dir, controller)
		}
		if err != nil {
			// A group with processes hands nothing down but in the root.
			g.missing = err.Error()
			continue
		}
		g.parents[controller] = dir
	}
	if len(g.parents) == 0 {
		_ = os.Remove(dir)
		g.unified = false
	}
}

func handDown(dir, controller string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
}

// ownGroups returns the directory of this process's group for every
// controller; the version 2 hierarchy has the empty name.
func ownGroups(cgroupFile, mountinfoFile string) (map[string]string, error) {
	own, err := os.ReadFile(cgroupFile)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	mounts, err := os.Open(mountinfoFile)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	defer mounts.Close() //nolint:errcheck // only read
	where := make(map[string][2]string)
	in := bufio.NewScanner(mounts)
	for in.Scan() {
		controllers, root, point := cgroupMount(in.Text())
		for _, c := range controllers {
			where[c] = [2]string{root, point}
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	dirs := make(map[string]string)
	for line := range strings.Lines(string(own)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		names, path, _ := strings.Cut(rest, ":")
		for name := range strings.SplitSeq(names, ",") {
			w, ok := where[name]
			if !ok {
				continue
			}
			rel, err := filepath.Rel(w[0], path)
			if err != nil || strings.HasPrefix(rel, "..") {
				continue // our group is outside of what is mounted
			}
			dirs[name] = filepath.Join(w[1], rel)
		}
	}
	return dirs, nil
}

// cgroupMount reads one line of mountinfo, see proc_pid_mountinfo(5). It
// returns no controllers for other file systems, and one empty name for
// version 2.
func cgroupMount(line string) (controllers []string, root, point string) {
	left, right, ok := strings.Cut(line, " - ")
	before, after := strings.Fields(left), strings.Fields(right)
	if !ok || len(before) < 5 || len(after) < 3 {
		return nil, "", ""
	}
	switch after[0] {
	case "cgroup":
		return strings.Split(after[2], ","), before[3], before[4]
	case "cgroup2":
		return []string{""}, before[3], before[4]
	}
	return nil, "", ""
}

// remove takes the group away that holds the zones' groups.
func (g *groups) remove() error {
	var errs []error
	for _, dir := range g.unique() {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

// unique returns the directories without repetition, in a fixed order.
func (g *groups) unique() []string {
	var dirs []string
	for _, controller := range []string{cpu, cpuacct, memory, pids} {
		if dir, ok := g.parents[controller]; ok && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// zone makes the groups of one zone. Old ones of that name, left by a process
// that was killed, are used again once they are empty.
func (g *groups) zone(name string) (*group, error) {
	z := &group{of: g, name: name}
	for _, dir := range z.dirs() {
		if err := removeGroup(dir); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	return z, nil
}

// group is the cgroups of one zone.
type group struct {
	of   *groups
	name string

	mu     sync.Mutex
	wanted uint64 // the memory cap that could not be set yet; 0 for none
}

func (z *group) v2() bool { return z.of.unified }

// dirs returns the zone's directories, one for every hierarchy.
func (z *group) dirs() []string {
	dirs := z.of.unique()
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], z.name)
	}
	return dirs
}

// add moves a process into the zone's groups.
func (z *group) add(pid int) error {
	for _, dir := range z.dirs() {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// file returns the path of a controller's file, and whether there is one.
func (z *group) file(controller, name string) (string, bool) {
	dir, ok := z.of.parents[controller]
	return filepath.Join(dir, z.name, name), ok
}

func (z *group) remove() error {
	var errs []error
	for _, dir := range z.dirs() {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

// removeGroup removes one empty group. The kernel may see its last process for
// a moment longer than waitpid does.
func removeGroup(dir string) error {
	const tries = 200
	for i := 0; ; i++ {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || i == tries {
			return fmt.Errorf("cgroup: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Sweep removes the groups that Backends with a Group of that prefix have left
// because they were killed: below this process's own group, or below parent in
// version 2. Their processes must be ending.
func Sweep(prefix, parent string) error {
	own, err := ownGroups("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if parent != "" {
		own[""] = parent
	}
	var errs []error
	for _, dir := range own {
		left, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
		errs = append(errs, err)
		for _, group := range left {
			zones, err := filepath.Glob(filepath.Join(group, "zone*"))
			errs = append(errs, err)
			for _, zone := range append(zones, group) {
				errs = append(errs, removeGroup(zone))
			}
		}
	}
	return errors.Join(errs...)
}
