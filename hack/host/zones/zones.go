// Package zones is the zones of the simulated host: zonecfg(8), zoneadm(8),
// zlogin(1) and zonename(1) with the state behind them, in plain Go.
//
// It decides what illumos would decide - grammar, limits, states, messages and
// exit codes of the chosen distribution - and leaves the effects to a Backend.
// It shares no code with the agent that it checks. What it does not simulate
// fails with a message that starts with "simulated host:".
package zones

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says what the model is connected to. Every field has a default.
type Config struct {
	Distro   Distro           // OmniOS if empty
	Backend  Backend          // NewMemory() if nil
	Links    Links            // nil: every link exists and nothing is done to it
	Datasets Datasets         // nil: every dataset exists and is legacy
	Paths    Paths            // NewMemoryPaths() if nil
	Clock    func() time.Time // time.Now if nil
	Brands   Brands           // InstalledBrands(Distro) if nil

	// Log gets what zoneadmd would write to syslog and the zone's console. It
	// may be nil.
	Log func(zone, message string)
}

// Model is the zones of one host. Its methods may be called at any time from
// any goroutine.
type Model struct {
	distro   Distro
	backend  Backend
	links    Links
	datasets Datasets
	paths    Paths
	clock    func() time.Time
	brands   Brands
	log      func(zone, message string)

	life context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // zoneadmd's operations

	mu        sync.Mutex
	zones     map[string]*zone
	order     []string // of the index file
	locks     map[string]chan struct{}
	nextID    int
	nextDebug int
	closed    bool
}

// zone is one configured zone.
type zone struct {
	name   string
	state  state // as in the index file: configured, incomplete or installed
	uuid   string
	config *zoneConfig
	kernel *kernelZone // nil unless the kernel has the zone
}

// kernelZone is a zone that is ready or more.
type kernelZone struct {
	id       int
	state    state
	config   *zoneConfig // the snapshot taken when it became ready
	brand    *Brand
	files    program.Files // those of the zoneadm that made it ready
	root     string
	netns    string
	links    []LinkConfig
	caps     Caps
	bootArgs string
	booted   time.Time // when init was last started
}

// New returns a host without zones. Call Close when done.
func New(c Config) *Model {
	m := &Model{
		distro: c.Distro, backend: c.Backend, links: c.Links, datasets: c.Datasets, paths: c.Paths,
		clock: c.Clock, brands: c.Brands, log: c.Log,
		zones: map[string]*zone{}, locks: map[string]chan struct{}{}, nextID: 1, nextDebug: 1,
	}
	if m.distro == "" {
		m.distro = OmniOS
	}
	if m.backend == nil {
		m.backend = NewMemory()
	}
	if m.links == nil {
		m.links = anyLinks{}
	}
	if m.datasets == nil {
		m.datasets = anyDatasets{}
	}
	if m.paths == nil {
		m.paths = NewMemoryPaths()
	}
	if m.clock == nil {
		m.clock = time.Now
	}
	if m.brands == nil {
		m.brands = InstalledBrands(m.distro)
	}
	if m.log == nil {
		m.log = func(string, string) {}
	}
	m.life, m.stop = context.WithCancel(context.Background())
	return m
}

// Commands returns the commands by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{
		"zonecfg":  m.zonecfg,
		"zoneadm":  m.zoneadm,
		"zlogin":   m.zlogin,
		"zonename": m.zonename,
	}
}

// Close ends all running operations and waits for them. Zones stay as they
// are; nothing happens when their inits end later.
func (m *Model) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.work.Wait()
}

// zonename implements zonename(1) for the global zone.
func (m *Model) zonename(_ context.Context, inv *program.Invocation) int {
	o := &options{args: inv.Args(), spec: "t"}
	for c := o.next(); c != 0; c = o.next() {
		if c == 't' {
			inv.Outf("shared\n")
			return exitOK
		}
	}
	inv.Outf("global\n")
	return exitOK
}

// state is the state of a zone, with the numbers of libzonecfg.h.
type state int

const (
	stateConfigured state = iota
	stateIncomplete
	stateInstalled
	stateReady
	stateRunning
	stateShuttingDown
	stateDown
	stateMounted
)

// String returns the state's name as the commands print it.
func (s state) String() string {
	return [...]string{"configured", "incomplete", "installed", "ready", "running",
		"shutting_down", "down", "mounted"}[s]
}

func (m *Model) brand(name string, files program.Files) (*Brand, error) { return m.brands(name, files) }

// stateOf returns a zone's state, and whether there is such a zone.
func (m *Model) stateOf(name string) (state, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "global" {
		return stateRunning, true
	}
	z := m.zones[name]
	if z == nil {
		return 0, false
	}
	return z.current(), true
}

func (z *zone) current() state {
	if z.kernel != nil {
		return z.kernel.state
	}
	return z.state
}

// savedConfig returns a copy of a zone's saved configuration.
func (m *Model) savedConfig(name string) (*zoneConfig, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	z := m.zones[name]
	if z == nil {
		return nil, false
	}
	return z.config.clone(), true
}

// template returns a new configuration made from a template or another zone.
func (m *Model) template(template, name string) (*zoneConfig, bool) {
	switch template {
	case "SUNWdefault", "SUNWblank":
		return newZoneConfig(name, m.distro.defaultBrand()), true
	}
	if brand, ok := strings.CutPrefix(template, "OMNI"); ok && m.distro == OmniOS {
		if _, err := m.brands(brand, nil); err == nil {
			cfg := newZoneConfig(name, brand)
			cfg.Root["ip-type"] = "exclusive"
			return cfg, true
		}
	}
	cfg, ok := m.savedConfig(template)
	if ok {
		cfg.Name = name
		delete(cfg.Root, "uuid")
		cfg.DebugID = 0
	}
	return cfg, ok
}

// save writes a configuration; oldName is the zone's name so far if it is
// being renamed.
func (m *Model) save(cfg *zoneConfig, oldName string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if oldName != "" && oldName != cfg.Name {
		if z := m.zones[oldName]; z != nil {
			delete(m.zones, oldName)
			z.name = cfg.Name
			m.zones[cfg.Name] = z
			for i, n := range m.order {
				if n == oldName {
					m.order[i] = cfg.Name
				}
			}
		}
	}
	z := m.zones[cfg.Name]
	if z == nil {
		z = &zone{name: cfg.Name}
		m.zones[cfg.Name] = z
		m.order = append(m.order, cfg.Name)
	}
	z.config = cfg.clone()
}

// destroy is zonecfg_destroy.
func (m *Model) destroy(name string, force bool) code {
	m.mu.Lock()
	defer m.mu.Unlock()
	z := m.zones[name]
	switch {
	case z == nil:
		return zNoZone
	case z.current() > stateInstalled, !force && z.current() > stateConfigured:
		return zBadZoneState
	}
	delete(m.zones, name)
	for i, n := range m.order {
		if n == name {
			m.order = append(m.order[:i:i], m.order[i+1:]...)
			break
		}
	}
	return zOK
}

// setState changes a zone's entry in the index. A zone has a uuid from when it
// is more than configured.
func (m *Model) setState(name string, st state) code {
	m.mu.Lock()
	defer m.mu.Unlock()
	z := m.zones[name]
	if z == nil {
		return zNoZone
	}
	z.state = st
	switch {
	case st == stateConfigured:
		z.uuid = ""
	case z.uuid == "":
		z.uuid = z.config.Root["uuid"]
		if z.uuid == "" {
			z.uuid = newUUID()
		}
	}
	return zOK
}

func (m *Model) newDebugID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.nextDebug
	m.nextDebug++
	return id
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// lock takes the lock of a zone's zoneadm operations. Like F_SETLKW it waits.
func (m *Model) lock(ctx context.Context, name string) error {
	m.mu.Lock()
	l := m.locks[name]
	if l == nil {
		l = make(chan struct{}, 1)
		m.locks[name] = l
	}
	m.mu.Unlock()
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *Model) unlock(name string) {
	m.mu.Lock()
	l := m.locks[name]
	m.mu.Unlock()
	<-l
}
