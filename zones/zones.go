// Package zones models illumos zones: their configuration (zonecfg(8)), their
// lifecycle (zoneadm(8)) and the channel to process 1 inside one (zlogin(1) or
// a socket).
//
// It knows nothing of pods. A zone that is not configured is not an error
// here: Zone reports it as Absent, and Delete of an absent zone does nothing.
// Zones are never installed or uninstalled by zoneadm, whose hooks would copy
// or destroy file systems that are the caller's: their state is marked.
package zones

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// State is where a zone stands in its life (zones(7)). Only Configured,
// Incomplete and Installed survive a reboot of the machine.
type State int

// The states, with zoneadm's names. Ready, Running, ShuttingDown and Down have
// a zone id in the kernel.
const (
	Absent       State = iota // not configured; zoneadm has no name for it
	Configured                // has a configuration and nothing else
	Incomplete                // an install or uninstall did not finish
	Installed                 // has a root and does not run
	Ready                     // file systems and links are set up, no process runs
	Running                   // init was started; it need not have got far
	ShuttingDown              // processes are being killed
	Down                      // no process is left, but something still holds the zone
	Mounted                   // its root is mounted for maintenance
)

// States are all states, for code that must treat each.
var States = []State{Absent, Configured, Incomplete, Installed, Ready, Running, ShuttingDown, Down, Mounted}

var stateNames = [...]string{
	"absent", "configured", "incomplete", "installed", "ready", "running", "shutting_down", "down", "mounted",
}

// String returns zoneadm's name of the state.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", int(s))
	}
	return stateNames[s]
}

func parseState(name string) (State, error) {
	for i, n := range stateNames {
		if n == name && State(i) != Absent {
			return State(i), nil
		}
	}
	return Absent, fmt.Errorf("unknown zone state %q", name)
}

// Zone is one line of zoneadm list.
type Zone struct {
	ID     int // the kernel's, -1 if the zone is not active
	Name   string
	State  State
	Path   string // the zonepath
	UUID   string // empty while Configured
	Brand  string
	IPType string // excl or shared
}

// Host runs the zones of one machine. Its methods may be called from several
// goroutines for different zones; for one zone the caller keeps an order,
// because two runs of zonecfg on the same zone do not exclude each other.
type Host struct {
	run      command.Host
	features Features
	scripts  string
}

// DefaultScripts is where Configure writes its command files unless Scripts
// says otherwise. Nobody but root can write to /var/run.
const DefaultScripts = "/var/run/reddwarf/zonecfg"

// Option changes a Host that New makes.
type Option func(*Host)

// Scripts sets the directory for zonecfg's command files. It is made if
// missing, and must belong to the agent alone.
func Scripts(dir string) Option {
	return func(h *Host) { h.scripts = dir }
}

// New returns the Host that acts through run, on a distribution with f.
func New(run command.Host, f Features, options ...Option) *Host {
	h := &Host{run: run, features: f, scripts: DefaultScripts}
	for _, o := range options {
		o(h)
	}
	return h
}

// Features returns what New was told of the distribution.
func (h *Host) Features() Features { return h.features }

// haltTimeout bounds zoneadm halt, which retries its unmounts every two
// seconds up to thirty times for each file system that is busy.
const haltTimeout = 3 * time.Minute

// List returns every zone but the global one.
func (h *Host) List(ctx context.Context) ([]Zone, error) {
	out, err := h.run.Run(ctx, command.New("zoneadm", "list", "-cp"))
	if err != nil {
		return nil, opError("list", "", err)
	}
	all, err := parseList(out)
	if err != nil {
		return nil, opError("list", "", err)
	}
	return all, nil
}

// Zone returns one zone. For a zone that is not configured the state is Absent
// and the error nil.
func (h *Host) Zone(ctx context.Context, name string) (Zone, error) {
	absent := Zone{ID: -1, Name: name, State: Absent}
	if err := checkName(name); err != nil {
		return absent, opError("list", name, err)
	}
	out, err := h.run.Run(ctx, command.New("zoneadm", "-z", name, "list", "-p"))
	if err != nil {
		err = opError("list", name, err)
		if errors.Is(err, ErrNotFound) {
			return absent, nil
		}
		return absent, err
	}
	all, err := parseList(out)
	if err == nil && (len(all) != 1 || all[0].Name != name) {
		err = fmt.Errorf("zoneadm answered about %d other zones", len(all))
	}
	if err != nil {
		return absent, opError("list", name, err)
	}
	return all[0], nil
}

// MarkInstalled declares that the zone's root has been prepared. Marking what
// is installed does nothing.
func (h *Host) MarkInstalled(ctx context.Context, name string) error {
	return h.admin(ctx, name, "mark", "-F", "installed")
}

// MarkConfigured declares that the zone has no root any more, so that its
// configuration may be deleted. The zone must not be running.
func (h *Host) MarkConfigured(ctx context.Context, name string) error {
	return h.admin(ctx, name, "mark", "-F", "configured")
}

// Boot boots an installed zone and returns when its init has been started.
// Booting a zone that runs does nothing.
func (h *Host) Boot(ctx context.Context, name string) error {
	return h.admin(ctx, name, "boot")
}

// Halt kills every process of a zone and takes it down. Halting a zone that
// does not run, or is not there, does nothing. A zone that something still
// holds stays Down, which is an error and worth a retry.
func (h *Host) Halt(ctx context.Context, name string) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, haltTimeout)
		defer cancel()
	}
	err := h.admin(ctx, name, "halt")
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case errors.Is(err, ErrState):
		// zoneadm refuses to halt what is only configured.
		if z, zerr := h.Zone(ctx, name); zerr == nil && z.ID < 0 && z.State != Mounted {
			return nil
		}
	}
	return err
}

func (h *Host) admin(ctx context.Context, name string, args ...string) error {
	if err := checkName(name); err != nil {
		return opError(args[0], name, err)
	}
	_, err := h.run.Run(ctx, command.New("zoneadm", append([]string{"-z", name}, args...)...))
	return opError(args[0], name, err)
}
