// Package zfs is the simulated host's zfs(8) and zpool(8): one pool, its file
// systems, snapshots and clones, their properties, mounts, holds and streams.
//
// It follows illumos' own zfs (usr/src/cmd/zfs, usr/src/lib/libzfs) in what it
// accepts, what it prints and how it exits, and refuses with a line that
// begins with "simulated host:" what it cannot do: volumes, bookmarks,
// encryption, delegation and replication streams. Contents of file systems are
// a Backend's business; without one the model keeps no contents.
package zfs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says what the host's pool is.
type Config struct {
	Pool    string           // its name; empty means rpool
	Size    uint64           // bytes, where the backend does not know better; 0 means 20 GiB
	Backend Backend          // nil keeps no contents
	Clock   func() time.Time // nil means time.Now
}

// Model is the state of the pool. Its methods may be called at the same time.
type Model struct {
	cfg     Config
	backend Backend
	now     func() time.Time

	mu      sync.Mutex
	next    uint64 // the last object number given
	txg     uint64
	byName  map[string]*node
	byID    map[uint64]*node
	sources map[string]map[uint64]int // zone → object → mounts
	inUse   map[uint64]int            // objects that a stream reads
}

// New returns a pool that holds its root file system only. The root file
// system is not mounted before Start, Load or Reboot.
func New(cfg Config) *Model {
	if cfg.Pool == "" {
		cfg.Pool = "rpool"
	}
	if cfg.Size == 0 {
		cfg.Size = 20 << 30
	}
	m := &Model{cfg: cfg, backend: cfg.Backend, now: cfg.Clock}
	if m.backend == nil {
		m.backend = memory{}
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.clear()
	return m
}

// clear leaves a pool without any dataset.
func (m *Model) clear() {
	m.next, m.txg = 0, 4
	m.byName = map[string]*node{}
	m.byID = map[uint64]*node{}
	m.sources = map[string]map[uint64]int{}
	m.inUse = map[uint64]int{}
}

// Start makes the pool's root file system and mounts it, as zpool create does.
// It does nothing on a pool that has one.
func (m *Model) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.startLocked(ctx)
}

func (m *Model) startLocked(ctx context.Context) error {
	if m.byName[m.cfg.Pool] != nil {
		return nil
	}
	n := m.newNode(m.cfg.Pool, false)
	if err := m.backend.Create(ctx, n.ID, nil); err != nil {
		return fmt.Errorf("pool %s: root file system: %w", m.cfg.Pool, err)
	}
	m.insert(n)
	if err := m.mountNode(ctx, n, false); err != nil {
		return fmt.Errorf("pool %s: mount: %w", m.cfg.Pool, err)
	}
	return nil
}

// Commands returns the programs of this component by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{"zfs": m.zfs, "zpool": m.zpool}
}

// state is what Save writes.
type state struct {
	Pool  string  `json:"pool"`
	Next  uint64  `json:"next"`
	TXG   uint64  `json:"txg"`
	Nodes []*node `json:"nodes"`
}

// Save returns everything that outlives the model's process, and where file
// systems are mounted. Mounts by zones are not part of it.
func (m *Model) Save() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := state{Pool: m.cfg.Pool, Next: m.next, TXG: m.txg}
	for _, id := range slices.Sorted(maps.Keys(m.byID)) {
		s.Nodes = append(s.Nodes, m.byID[id])
	}
	return json.MarshalIndent(s, "", " ")
}

// Load replaces the model's state by what Save returned. It mounts nothing:
// where the mounts went with the process that made them, Reboot follows.
func (m *Model) Load(data []byte) error {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("pool: saved state: %w", err)
	}
	if s.Pool != m.cfg.Pool {
		return fmt.Errorf("pool: saved state: it is of pool %q, not %q", s.Pool, m.cfg.Pool)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	m.next, m.txg = s.Next, s.TXG
	for _, n := range s.Nodes {
		if n.Props == nil {
			n.Props = map[string]string{}
		}
		m.insert(n)
	}
	return nil
}

// Reboot is a power cycle: no zone uses a dataset any more, options of mounts
// are forgotten, and the file systems that are to be mounted at boot are.
// Mounts that the backend still has are taken down first.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = map[string]map[uint64]int{}
	m.inUse = map[uint64]int{}
	for _, n := range slices.Backward(m.filesystems()) {
		if n.Mounted != "" {
			_ = m.backend.Unmount(ctx, n.ID, n.Mounted, true) // it may have gone with its namespace
		}
		n.Mounted, n.temporary = "", nil
	}
	if err := m.startLocked(ctx); err != nil {
		return err
	}
	for _, n := range m.filesystems() {
		if m.on(n, "readonly") { // where it is a matter of mounts it has gone with them
			if err := m.backend.SetReadOnly(ctx, n.ID, true); err != nil {
				return fmt.Errorf("%s: read-only: %w", n.Name, err)
			}
		}
	}
	return m.mountAll(ctx)
}

// run is one invocation of zfs.
type run struct {
	*Model
	ctx context.Context
	inv *program.Invocation
	cmd string // the subcommand
}

// zfs is the program zfs(8).
func (m *Model) zfs(ctx context.Context, inv *program.Invocation) int {
	r := &run{Model: m, ctx: ctx, inv: inv}
	args := inv.Args()
	if len(args) == 0 {
		return r.usage("missing command")
	}
	name, args := args[0], args[1:]
	switch name {
	case "umount":
		name = "unmount"
	case "recv":
		name = "receive"
	case "snap":
		name = "snapshot"
	case "-?":
		r.printUsage(inv.Stdout)
		return 0
	}
	sub, ok := subcommands[name]
	if !ok {
		return r.usage(fmt.Sprintf("unrecognized command '%s'", name))
	}
	r.cmd = name
	if sub.run == nil {
		return r.refuse("zfs %s is not simulated", name)
	}
	if sub.unlocked {
		return sub.run(r, args)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return sub.run(r, args)
}

// fail prints "ACTION: REASON" and returns the exit code of a failure.
func (r *run) fail(action, reason string) int {
	r.inv.Errf("%s: %s\n", action, reason)
	return 1
}

// refuse says that the host would do what the simulation does not.
func (r *run) refuse(format string, args ...any) int {
	r.inv.Errf("simulated host: "+format+"\n", args...)
	return 1
}

// usage prints a complaint and how the subcommand is used, and returns the
// exit code of wrong usage.
func (r *run) usage(complaint string) int {
	if complaint != "" {
		r.inv.Errf("%s\n", complaint)
	}
	r.printUsage(r.inv.Stderr)
	return 2
}

// newNode makes a dataset that is in no index yet.
func (m *Model) newNode(name string, snapshot bool) *node {
	m.next++
	m.txg++
	return &node{
		ID: m.next, Name: name, Snapshot: snapshot, TXG: m.txg,
		GUID: rand.Uint64() >> 1, Created: m.now().Unix(), Props: map[string]string{},
	}
}

// stdin returns the invocation's standard input for a stream, or nil if it is
// a terminal.
func (r *run) stdin() io.Reader {
	if r.inv.Terminal {
		return nil
	}
	return r.inv.Stdin
}
