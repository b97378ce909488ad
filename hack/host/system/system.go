// Package system is the rest of the simulated host's commands, those that say
// what the machine is and what runs on it: kstat, prctl, psrinfo, prtconf,
// swap, uname, isainfo, and SMF's svcs, svcadm and svccfg.
//
// What it prints of zones and links it is told through small interfaces. It
// refuses with a line that begins with "simulated host:" what it does not know.
package system

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says what the machine is.
type Config struct {
	Distro   string // omnios, smartos or openindiana; empty means omnios
	Hostname string // empty means host
	CPUs     int    // 0 means 4
	Memory   uint64 // bytes; 0 means 8 GiB
	Zones    Zones  // nil: there are none but the global zone
	Links    Links  // nil: there are none
	Clock    func() time.Time

	// Hooks are called after svcadm has changed a service, by its FMRI. Their
	// errors put the service into maintenance.
	Hooks map[string]Hook
}

// Hook does what a service's method does; action is enable, disable, restart
// or refresh.
type Hook func(ctx context.Context, action string) error

// Zone is a zone that is ready or running.
type Zone struct {
	ID      int
	Name    string
	Booted  time.Time // zero where it is only ready
	InitPID int       // 0 where nobody knows
	Caps    Caps
}

// Caps are a zone's limits, 0 for none.
type Caps struct {
	CPU          int    // percent of one CPU
	CPUShares    uint64 // 0 means 1
	MaxProcesses uint64
	MaxLWPs      uint64
	Physical     uint64 // bytes, as the next two
	Swap         uint64
	Locked       uint64
}

// Usage is what a zone has used.
type Usage struct {
	CPUNanoseconds    uint64 // in user mode and in the kernel
	SystemNanoseconds uint64 // of these in the kernel
	CappedNanoseconds uint64 // stopped by the CPU cap
	RSS, Swap         uint64 // bytes
	AllocFailures     uint64 // times that memory was wanted beyond the cap
	Processes         int
	LWPs              int
}

// Zones tells of the host's zones.
type Zones interface {
	// Active returns the zones that have an id, without the global one.
	Active(ctx context.Context) []Zone

	// Usage reads what a zone has used.
	Usage(ctx context.Context, id int) (Usage, error)

	// SetCaps changes a zone's limits until it halts.
	SetCaps(ctx context.Context, id int, c Caps) error
}

// Link is a data link with what has passed it, seen from its own side.
type Link struct {
	Name                  string
	Up                    bool
	InBytes, OutBytes     uint64
	InPackets, OutPackets uint64
	InErrors, OutErrors   uint64
	BitsPerSecond         uint64
	Multicast, Broadcasts uint64
}

// Links tells of the host's data links.
type Links interface {
	Stats(ctx context.Context) ([]Link, error)
}

// Model is the machine. Its methods may be called at the same time.
type Model struct {
	cfg    Config
	now    func() time.Time
	booted time.Time

	mu       sync.Mutex
	services []*service
	samples  map[int]cpuSample // by zone
	spent    map[int]uint64    // nanoseconds of processor time, by zone, also of those that are gone
}

// New returns a machine that has just booted.
func New(cfg Config) *Model {
	if cfg.Distro == "" {
		cfg.Distro = "omnios"
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "host"
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 4
	}
	if cfg.Memory == 0 {
		cfg.Memory = 8 << 30
	}
	m := &Model{cfg: cfg, now: cfg.Clock, spent: map[int]uint64{}}
	if m.now == nil {
		m.now = time.Now
	}
	if m.cfg.Zones == nil {
		m.cfg.Zones = noZones{}
	}
	if m.cfg.Links == nil {
		m.cfg.Links = noLinks{}
	}
	m.booted = m.now()
	m.services = standardServices(m.booted)
	return m
}

type noZones struct{}

func (noZones) Active(context.Context) []Zone             { return nil }
func (noZones) Usage(context.Context, int) (Usage, error) { return Usage{}, errNoZone }
func (noZones) SetCaps(context.Context, int, Caps) error  { return errNoZone }

type noLinks struct{}

func (noLinks) Stats(context.Context) ([]Link, error) { return nil, nil }

// constError is an error that is a constant.
type constError string

// Error returns the text.
func (e constError) Error() string { return string(e) }

const errNoZone = constError("no such zone")

// Commands returns the programs of this component by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{
		"kstat": m.kstat, "prctl": m.prctl, "psrinfo": m.psrinfo, "prtconf": m.prtconf, "swap": m.swap,
		"uname": m.uname, "isainfo": m.isainfo, "svcs": m.svcs, "svcadm": m.svcadm, "svccfg": m.svccfg,
		"ps": m.ps, "ctrun": m.ctrun,
	}
}

// Save returns the state of the services.
func (m *Model) Save() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return json.Marshal(m.services)
}

// Load replaces the services by what Save returned.
func (m *Model) Load(data []byte) error {
	var services []*service
	if err := json.Unmarshal(data, &services); err != nil {
		return fmt.Errorf("services: saved state: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services = services
	return nil
}

// Reboot is a power cycle: what was enabled or disabled for the time being
// only is forgotten, and every enabled service starts.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	m.booted = m.now()
	var enabled []string
	for _, s := range m.services {
		s.Since = m.booted
		s.State = "disabled"
		if s.Enabled {
			s.State = "online"
			enabled = append(enabled, s.FMRI)
		}
	}
	m.mu.Unlock()
	for _, fmri := range enabled {
		if h := m.cfg.Hooks[fmri]; h != nil {
			if err := h(ctx, "enable"); err != nil {
				return fmt.Errorf("service %s: %w", fmri, err)
			}
		}
	}
	return nil
}

// refuse says that the host would do what the simulation does not.
func refuse(inv *program.Invocation, format string, args ...any) int {
	inv.Errf("simulated host: "+format+"\n", args...)
	return 1
}

// options reads options as getopt(3C) does. bad is the option at which it gave
// up, or 0.
func options(args []string, spec string) (set map[byte][]string, rest []string, bad byte) {
	set = map[byte][]string{}
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			c := word[i]
			at := strings.IndexByte(spec, c)
			if c == ':' || at < 0 {
				return set, args, c
			}
			if at+1 == len(spec) || spec[at+1] != ':' {
				set[c] = append(set[c], "")
				continue
			}
			value := word[i+1:]
			if value == "" {
				if len(args) == 0 {
					return set, args, c
				}
				value, args = args[0], args[1:]
			}
			set[c] = append(set[c], value)
			break
		}
	}
	return set, args, 0
}

// has says whether a flag was given; last returns its last value.
func has(set map[byte][]string, flag byte) bool { return len(set[flag]) > 0 }

func last(set map[byte][]string, flag byte) string {
	if v := set[flag]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
