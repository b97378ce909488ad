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

	"reddwarf.io/reddwarf/zones/command"
)

// Config names the links that a Host makes for itself.
type Config struct {
	// Etherstub is the virtual switch of all pods. Empty means reddwarf0.
	Etherstub string

	// Gateway is the VNIC on it that carries the node's gateway addresses.
	// Empty means rdwgw0.
	Gateway string
}

// Host is the network of the machine's global zone.
type Host struct {
	run command.Runner
	c   Config
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

// Setup makes the etherstub and the gateway VNIC with the given addresses, at
// most one of each family, lets the host forward packets of those families,
// and stops it from sending ICMP redirects, because traffic to a Service turns
// around on one interface. Whatever is so already stays as it is; an address
// that differs is replaced.
func (h *Host) Setup(ctx context.Context, gateways []netip.Prefix) error {
	if err := h.checkSetup(gateways); err != nil {
		return err
	}
	if err := h.setupLinks(ctx); err != nil {
		return err
	}
	have, err := h.addresses(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		if err := h.ensureAddress(ctx, have, g); err != nil {
			return err
		}
		family := "ipv4"
		if g.Addr().Is6() {
			family = "ipv6"
		}
		for property, value := range map[string]string{"forwarding": "on", "_send_redirects": "0"} {
			if err := h.ensureProperty(ctx, family, property, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *Host) checkSetup(gateways []netip.Prefix) error {
	if err := errors.Join(ValidLinkName(h.c.Etherstub), ValidLinkName(h.c.Gateway)); err != nil {
		return err
	}
	seen := map[bool]bool{}
	for _, g := range gateways {
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
		return h.EnsureVNIC(ctx, h.c.Gateway)
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

// ensureProperty sets a property of a protocol until the next reboot.
func (h *Host) ensureProperty(ctx context.Context, protocol, property, value string) error {
	out, err := h.run.Run(ctx, command.New("ipadm", "show-prop", "-c", "-o", "current", "-p", property, protocol))
	if err != nil {
		return fmt.Errorf("network: %w", classify(err))
	}
	if strings.TrimSpace(string(out)) == value {
		return nil
	}
	return h.ipadm(ctx, "set-prop", "-t", "-p", property+"="+value, protocol)
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
