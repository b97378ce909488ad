// Package network gives pods their data links and the host its part in them:
// an etherstub, the gateway's VNIC with its addresses, forwarding, routes. It
// works through dladm(8), ipadm(8), route(8) and ipnat(8).
//
// It knows nothing of pods: a VNIC is a name, an address is a number.
//
// Its one surprising rule: every link and address it makes is temporary, so a
// reboot of the host leaves none behind; the agent makes them again when it
// starts.
package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"reddwarf.io/reddwarf/zones/command"
)

// Config names the links that a Host makes for itself.
type Config struct {
	// Etherstub is the virtual switch of all pods. Empty means reddwarf0.
	Etherstub string

	// Gateway is the VNIC on it that carries the node's gateway addresses.
	// Empty means rdwgw0.
	Gateway string

	// Record is the file that tells our routes and rules from other people's.
	// It should not outlive a reboot of the host. Empty keeps the record in
	// memory, for a Host that makes neither.
	Record string
}

// Host is the network of the machine's global zone. Its methods may be called
// concurrently.
type Host struct {
	run command.Runner
	c   Config

	mtu atomic.Int64 // of links that are made; 0 for what the host chooses

	mu     sync.Mutex // over routes, rules and settings
	record *record    // nil until it was read
}

// New returns the Host that c describes. It runs nothing; see [Host.Setup].
func New(r command.Runner, c Config) *Host {
	if c.Etherstub == "" {
		c.Etherstub = "reddwarf0"
	}
	if c.Gateway == "" {
		c.Gateway = "rdwgw0"
	}
	return &Host{run: r, c: c}
}

// Gateway returns the name of the gateway's VNIC.
func (h *Host) Gateway() string { return h.c.Gateway }

// recordLocked returns the record, which it reads once.
func (h *Host) recordLocked() (*record, error) {
	if h.record == nil {
		r, err := readRecord(h.c.Record)
		if err != nil {
			return nil, err
		}
		h.record = r
	}
	return h.record, nil
}

// Plan says what Setup makes.
type Plan struct {
	// Gateways are the node's addresses towards its pods, at most one of each
	// family.
	Gateways []netip.Prefix

	// Uplink is the interface towards other machines. Empty means that there
	// is none and pods reach one another only.
	Uplink string

	// MTU is that of all links of pods; 0 leaves it to the host. An etherstub
	// would carry more than the uplink does, and what is too large for it would
	// have to be cut or refused on its way out.
	MTU int
}

// Setup makes the etherstub and the gateway VNIC with its addresses, lets the
// gateway and the uplink forward packets of those families, and stops the host
// from sending ICMP redirects, because traffic to a Service turns around on one
// interface. Whatever is so already stays as it is; an address that differs is
// replaced.
func (h *Host) Setup(ctx context.Context, p Plan) error {
	if err := h.checkSetup(p); err != nil {
		return err
	}
	h.mtu.Store(int64(p.MTU))
	if err := h.setupLinks(ctx); err != nil {
		return err
	}
	have, err := h.addresses(ctx)
	if err != nil {
		return err
	}
	for _, g := range p.Gateways {
		if err := h.ensureAddress(ctx, have, g); err != nil {
			return err
		}
		if err := h.setupForwarding(ctx, family(g.Addr()), p.Uplink); err != nil {
			return err
		}
	}
	return nil
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// setupForwarding makes the host a router between the gateway and the uplink,
// and between no others.
func (h *Host) setupForwarding(ctx context.Context, family, uplink string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.ensure(ctx, setting{protocol: family, property: "_send_redirects"}, "0", true)
	if err != nil {
		return err
	}
	if err := h.ensure(ctx, setting{h.c.Gateway, family, "forwarding"}, "on", false); err != nil {
		return err
	}
	if uplink == "" {
		return nil
	}
	err = h.ensure(ctx, setting{uplink, family, "forwarding"}, "on", true)
	if family == "ipv6" && errors.Is(err, ErrNotFound) {
		return nil // an uplink without IPv6: there is nowhere to forward to
	}
	return err
}

func (h *Host) checkSetup(p Plan) error {
	if err := errors.Join(ValidLinkName(h.c.Etherstub), ValidLinkName(h.c.Gateway)); err != nil {
		return err
	}
	if p.Uplink != "" && (len(p.Uplink) > maxLinkName || !interfaceName.MatchString(p.Uplink)) {
		return fmt.Errorf("network: uplink %q: %w", p.Uplink, ErrName)
	}
	if p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU) {
		return fmt.Errorf("network: MTU %d: a VNIC has %d to %d", p.MTU, minMTU, maxMTU)
	}
	seen := map[bool]bool{}
	for _, g := range p.Gateways {
		if !g.IsValid() || g.Addr().Is4In6() || g.Addr().Zone() != "" {
			return fmt.Errorf("network: gateway %q: not an address with its prefix length", g)
		}
		if seen[g.Addr().Is6()] {
			return fmt.Errorf("network: gateway %s: a second address of its family", g)
		}
		seen[g.Addr().Is6()] = true
	}
	return nil
}

func (h *Host) setupLinks(ctx context.Context) error {
	links, err := h.links(ctx)
	if err != nil {
		return err
	}
	switch l, ok := links[h.c.Etherstub]; {
	case !ok:
		err := h.dladm(ctx, "create-etherstub", "-t", h.c.Etherstub)
		if err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	case l.class != "etherstub":
		return fmt.Errorf("network: link %s: %w: it is of class %s, not etherstub", h.c.Etherstub, ErrConflict, l.class)
	}
	switch l, ok := links[h.c.Gateway]; {
	case !ok:
		return h.EnsureVNIC(ctx, VNIC{Name: h.c.Gateway})
	case l.class != "vnic" || l.over != h.c.Etherstub:
		return fmt.Errorf("network: link %s: %w: it is a %s over %q", h.c.Gateway, ErrConflict, l.class, l.over)
	}
	return nil
}

// ensureAddress gives the gateway VNIC one address. have is what the host has.
func (h *Host) ensureAddress(ctx context.Context, have []address, want netip.Prefix) error {
	object := h.c.Gateway + "/v4"
	if want.Addr().Is6() {
		object = h.c.Gateway + "/v6"
	}
	for _, a := range have {
		if a.object != object {
			continue
		}
		if a.prefix == want && a.usable() {
			return nil
		}
		if err := h.ipadm(ctx, "delete-addr", object); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	err := h.ipadm(ctx, "create-addr", "-t", "-T", "static", "-a", want.String(), object)
	if errors.Is(err, ErrExists) {
		return nil // another run of the agent was quicker
	}
	return err
}

// setting is a property of a protocol, or of one interface for it.
type setting struct{ iface, protocol, property string }

func (s setting) key() string {
	return strings.TrimSpace(s.iface + " " + s.protocol + " " + s.property)
}

func settingOf(key string) (setting, bool) {
	switch f := strings.Fields(key); len(f) {
	case 2:
		return setting{"", f[0], f[1]}, true
	case 3:
		return setting{f[0], f[1], f[2]}, true
	}
	return setting{}, false
}

// ensure gives a setting a value until the next reboot, and remembers, where it
// is asked to, what it was before. Call it with the lock held.
func (h *Host) ensure(ctx context.Context, s setting, value string, remember bool) error {
	now, err := h.current(ctx, s)
	if err != nil || now == value {
		return err
	}
	if remember {
		r, err := h.recordLocked()
		if err != nil {
			return err
		}
		err = r.change(func(r *record) {
			if _, known := r.Before[s.key()]; !known {
				r.Before[s.key()] = now
			}
		})
		if err != nil {
			return err
		}
	}
	return h.set(ctx, s, value)
}

func (h *Host) current(ctx context.Context, s setting) (string, error) {
	args := []string{"show-prop", "-c", "-o", "current", "-p", s.property, s.protocol}
	if s.iface != "" {
		args = []string{"show-ifprop", "-c", "-o", "current", "-p", s.property, "-m", s.protocol, s.iface}
	}
	out, err := h.run.Run(ctx, command.New("ipadm", args...))
	if err != nil {
		return "", fmt.Errorf("network: %w", classify(err))
	}
	return strings.TrimSpace(string(out)), nil
}

func (h *Host) set(ctx context.Context, s setting, value string) error {
	if s.iface != "" {
		return h.ipadm(ctx, "set-ifprop", "-t", "-p", s.property+"="+value, "-m", s.protocol, s.iface)
	}
	return h.ipadm(ctx, "set-prop", "-t", "-p", s.property+"="+value, s.protocol)
}

func (h *Host) dladm(ctx context.Context, args ...string) error {
	_, err := h.run.Run(ctx, command.New("dladm", args...))
	if err != nil {
		return fmt.Errorf("network: %w", classify(err))
	}
	return nil
}

func (h *Host) ipadm(ctx context.Context, args ...string) error {
	_, err := h.run.Run(ctx, command.New("ipadm", args...))
	if err != nil {
		return fmt.Errorf("network: %w", classify(err))
	}
	return nil
}
