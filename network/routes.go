package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
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

// Uplink is the interface through which the host reaches other machines.
type Uplink struct {
	Interface string
	Address   netip.Prefix // the first usable IPv4 address of it
	MTU       int
}

// Uplink finds the interface that has one of the given addresses, or else that
// of the IPv4 default route, with its first usable IPv4 address. The error is
// ErrNotFound if there is neither, or no address.
func (h *Host) Uplink(ctx context.Context, having ...netip.Addr) (Uplink, error) {
	list, err := h.addresses(ctx)
	if err != nil {
		return Uplink{}, err
	}
	u := Uplink{Interface: interfaceOf(list, having)}
	if u.Interface == "" {
		out, err := h.run.Run(ctx, command.New("route", "-n", "get", "default"))
		if err != nil {
			return Uplink{}, fmt.Errorf("network: %w", classify(err))
		}
		if u.Interface, err = parseRouteGet(string(out)); err != nil {
			return Uplink{}, err
		}
	}
	for _, a := range list {
		if a.link() == u.Interface && a.usable() && a.prefix.IsValid() && a.prefix.Addr().Is4() {
			u.Address = a.prefix
			u.MTU, err = h.linkMTU(ctx, u.Interface)
			return u, err
		}
	}
	return Uplink{}, fmt.Errorf("network: link %s: no IPv4 address: %w", u.Interface, ErrNotFound)
}

// interfaceOf returns the interface of the first of these addresses that the
// host has.
func interfaceOf(list []address, having []netip.Addr) string {
	for _, want := range having {
		for _, a := range list {
			if a.usable() && a.prefix.IsValid() && a.prefix.Addr() == want {
				return a.link()
			}
		}
	}
	return ""
}

// linkMTU returns the MTU of a data link, 0 where the interface is over none,
// such as a group of several (IPMP).
func (h *Host) linkMTU(ctx context.Context, name string) (int, error) {
	out, err := h.run.Run(ctx, command.New("dladm", "show-link", "-p", "-o", "mtu", name))
	if err = classify(err); errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("network: %w", err)
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return 0, fmt.Errorf("network: link %s: MTU %q", name, out)
	}
	return mtu, nil
}

// parseRouteGet finds the interface among the lines "  NAME: VALUE" of route
// get.
func parseRouteGet(out string) (string, error) {
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name == "interface" && value != "" {
			return value, nil
		}
	}
	return "", fmt.Errorf("network: default route without an interface: %w", ErrNotFound)
}

// RouteError says why one route could not be made.
type RouteError struct {
	Route Route
	Err   error
}

func (e *RouteError) Error() string {
	return fmt.Sprintf("route to %s through %s: %v", e.Route.To, e.Route.Gateway, e.Err)
}

// Unwrap returns the cause: ErrUnreachable where the gateway is no neighbour.
func (e *RouteError) Unwrap() error { return e.Err }

// SyncRoutes makes these routes until the next reboot and removes those that it
// made before and are not among them. Routes that others made stay, also where
// they are the same. One that fails keeps no other from being made; the errors
// are joined, each a *RouteError.
//
// Unless all is set, routes that the record has are taken to be there.
func (h *Host) SyncRoutes(ctx context.Context, want []Route, all bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.recordLocked()
	if err != nil {
		return err
	}
	var errs []error
	for _, route := range want {
		if slices.Contains(r.Routes, route) && !all {
			continue
		}
		if err := h.addRoute(ctx, r, route); err != nil {
			errs = append(errs, &RouteError{route, err})
		}
	}
	for _, route := range slices.Clone(r.Routes) {
		if slices.Contains(want, route) {
			continue
		}
		if err := h.dropRoute(ctx, r, route); err != nil {
			errs = append(errs, &RouteError{route, err})
		}
	}
	return errors.Join(errs...)
}

// addRoute makes a route. It is written down before it is made, so that a
// crash between leaves none that nobody knows; one that was there before is
// not ours.
func (h *Host) addRoute(ctx context.Context, r *record, route Route) error {
	known := slices.Contains(r.Routes, route)
	if !known {
		if err := r.change(func(r *record) { r.Routes = append(r.Routes, route) }); err != nil {
			return err
		}
	}
	err := h.route(ctx, "add", route.To, route.Gateway)
	if known && errors.Is(err, ErrExists) {
		return nil
	}
	if err != nil {
		strike := func(r *record) { r.Routes = slices.DeleteFunc(r.Routes, func(x Route) bool { return x == route }) }
		if undo := r.change(strike); undo != nil {
			return errors.Join(err, undo)
		}
	}
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

func (h *Host) dropRoute(ctx context.Context, r *record, route Route) error {
	err := h.route(ctx, "delete", route.To, route.Gateway)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return r.change(func(r *record) { r.Routes = slices.DeleteFunc(r.Routes, func(x Route) bool { return x == route }) })
}

func (h *Host) route(ctx context.Context, verb string, dst netip.Prefix, gateway netip.Addr) error {
	if !dst.IsValid() || dst != dst.Masked() || dst.Bits() == 0 || !gateway.IsValid() || gateway.Is4() != dst.Addr().Is4() || gateway.Zone() != "" {
		return errors.New("not a network and a gateway of its family")
	}
	args := []string{"-n", verb}
	if dst.Addr().Is6() {
		args = append(args, "-inet6")
	}
	_, err := h.run.Run(ctx, command.New("route", append(args, dst.String(), gateway.String())...))
	return classify(err)
}
