package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// egressPorts are the source ports that leaving connections get: below those
// that the host itself uses.
const egressPorts = "10000:29999"

// Egress says which leaving packets get the host's address as their source.
type Egress struct {
	Uplink  string       // the interface that they leave by
	Address netip.Addr   // the source that they get: the host's on that interface
	Pods    netip.Prefix // who sends them
	Cluster netip.Prefix // where pods are: packets to there keep their source
}

// rules returns what ipnat(8) is told, one rule a line: TCP and UDP with ports
// of their own, the rest as it is.
func (e Egress) rules() (string, error) {
	switch {
	case len(e.Uplink) > maxLinkName || !interfaceName.MatchString(e.Uplink):
		return "", fmt.Errorf("network: uplink %q: %w", e.Uplink, ErrName)
	case !e.Address.Is4(), !e.Pods.Addr().Is4(), !e.Cluster.Addr().Is4(),
		e.Pods != e.Pods.Masked(), e.Cluster != e.Cluster.Masked():
		return "", fmt.Errorf("network: translating %s to %s except to %s: want an IPv4 address and two IPv4 networks", e.Pods, e.Address, e.Cluster)
	}
	rule := fmt.Sprintf("map %s from %s ! to %s -> %s/32", e.Uplink, e.Pods, e.Cluster, e.Address)
	return rule + " portmap tcp/udp " + egressPorts + "\n" + rule + "\n", nil
}

// EnsureEgress makes packets of pods that leave the cluster come from the
// host's own address, which is where the answers find the way to. The packet
// filter must be enabled: see svc:/network/ipfilter. Other rules stay.
func (h *Host) EnsureEgress(ctx context.Context, e Egress) error {
	return h.changeNAT(ctx, e, false)
}

// RemoveEgress undoes [Host.EnsureEgress]. Rules that are not there are fine.
// Connections that are translated already stay so until they end.
func (h *Host) RemoveEgress(ctx context.Context, e Egress) error {
	return h.changeNAT(ctx, e, true)
}

// changeNAT adds or removes the rules of e. ipnat(8) exits with 0 whatever the
// kernel says to a rule, so what it has done is read back.
func (h *Host) changeNAT(ctx context.Context, e Egress, remove bool) error {
	text, err := e.rules()
	if err != nil {
		return err
	}
	want, err := h.canonical(ctx, text)
	if err != nil {
		return err
	}
	args := []string{"-f", "-"}
	if remove {
		args = []string{"-r", "-f", "-"}
	}
	todo, err := h.pending(ctx, want, remove)
	if err != nil || len(todo) == 0 {
		return err
	}
	if _, err := h.ipnat(ctx, strings.Join(todo, "\n")+"\n", args...); err != nil {
		return err
	}
	if todo, err = h.pending(ctx, want, remove); err != nil {
		return err
	}
	if len(todo) > 0 {
		return fmt.Errorf("network: ipnat has not done what it was told: %q", todo)
	}
	return nil
}

// canonical returns the rules as ipnat prints them, by letting it read them
// without loading them, which also finds whatever is wrong with them.
func (h *Host) canonical(ctx context.Context, rules string) ([]string, error) {
	out, err := h.ipnat(ctx, rules, "-R", "-nv", "-f", "-")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "map ") {
			list = append(list, line)
		}
	}
	if n := strings.Count(rules, "\n"); len(list) != n {
		return nil, fmt.Errorf("network: ipnat read %d of %d rules: %q", len(list), n, out)
	}
	return list, nil
}

// pending returns those of the rules that must still be added, or removed.
func (h *Host) pending(ctx context.Context, want []string, remove bool) ([]string, error) {
	out, err := h.ipnat(ctx, "", "-lR")
	if err != nil {
		return nil, err
	}
	have := activeRules(out)
	var todo []string
	for _, rule := range want {
		if slices.Contains(have, rule) == remove {
			todo = append(todo, rule)
		}
	}
	return todo, nil
}

// activeRules returns the first list that ipnat -l prints; the second one is
// of sessions.
func activeRules(out string) []string {
	var list []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "List of active MAP/Redirect filters"):
		case line == "", strings.HasPrefix(line, "List of "):
			return list
		default:
			list = append(list, line)
		}
	}
	return list
}

func (h *Host) ipnat(ctx context.Context, stdin string, args ...string) (string, error) {
	out, err := h.run.Run(ctx, command.Cmd{Name: "ipnat", Args: args, Stdin: stdin})
	if err == nil {
		return string(out), nil
	}
	var ce *command.Error
	if errors.As(err, &ce) && strings.Contains(ce.Stderr, "/dev/ipnat: open: ") {
		return "", fmt.Errorf("network: %w: %w", ErrNoNAT, err)
	}
	return "", fmt.Errorf("network: %w", err)
}
