package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"reddwarf.io/reddwarf/zones/command"
)

// ports are the source ports that translated connections get: below those that
// the host itself uses.
const ports = "10000:29999"

// portTag marks the redirects of host ports, for people who read ipnat's list.
const portTag = "rdwhostport"

// Egress says which leaving packets get the host's address as their source.
type Egress struct {
	Uplink  string       // the interface that they leave by
	Address netip.Addr   // the source that they get: the host's on that interface
	Pods    netip.Prefix // who sends them
	Cluster netip.Prefix // where pods are: packets to there keep their source
}

// rules returns what ipnat(8) is told: TCP and UDP with ports of their own, the
// rest as it is.
func (e Egress) rules() ([]string, error) {
	switch {
	case len(e.Uplink) > maxLinkName || !interfaceName.MatchString(e.Uplink):
		return nil, fmt.Errorf("network: uplink %q: %w", e.Uplink, ErrName)
	case !e.Address.Is4(), !e.Pods.Addr().Is4(), !e.Cluster.Addr().Is4(),
		e.Pods != e.Pods.Masked(), e.Cluster != e.Cluster.Masked():
		return nil, fmt.Errorf("network: translating %s to %s except to %s: want an IPv4 address and two IPv4 networks", e.Pods, e.Address, e.Cluster)
	}
	rule := fmt.Sprintf("map %s from %s ! to %s -> %s/32", e.Uplink, e.Pods, e.Cluster, e.Address)
	return []string{rule + " portmap tcp/udp " + ports, rule}, nil
}

// HostPort is a port of the host's address that leads to a pod.
type HostPort struct {
	Protocol string         // tcp or udp
	Host     netip.AddrPort // IPv4
	Pod      netip.AddrPort
}

// rules returns what makes a host port work for other machines and for this
// host's pods, whose packets come in on the gateway. A pod that asks is given
// the gateway's address as its source: it is the other's neighbour, and would
// get the answer past the translation.
func (p HostPort) rules(uplink, gateway string, pods netip.Prefix, gatewayAddr netip.Addr) ([]string, error) {
	switch {
	case p.Protocol != "tcp" && p.Protocol != "udp":
		return nil, fmt.Errorf("network: host port %v: protocol %q: want tcp or udp", p.Host, p.Protocol)
	case !p.Host.Addr().Is4() || !p.Pod.Addr().Is4() || p.Host.Port() == 0 || p.Pod.Port() == 0:
		return nil, fmt.Errorf("network: host port %v to %v: want IPv4 addresses with ports", p.Host, p.Pod)
	}
	age := ""
	if p.Protocol == "udp" {
		age = " age 30/30" // else a client that keeps its port stays with a pod that is gone
	}
	var out []string
	for _, iface := range []string{uplink, gateway} {
		out = append(out, fmt.Sprintf("rdr %s %s/32 port %d -> %s port %d %s%s tag %s",
			iface, p.Host.Addr(), p.Host.Port(), p.Pod.Addr(), p.Pod.Port(), p.Protocol, age, portTag))
	}
	return append(out, fmt.Sprintf("map %s from %s to %s/32 port = %d -> %s/32 portmap %s %s",
		gateway, pods, p.Pod.Addr(), p.Pod.Port(), gatewayAddr, p.Protocol, ports)), nil
}

// NAT keeps the host's own rules of ipnat: what leaves the cluster, and host
// ports. The rules of Services are another program's; each leaves the other's
// alone. Its methods may be called concurrently.
type NAT struct {
	h *Host

	mu     sync.Mutex
	uplink string
	plan   []netip.Prefix // gateway addresses
	egress *Egress
	owners map[string][]HostPort
}

// NAT returns the host's translation, which starts without a rule of its own.
// There is to be one for each Host.
func (h *Host) NAT() *NAT { return &NAT{h: h, owners: map[string][]HostPort{}} }

// Plan says what Sync works with: the gateways of p, its uplink, and the egress
// that there is to be, nil for none.
func (n *NAT) Plan(p Plan, e *Egress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.uplink, n.plan, n.egress = p.Uplink, slices.Clone(p.Gateways), e
}

// InUse says whether there are host ports.
func (n *NAT) InUse() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.owners) > 0
}

// ClaimPorts says that an owner has these ports already, as an earlier agent
// gave them. The next Sync sees to it.
func (n *NAT) ClaimPorts(owner string, list []HostPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners[owner] = list
}

// SetPorts makes the host ports of an owner these, none with an empty list.
func (n *NAT) SetPorts(ctx context.Context, owner string, list []HostPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, had := n.owners[owner]
	if len(list) == 0 {
		if !had {
			return nil // the usual pod: no command is run for it
		}
		delete(n.owners, owner)
	} else {
		n.owners[owner] = list
	}
	err := n.syncLocked(ctx)
	if err != nil && len(list) == 0 {
		n.owners[owner] = before // they may still be there
	}
	return err
}

// Sync makes the kernel's rules of ours what they should be.
func (n *NAT) Sync(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.syncLocked(ctx)
}

func (n *NAT) syncLocked(ctx context.Context) error {
	var want []string
	var errs []error
	take := func(rules []string, err error) {
		want, errs = append(want, rules...), append(errs, err)
	}
	if n.egress != nil {
		take(n.egress.rules())
	}
	for _, list := range n.owners {
		for _, p := range list {
			gw, ok := gatewayOf(n.plan, p.Pod.Addr())
			if !ok || n.uplink == "" {
				errs = append(errs, fmt.Errorf("network: host port %v to %v: the host has no uplink, or no gateway for the pod", p.Host, p.Pod))
				continue
			}
			take(p.rules(n.uplink, n.h.c.Gateway, gw.Masked(), gw.Addr()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // rather than to remove what the faulty ones were before
	}
	slices.Sort(want)
	return n.h.syncNAT(ctx, slices.Compact(want))
}

func gatewayOf(gateways []netip.Prefix, a netip.Addr) (netip.Prefix, bool) {
	for _, g := range gateways {
		if g.Masked().Contains(a) {
			return g, true
		}
	}
	return netip.Prefix{}, false
}

// syncNAT adds the rules that are missing and removes those that the record
// has and are not wanted. ipnat(8) exits with 0 whatever the kernel says to a
// rule, so what it has done is read back.
func (h *Host) syncNAT(ctx context.Context, rules []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.recordLocked()
	if err != nil || len(rules)+len(r.Rules) == 0 {
		return err
	}
	want, err := h.canonical(ctx, rules)
	if err != nil {
		return err
	}
	have, err := h.activeRules(ctx)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(have, s) })
	surplus := slices.DeleteFunc(slices.Clone(r.Rules), func(s string) bool { return slices.Contains(want, s) || !slices.Contains(have, s) })
	// A rule is written down before it is added. One that is there and was not
	// is somebody else's, also if it says the same.
	if err := r.change(func(r *record) { r.Rules = append(r.Rules, without(missing, r.Rules)...) }); err != nil {
		return err
	}
	if err := h.feed(ctx, missing, "-f", "-"); err != nil {
		return err
	}
	if err := h.feed(ctx, surplus, "-r", "-f", "-"); err != nil {
		return err
	}
	if len(missing)+len(surplus) > 0 {
		if have, err = h.activeRules(ctx); err != nil {
			return err
		}
	}
	failed := without(want, have)
	stays := slices.DeleteFunc(surplus, func(s string) bool { return !slices.Contains(have, s) })
	err = r.change(func(r *record) {
		r.Rules = slices.DeleteFunc(r.Rules, func(s string) bool { return !slices.Contains(want, s) && !slices.Contains(stays, s) })
	})
	if err == nil && len(failed)+len(stays) > 0 {
		err = fmt.Errorf("network: ipnat has not done what it was told: missing %q, too many %q", failed, stays)
	}
	return err
}

func without(list, these []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(these, s) })
}

// canonical returns the rules as ipnat prints them, by letting it read them
// without loading them, which also finds whatever is wrong with them.
func (h *Host) canonical(ctx context.Context, rules []string) ([]string, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	out, err := h.ipnat(ctx, rules, "-R", "-nv", "-f", "-")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "map ") || strings.HasPrefix(line, "rdr ") {
			list = append(list, line)
		}
	}
	if len(list) != len(rules) {
		return nil, fmt.Errorf("network: ipnat read %d of %d rules: %q", len(list), len(rules), out)
	}
	return list, nil
}

func (h *Host) activeRules(ctx context.Context) ([]string, error) {
	out, err := h.ipnat(ctx, nil, "-lR")
	return activeRules(out), err
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

func (h *Host) feed(ctx context.Context, rules []string, args ...string) error {
	if len(rules) == 0 {
		return nil
	}
	_, err := h.ipnat(ctx, rules, args...)
	return err
}

func (h *Host) ipnat(ctx context.Context, rules []string, args ...string) (string, error) {
	cmd := command.Cmd{Name: "ipnat", Args: args}
	if len(rules) > 0 {
		cmd.Stdin = strings.Join(rules, "\n") + "\n"
	}
	out, err := h.run.Run(ctx, cmd)
	if err == nil {
		return string(out), nil
	}
	var ce *command.Error
	if errors.As(err, &ce) && strings.Contains(ce.Stderr, "/dev/ipnat: open: ") {
		return "", fmt.Errorf("network: %w: %w", ErrNoNAT, err)
	}
	return "", fmt.Errorf("network: %w", err)
}
