package zones

import (
	"context"
	"io"
	"net/netip"
)

// Backend makes the effects of zone operations real. The model decides what is
// allowed and keeps all state; a Backend only does. The model calls it under
// the zone's lock, so calls for one zone never overlap, except Enter.
type Backend interface {
	// Ready makes the zone's sandbox with its mounts but starts nothing, as
	// the kernel's zone_create and zoneadmd's vplat_bringup do. It returns the
	// path of the sandbox's network namespace, empty where there is none.
	Ready(ctx context.Context, s Sandbox) (netns string, err error)

	// Boot starts init in a sandbox that is ready. exited is called once, from
	// any goroutine, when init has ended by itself and every other process of
	// the zone is gone; status is init's wait(3C) status. It is not called for
	// a halt. Where init is restarted, the sandbox is halted and made ready
	// again with the same id before the next Boot.
	Boot(ctx context.Context, id int, init []string, exited func(status int)) error

	// Halt kills every process of the zone, waits for them, and takes the
	// sandbox down. Halting a sandbox that is not there succeeds.
	Halt(ctx context.Context, id int) error

	// Enter runs a program in a running zone and returns its wait(3C) status.
	Enter(ctx context.Context, id int, e Entry) (status int, err error)

	// SetCaps changes the limits of a running zone, as prctl(1) does.
	SetCaps(ctx context.Context, id int, c Caps) error

	// Usage reads what a running zone has used since its boot.
	Usage(ctx context.Context, id int) (Usage, error)
}

// Sandbox is what a zone is made of when it becomes ready.
type Sandbox struct {
	ID       int
	Name     string
	Brand    string
	Root     string // ZONEPATH/root, on the host
	Hostname string
	Mounts   []Mount // in the order in which they are to be made
	Caps     Caps
}

// Mount is one file system of a zone. For type zfs, Special has already been
// resolved to the directory of the host that shows the dataset.
type Mount struct {
	Type    string // lofs, zfs, tmpfs, proc, dev …
	Special string
	Dir     string // in the zone
	Options []string
}

// Caps are a zone's limits. Zero means none.
type Caps struct {
	CPU          int    // percent of one CPU, as zone.cpu-cap
	CPUShares    uint64 // zone.cpu-shares
	MaxProcesses uint64
	MaxLWPs      uint64
	Physical     uint64 // bytes
	Swap         uint64 // bytes
	Locked       uint64 // bytes
}

// Usage is what a zone has used.
type Usage struct {
	CPUNanoseconds    uint64 // in user mode and in the kernel
	SystemNanoseconds uint64 // of these in the kernel
	CappedNanoseconds uint64 // stopped by the CPU cap
	RSS               uint64 // bytes
	Swap              uint64 // bytes
	AllocFailures     uint64 // times that memory was wanted beyond the cap
	Processes         int
	LWPs              int
}

// Entry is one program run in a zone from outside.
type Entry struct {
	Argv   []string // Argv[0] is an absolute path in the zone
	Env    []string
	Dir    string
	Stdin  io.Reader // *os.File where the caller is a process
	Stdout io.Writer
	Stderr io.Writer

	// Terminal makes the program the leader of a new session with a pty of
	// the zone's own, joined to Stdin and Stdout.
	Terminal bool
}

// Links gives data links to zones and takes them back; package datalink of the
// simulated host implements it.
type Links interface {
	// CheckAssign says why link cannot be given to a zone that boots: it does
	// not exist, or an IP interface of the global zone uses it. A text that
	// starts with "WARNING: " is what zoneadmd prints; it keeps others to
	// itself.
	CheckAssign(link string) error

	// Assign moves link into a zone's network namespace and applies what the
	// net resource says.
	Assign(ctx context.Context, zone string, id int, netns string, net LinkConfig) error

	// Plumb sets the link's addresses and default routers inside the zone, as
	// lxinit or the native zone's network service does.
	Plumb(ctx context.Context, zone string, id int, netns string, net LinkConfig) error

	// Return gives every link of the zone back to the global zone.
	Return(ctx context.Context, zone string, id int) error
}

// LinkConfig is one link of a zone, joined from all its net resources.
type LinkConfig struct {
	Physical  string
	Allowed   []netip.Prefix // allowed-address: enforced by the host
	Addresses []netip.Prefix // what the zone's init plumbs
	Routers   []netip.Addr   // default routers that it sets
}

// Datasets is what zones need to know of ZFS; package zfs of the simulated
// host implements it.
type Datasets interface {
	// Source returns the directory of the host that shows a file system whose
	// mountpoint is legacy, for mounting it in a zone, and counts the mount,
	// which makes the dataset busy. The error is one of the texts that
	// zoneadm prints for `fs type=zfs`.
	Source(dataset, zone string) (dir string, err error)

	// Release undoes every Source of the zone.
	Release(zone string)

	// MountpointOf returns the dataset mounted exactly at dir, if there is one.
	MountpointOf(dir string) (dataset string, ok bool)

	// MountsBelow returns the mount points strictly below dir.
	MountsBelow(dir string) []string
}
