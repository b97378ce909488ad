// Package host puts the models of all commands of the simulated host together:
// one Model is one illumos machine.
//
// A Model made without backends lives in memory and is a command.Host: unit
// tests hand it to the agent's packages in place of the real host. With
// backends its effects are real, and a supervisor serves the commands as
// programs (see cmd/host). Both run a command the same way, with the same
// faults and the same trace.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"strings"
	"time"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/mounts"
	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/system"
	"reddwarf.io/reddwarf/hack/host/zfs"
	"reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// Model is one simulated host. Its methods may be called at any time from any
// goroutine.
type Model struct {
	// The components, for tests that look into the host.
	Zones  *zones.Model
	Links  *datalink.Model
	NAT    *ipf.Model
	ZFS    *zfs.Model
	Mounts *mounts.Model
	Rest   *system.Model // what only looks at the others, and the services

	parts    []part
	dispatch dispatcher
	kill     func()
	real     bool
}

// part is a component as far as they are all alike.
type part struct {
	name string
	component
}

type component interface {
	Commands() map[string]program.Command
	Save() ([]byte, error)
	Load(data []byte) error
	Reboot(ctx context.Context) error
}

var _ command.Host = (*Model)(nil)

// NewModel returns a host. One without backends is ready for use; otherwise
// Start or Load comes next.
func NewModel(opts ...Option) *Model {
	o := defaults()
	for _, opt := range opts {
		opt(&o)
	}
	m := &Model{kill: o.kill, real: o.backends != Backends{}}
	m.ZFS = zfs.New(zfs.Config{Pool: o.pool, Size: o.poolSize, Backend: o.backends.ZFS, Clock: o.clock})
	m.Links = datalink.New(datalink.Config{Distro: o.distro, Backend: o.backends.Links, Uplinks: o.uplinks})
	m.NAT = ipf.New(ipf.Config{Backend: o.backends.NAT})
	m.Zones = zones.New(zones.Config{
		Distro: zones.Distro(o.distro), Backend: o.backends.Zones, Links: m.Links, Datasets: m.ZFS,
		Paths: o.paths, Clock: o.clock, Log: o.log,
	})
	m.Mounts = newMounts(o, m.Zones, m.ZFS)
	m.Rest = newSystem(o, m.Zones, m.Links, m.NAT)
	// In the order in which a machine loses them: what uses others first.
	m.parts = []part{{"zones", m.Zones}, {"mounts", m.Mounts}, {"ipf", m.NAT}, {"datalink", m.Links}, {"zfs", m.ZFS}, {"system", m.Rest}}
	m.dispatch.clock = o.clock
	m.dispatch.commands = make(map[string]program.Command)
	for _, p := range m.parts {
		maps.Copy(m.dispatch.commands, p.Commands())
	}
	m.dispatch.tracer.to(o.trace)
	if !m.real {
		// In memory there is nothing that can fail.
		_ = m.Start(context.Background())
	}
	return m
}

// Start makes what a freshly installed host has: its pool's root file system.
func (m *Model) Start(ctx context.Context) error {
	if err := m.ZFS.Start(ctx); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return nil
}

// Close ends what the host is doing. Zones stay as they are.
func (m *Model) Close() { m.Zones.Close() }

// Save returns what survives on the host's disks.
func (m *Model) Save() ([]byte, error) {
	state := make(map[string]json.RawMessage)
	for _, p := range m.parts {
		data, err := p.Save()
		if err != nil {
			return nil, fmt.Errorf("host: save %s: %w", p.name, err)
		}
		state[p.name] = data
	}
	return json.Marshal(state)
}

// Load replaces the state by one that Save returned. Reboot follows it, which
// makes it real.
func (m *Model) Load(data []byte) error {
	var state map[string]json.RawMessage
	if err := json.Unmarshal(data, &state); err != nil {
		return fmt.Errorf("host: load: %w", err)
	}
	for _, p := range m.parts {
		if err := p.Load(state[p.name]); err != nil {
			return fmt.Errorf("host: load %s: %w", p.name, err)
		}
	}
	return nil
}

// Reboot is a power cycle.
func (m *Model) Reboot(ctx context.Context) error {
	var errs []error
	for _, p := range m.parts {
		if err := p.Reboot(ctx); err != nil {
			errs = append(errs, fmt.Errorf("host: reboot: %s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// Has reports whether the host has a command of that name.
func (m *Model) Has(name string) bool { return m.dispatch.has(name) }

// Do runs a command that the host has, and returns its exit code. kill kills
// whoever called it; faults may ask for that.
func (m *Model) Do(ctx context.Context, inv *program.Invocation, kill func()) int {
	return m.dispatch.do(ctx, inv, kill)
}

// DoInZone runs a command that a program of a running zone has called, and
// returns its exit code. Zones have few of the host's commands. Neither faults
// nor the trace are for them: those are the global zone's.
func (m *Model) DoInZone(ctx context.Context, id int, inv *program.Invocation) int {
	name := inv.Argv[0]
	if name == "zonename" {
		for _, z := range m.Zones.Active() {
			if z.ID == id {
				inv.Outf("%s\n", z.Name)
				return 0
			}
		}
	}
	commands, err := m.Links.ZoneCommands(id)
	if err != nil {
		inv.Errf("simulated host: %s: %v\n", name, err)
		return 1
	}
	run, ok := commands[name]
	if !ok {
		inv.Errf("simulated host: zones have no command %s\n", name)
		return 127
	}
	return run(ctx, inv)
}

// AddFault makes commands go wrong.
func (m *Model) AddFault(f Fault) error {
	if err := f.Validate(); err != nil {
		return err
	}
	m.dispatch.faults.add(f)
	return nil
}

// Fail makes commands that match, see Fault.Match, exit with code after they
// said stderr, without doing anything.
func (m *Model) Fail(match string, code int, stderr string) error {
	return m.AddFault(Fault{Match: match, Exit: code, Stderr: stderr})
}

// Delay makes commands that match take longer.
func (m *Model) Delay(match string, d time.Duration) error {
	return m.AddFault(Fault{Match: match, Delay: d})
}

// Hang makes commands that match run until they are killed.
func (m *Model) Hang(match string) error { return m.AddFault(Fault{Match: match, Hang: true}) }

// ClearFaults makes everything go well again.
func (m *Model) ClearFaults() { m.dispatch.faults.clear() }

// Faults returns the faults in force.
func (m *Model) Faults() []Fault { return m.dispatch.faults.all() }

// Trace writes a Record for every command to w, as JSON lines; nil ends that.
func (m *Model) Trace(w io.Writer) { m.dispatch.tracer.to(w) }

// Run implements command.Runner.
func (m *Model) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, command.DefaultTimeout)
		defer cancel()
	}
	var out bytes.Buffer
	if err := m.run(ctx, cmd, strings.NewReader(cmd.Stdin), &out); err != nil {
		var ce *command.Error
		if errors.As(err, &ce) {
			ce.Stdout = out.String()
		}
		return nil, err
	}
	return out.Bytes(), nil
}

// Stream implements command.Streamer.
func (m *Model) Stream(ctx context.Context, cmd command.Cmd, stdin io.Reader, stdout io.Writer) error {
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	if stdout == nil {
		stdout = io.Discard
	}
	return m.run(ctx, cmd, stdin, stdout)
}

// exitError is the cause of a *command.Error for a program that ran.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (m *Model) run(ctx context.Context, cmd command.Cmd, stdin io.Reader, stdout io.Writer) error {
	if !m.Has(cmd.Name) {
		return &command.Error{Cmd: cmd, ExitCode: -1, Err: &exec.Error{Name: cmd.Name, Err: exec.ErrNotFound}}
	}
	if ctx.Err() != nil {
		return &command.Error{Cmd: cmd, ExitCode: -1, Err: context.Cause(ctx)}
	}
	var errOut bytes.Buffer
	inv := &program.Invocation{
		Argv: append([]string{cmd.Name}, cmd.Args...), Dir: "/",
		Stdin: stdin, Stdout: stdout, Stderr: &errOut, Files: Files("/"),
	}
	code := m.Do(ctx, inv, m.kill)
	switch {
	case ctx.Err() != nil && code != 0:
		return &command.Error{Cmd: cmd, ExitCode: -1, Stderr: errOut.String(), Err: context.Cause(ctx)}
	case code != 0:
		return &command.Error{Cmd: cmd, ExitCode: code, Stderr: errOut.String(), Err: exitError(code)}
	case cmd.Silent && errOut.Len() > 0:
		return &command.Error{Cmd: cmd, Stderr: errOut.String(), Err: command.ErrComplained}
	}
	return nil
}
