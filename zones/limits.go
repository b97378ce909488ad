package zones

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Limits are the resource controls of a zone that can be changed while it
// runs. Zero means none.
type Limits struct {
	CPUCap    int    // hundredths of a processor
	CPUShares uint64 // fair-share weight
	Memory    Memory
}

// ErrBelowUsage means that a running zone uses more than it is to be limited
// to. It may use less later.
var ErrBelowUsage = errors.New("below what the zone uses")

// controls are the rctls of Limits by prctl(1)'s names, in the order in which
// they are changed.
func (l Limits) controls() []control {
	return []control{
		{"zone.max-physical-memory", l.Memory.Physical},
		{"zone.max-swap", l.Memory.Swap},
		{"zone.max-locked-memory", l.Memory.Locked},
		{"zone.cpu-cap", uint64(l.CPUCap)},
		{"zone.cpu-shares", l.CPUShares},
	}
}

type control struct {
	name  string
	value uint64
}

// rctl is what a running zone has of one control.
type rctl struct {
	known, set bool
	value      uint64 // the privileged value, where set
	usage      uint64
}

// SetLimits changes the limits of a running zone. What is so already is left
// alone. The zone's configuration is not touched: the next boot has its
// limits. A control that the host's kernel does not have is passed over:
// without zone.max-physical-memory, memory is bounded by swap alone.
func (h *Host) SetLimits(ctx context.Context, name string, l Limits) error {
	if err := checkName(name); err != nil {
		return opError("prctl", name, err)
	}
	out, err := h.run.Run(ctx, command.New("prctl", "-P", "-i", "zone", name))
	if err != nil {
		return opError("prctl", name, err)
	}
	have, err := parseControls(out)
	if err != nil {
		return opError("prctl", name, err)
	}
	for _, c := range l.controls() {
		if now := have[c.name]; c.name == "zone.max-swap" && c.value > 0 && now.usage > c.value {
			return opError("prctl", name, fmt.Errorf("%w: %s to %d, but %d are in use", ErrBelowUsage, c.name, c.value, now.usage))
		}
	}
	for _, c := range l.controls() {
		now := have[c.name]
		args := []string{"-n", c.name, "-t", "privileged"}
		switch {
		case !now.known, now.set && now.value == c.value, !now.set && c.value == 0:
			continue
		case c.value == 0 && c.name == "zone.cpu-shares":
			continue // every zone has at least one
		case c.value == 0:
			args = append(args, "-x")
		case now.set:
			args = append(args, "-r", "-v", strconv.FormatUint(c.value, 10))
		default:
			args = append(args, "-s", "-v", strconv.FormatUint(c.value, 10))
		}
		if _, err := h.run.Run(ctx, command.New("prctl", append(args, "-i", "zone", name)...)); err != nil {
			return opError("prctl", name, err)
		}
	}
	return nil
}

// parseControls reads prctl -P: after a line about the zone, lines of name,
// privilege, value, flag, action and recipient.
func parseControls(out []byte) (map[string]rctl, error) {
	all := map[string]rctl{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "zone.") {
			continue // "zone: ID: NAME"
		}
		if len(f) < 3 {
			return nil, fmt.Errorf("prctl printed %q", strings.TrimSpace(line))
		}
		n, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("prctl printed %q: %w", strings.TrimSpace(line), err)
		}
		r := all[f[0]]
		r.known = true
		switch f[1] {
		case "usage":
			r.usage = n
		case "privileged":
			if !r.set || n < r.value { // the smallest of several counts
				r.set, r.value = true, n
			}
		}
		all[f[0]] = r
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("prctl printed no controls: %.200q", out)
	}
	return all, nil
}
