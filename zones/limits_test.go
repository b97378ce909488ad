package zones_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/system"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// running is one running zone with its caps, for prctl.
type running struct {
	caps system.Caps
	used system.Usage
}

func (r *running) Active(context.Context) []system.Zone {
	return []system.Zone{{ID: 7, Name: "web", Caps: r.caps}}
}
func (r *running) Usage(context.Context, int) (system.Usage, error) { return r.used, nil }
func (r *running) SetCaps(_ context.Context, _ int, c system.Caps) error {
	r.caps = c
	return nil
}

// prctl runs the simulated host's prctl, and counts what changes something.
type prctl struct {
	commands map[string]program.Command
	changes  []string
}

func (p *prctl) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	var out, errOut bytes.Buffer
	code := p.commands[c.Name](ctx, &program.Invocation{
		Argv: append([]string{c.Name}, c.Args...), Dir: "/", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut,
	})
	if !slices.Contains(c.Args, "-P") {
		p.changes = append(p.changes, strings.Join(c.Args, " "))
	}
	if code != 0 {
		return nil, &command.Error{Cmd: c, ExitCode: code, Stderr: errOut.String(), Err: errors.New("exit status")}
	}
	return out.Bytes(), nil
}

func (p *prctl) Stream(context.Context, command.Cmd, io.Reader, io.Writer) error {
	return errors.New("not streamed")
}

func TestSetLimits(t *testing.T) {
	const mib = 1 << 20
	full := zones.Limits{CPUCap: 150, CPUShares: 20, Memory: zones.Memory{Physical: 200 * mib, Swap: 200 * mib}}
	for _, tt := range []struct {
		name    string
		distro  string
		before  system.Caps
		want    zones.Limits
		after   system.Caps
		changes int
	}{
		{"from none", "omnios", system.Caps{}, full, system.Caps{CPU: 150, CPUShares: 20, Physical: 200 * mib, Swap: 200 * mib}, 4},
		{
			"raised and lowered", "omnios", system.Caps{CPU: 200, CPUShares: 20, Physical: 100 * mib, Swap: 100 * mib}, full,
			system.Caps{CPU: 150, CPUShares: 20, Physical: 200 * mib, Swap: 200 * mib}, 3,
		},
		{"as it is", "omnios", system.Caps{CPU: 150, CPUShares: 20, Physical: 200 * mib, Swap: 200 * mib}, full, system.Caps{CPU: 150, CPUShares: 20, Physical: 200 * mib, Swap: 200 * mib}, 0},
		{"to none", "omnios", system.Caps{CPU: 150, CPUShares: 20, Swap: 200 * mib}, zones.Limits{}, system.Caps{CPUShares: 20}, 2},
		{"without a cap on resident memory", "openindiana", system.Caps{}, full, system.Caps{CPU: 150, CPUShares: 20, Swap: 200 * mib}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &running{caps: tt.before, used: system.Usage{Swap: 80 * mib, RSS: 60 * mib}}
			p := &prctl{commands: system.New(system.Config{Distro: tt.distro, Zones: r}).Commands()}
			h := zones.New(p, zones.Features{})
			if err := h.SetLimits(t.Context(), "web", tt.want); err != nil {
				t.Fatal(err)
			}
			if r.caps != tt.after || len(p.changes) != tt.changes {
				t.Errorf("caps %+v by %q, want %+v by %d changes", r.caps, p.changes, tt.after, tt.changes)
			}
		})
	}
}

func TestSetLimitsRefuses(t *testing.T) {
	r := &running{caps: system.Caps{Swap: 200 << 20, CPU: 100}, used: system.Usage{Swap: 150 << 20}}
	p := &prctl{commands: system.New(system.Config{Zones: r}).Commands()}
	h := zones.New(p, zones.Features{})
	err := h.SetLimits(t.Context(), "web", zones.Limits{CPUCap: 50, Memory: zones.Memory{Swap: 100 << 20}})
	if !errors.Is(err, zones.ErrBelowUsage) || len(p.changes) != 0 {
		t.Errorf("less memory than is in use: %v, changes %q", err, p.changes)
	}
	if err := h.SetLimits(t.Context(), "gone", zones.Limits{}); err == nil {
		t.Error("limits of a zone that does not run were set")
	}
	if err := h.SetLimits(t.Context(), "-i", zones.Limits{}); err == nil {
		t.Error("a name that is an option was taken")
	}
}
