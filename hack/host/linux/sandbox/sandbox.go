//go:build linux

// Package sandbox runs the zones of the simulated host for real: each is a set
// of Linux namespaces (mount, pid, net, uts, ipc, cgroup) with a root of its
// own, a bounded set of capabilities and, where asked, cgroup limits. It
// implements zones.Backend.
//
// A zone's first process is made when the zone becomes ready. It builds the
// mounts, waits, and on boot executes the zone's init in its own place, so init
// is process 1 of the zone and a direct child of this process, which learns its
// exact wait status. Nothing else of the zone lives outside it.
//
// The same binary is executed again for a zone's first process and for every
// program that enters a zone: main (and TestMain) must call Main before
// anything else.
//
// What is not as on illumos: the capabilities a zone's root keeps for its own
// mounts (CAP_SYS_ADMIN) mean more on Linux than sys_mount does, so a hostile
// root in a zone can get out of it. This simulates zones; it is not a boundary
// for untrusted code.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// ErrNoZone means that no sandbox of that id is there.
var ErrNoZone = errors.New("no such zone")

// Config says where a Backend keeps its things.
type Config struct {
	// ConsoleDir is a directory for the zones' console files, NAME.console:
	// what a zone's init prints. Empty sends the console to /dev/null.
	ConsoleDir string

	// Group is the name of the cgroup made for all zones, directly below this
	// process's own group in every hierarchy. Close removes it.
	Group string

	// GroupParent, if not empty, is the version 2 cgroup to make Group in
	// instead, for a process that has a delegated group above its own.
	GroupParent string

	// Unenforced, if not empty, says why caps that this machine cannot enforce
	// are accepted nevertheless, see Backend.Unenforced. Otherwise a zone with
	// such a cap does not boot.
	Unenforced string
}

// Backend keeps the running zones of one host. Its methods may be called from
// any goroutine; calls for one zone must not overlap, except Enter.
type Backend struct {
	config Config
	groups *groups

	mu    sync.Mutex
	zones map[int]*zone
}

var _ zones.Backend = (*Backend)(nil)

// New returns a Backend without zones and makes its cgroups. Hierarchies that
// cannot be used are left out: caps that need them are refused when set.
func New(c Config) (*Backend, error) {
	if c.Group == "" {
		c.Group = "zones"
	}
	if filepath.Base(c.Group) != c.Group {
		return nil, fmt.Errorf("sandbox: cgroup name %q is not a plain name", c.Group)
	}
	g, err := newGroups(c.Group, c.GroupParent)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	g.lenient = c.Unenforced != ""
	return &Backend{config: c, groups: g, zones: make(map[int]*zone)}, nil
}

// Unenforced says which caps are accepted and have no effect, and why; empty
// means that there are none.
func (b *Backend) Unenforced() string {
	var caps []string
	for _, s := range settings(zones.Caps{}) {
		if _, ok := b.groups.parents[s.controller]; !ok {
			caps = append(caps, s.cap)
		}
	}
	if len(caps) == 0 || !b.groups.lenient {
		return ""
	}
	return fmt.Sprintf("%s are kept and shown but not enforced: %s", strings.Join(caps, ", "), b.config.Unenforced)
}

// Close halts every zone and removes the cgroups.
func (b *Backend) Close() error {
	b.mu.Lock()
	ids := make([]int, 0, len(b.zones))
	for id := range b.zones {
		ids = append(ids, id)
	}
	b.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, b.Halt(context.Background(), id))
	}
	return errors.Join(append(errs, b.groups.remove())...)
}

// Ready implements zones.Backend. The network namespace it returns ends
// with the zone's last process, and destroys the links that are still in it.
func (b *Backend) Ready(ctx context.Context, s zones.Sandbox) (string, error) {
	b.mu.Lock()
	_, there := b.zones[s.ID]
	b.mu.Unlock()
	if there {
		return "", fmt.Errorf("zone %d is already there", s.ID)
	}
	group, err := b.groups.zone(fmt.Sprintf("zone%d", s.ID))
	if err != nil {
		return "", err
	}
	if err := group.limit(s.Caps); err != nil {
		return "", errors.Join(err, group.remove())
	}
	z, err := newZone(ctx, s, group, b.console(s.Name))
	if err != nil {
		return "", errors.Join(err, group.remove())
	}
	b.mu.Lock()
	b.zones[s.ID] = z
	b.mu.Unlock()
	return z.netnsPath(), nil
}

// console returns the file that a zone's console goes to.
func (b *Backend) console(name string) string {
	if b.config.ConsoleDir == "" {
		return os.DevNull
	}
	return filepath.Join(b.config.ConsoleDir, name+".console")
}

func (b *Backend) zone(id int) (*zone, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	z, ok := b.zones[id]
	if !ok {
		return nil, fmt.Errorf("zone %d: %w", id, ErrNoZone)
	}
	return z, nil
}

// Boot implements zones.Backend.
func (b *Backend) Boot(ctx context.Context, id int, init []string, exited func(status int)) error {
	z, err := b.zone(id)
	if err != nil {
		return err
	}
	return z.boot(ctx, init, exited)
}

// Halt implements zones.Backend. The zone is forgotten only when everything of
// it is gone, so a failed Halt can be repeated.
func (b *Backend) Halt(ctx context.Context, id int) error {
	z, err := b.zone(id)
	if errors.Is(err, ErrNoZone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := z.halt(ctx); err != nil {
		return fmt.Errorf("zone %d: %w", id, err)
	}
	b.mu.Lock()
	delete(b.zones, id)
	b.mu.Unlock()
	return nil
}

// SetCaps implements zones.Backend.
func (b *Backend) SetCaps(_ context.Context, id int, c zones.Caps) error {
	z, err := b.zone(id)
	if err != nil {
		return err
	}
	if c.Locked != z.sandbox.Caps.Locked {
		return errors.New("zone.max-locked-memory of a running zone cannot be changed by the simulation")
	}
	if err := z.group.limit(c); err != nil {
		return err
	}
	z.sandbox.Caps = c
	return nil
}

// Usage implements zones.Backend.
func (b *Backend) Usage(_ context.Context, id int) (zones.Usage, error) {
	z, err := b.zone(id)
	if err != nil {
		return zones.Usage{}, err
	}
	return z.usage()
}

// ZoneOf returns the id of the zone that a process of this host is in; a
// process of the global zone is in none.
func (b *Backend) ZoneOf(pid int) (id int, in bool, err error) {
	var own, of, its unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &own); err != nil {
		return 0, false, err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &its); err != nil {
		return 0, false, err
	}
	if its.Ino == own.Ino {
		return 0, false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, z := range b.zones {
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", z.cmd.Process.Pid), &of) == nil && of.Ino == its.Ino {
			return id, true, nil
		}
	}
	return 0, false, fmt.Errorf("process %d: %w", pid, ErrNoZone)
}

// Init returns the process id of the zone's first process, as seen by this
// process, for tests and for tools that look into a zone.
func (b *Backend) Init(id int) (pid int, err error) {
	z, err := b.zone(id)
	if err != nil {
		return 0, err
	}
	return z.cmd.Process.Pid, nil
}
