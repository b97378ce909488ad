package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// address is one address of the host as ipadm show-addr prints it.
type address struct {
	object, kind, state string
	prefix              netip.Prefix // invalid where ipadm prints a host name or "?"
}

// usable tells whether packets can be sent from the address.
func (a address) usable() bool { return a.state == "ok" || a.state == "tentative" }

// link returns the interface that has the address.
func (a address) link() string {
	name, _, _ := strings.Cut(a.object, "/")
	return name
}

func (h *Host) addresses(ctx context.Context) ([]address, error) {
	out, err := h.run.Run(ctx, command.New("ipadm", "show-addr", "-p", "-o", "addrobj,type,state,addr"))
	if err != nil {
		return nil, fmt.Errorf("network: %w", classify(err))
	}
	return parseAddresses(string(out))
}

func parseAddresses(out string) ([]address, error) {
	rows, err := parseRows(out, 4)
	if err != nil {
		return nil, err
	}
	var list []address
	for _, r := range rows {
		a := address{object: r[0], kind: r[1], state: r[2]}
		// A point-to-point address is "LOCAL->REMOTE", a link-local one has a
		// zone; neither is one that we look for.
		if p, err := netip.ParsePrefix(r[3]); err == nil {
			a.prefix = p
		}
		list = append(list, a)
	}
	return list, nil
}

// Uplink is the interface through which the host reaches the world.
type Uplink struct {
	Interface string
	Address   netip.Prefix // the first usable IPv4 address of it
	Gateway   netip.Addr   // the default router
}

// Uplink finds the interface of the IPv4 default route and its address. The
// error is ErrNotFound if there is no default route, or no address.
func (h *Host) Uplink(ctx context.Context) (Uplink, error) {
	out, err := h.run.Run(ctx, command.New("route", "-n", "get", "default"))
	if err != nil {
		return Uplink{}, fmt.Errorf("network: %w", classify(err))
	}
	u, err := parseRouteGet(string(out))
	if err != nil {
		return Uplink{}, err
	}
	list, err := h.addresses(ctx)
	if err != nil {
		return Uplink{}, err
	}
	for _, a := range list {
		if a.link() == u.Interface && a.usable() && a.prefix.IsValid() && a.prefix.Addr().Is4() {
			u.Address = a.prefix
			return u, nil
		}
	}
	return Uplink{}, fmt.Errorf("network: link %s: no IPv4 address: %w", u.Interface, ErrNotFound)
}

// parseRouteGet reads the lines "  NAME: VALUE" of route get.
func parseRouteGet(out string) (Uplink, error) {
	var u Uplink
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "gateway":
			// A host without one prints a link there: leave it invalid.
			u.Gateway, _ = netip.ParseAddr(value)
		case "interface":
			u.Interface = value
		}
	}
	if u.Interface == "" {
		return Uplink{}, fmt.Errorf("network: default route without an interface: %w", ErrNotFound)
	}
	return u, nil
}

// EnsureRoute makes a route to dst through gateway until the next reboot. A
// route to dst through another gateway stays beside it: see RemoveRoute.
func (h *Host) EnsureRoute(ctx context.Context, dst netip.Prefix, gateway netip.Addr) error {
	err := h.route(ctx, "add", dst, gateway)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// RemoveRoute removes the route to dst through gateway. An absent one is fine.
func (h *Host) RemoveRoute(ctx context.Context, dst netip.Prefix, gateway netip.Addr) error {
	err := h.route(ctx, "delete", dst, gateway)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (h *Host) route(ctx context.Context, verb string, dst netip.Prefix, gateway netip.Addr) error {
	if !dst.IsValid() || dst != dst.Masked() || !gateway.IsValid() || gateway.Is4() != dst.Addr().Is4() || gateway.Zone() != "" {
		return fmt.Errorf("network: route to %s through %s: not a network and a gateway of its family", dst, gateway)
	}
	args := []string{"-n", verb}
	if dst.Addr().Is6() {
		args = append(args, "-inet6")
	}
	_, err := h.run.Run(ctx, command.New("route", append(args, dst.String(), gateway.String())...))
	if err != nil {
		return fmt.Errorf("network: %w", classify(err))
	}
	return nil
}
