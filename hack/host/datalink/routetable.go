package datalink

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// routeFlags are the flags of a route, as in <net/route.h>.
type routeFlags uint32

const (
	flagUp        routeFlags = 0x1
	flagGateway   routeFlags = 0x2
	flagHost      routeFlags = 0x4
	flagReject    routeFlags = 0x8
	flagDone      routeFlags = 0x40
	flagStatic    routeFlags = 0x800
	flagBlackhole routeFlags = 0x1000
	flagPrivate   routeFlags = 0x2000
	flagKernel    routeFlags = 0x80000
)

var flagNames = []struct {
	flag routeFlags
	name string
}{
	{flagUp, "UP"}, {flagGateway, "GATEWAY"}, {flagHost, "HOST"}, {flagReject, "REJECT"}, {flagDone, "DONE"},
	{flagStatic, "STATIC"}, {flagBlackhole, "BLACKHOLE"}, {flagPrivate, "PRIVATE"}, {flagKernel, "KERNEL"},
}

// String prints flags as route get does.
func (f routeFlags) String() string {
	var names []string
	for _, n := range flagNames {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return "<" + strings.Join(names, ",") + ">"
}

// local returns the interface that has the address, up or not.
func (m *Model) local(a netip.Addr) (ifname string, ok bool) {
	for _, x := range m.st.Addresses {
		if x.Active && x.Prefix.Addr() == a {
			return x.Interface, true
		}
	}
	return "", false
}

// onLink returns the interface over which an address is a neighbour; with
// want, only that interface will do.
func (m *Model) onLink(a netip.Addr, want string) (ifname string, ok bool) {
	best := -1
	consider := func(p netip.Prefix, name string) {
		if p.Contains(a) && p.Bits() > best && (want == "" || want == name) {
			ifname, best = name, p.Bits()
		}
	}
	for _, x := range m.st.Addresses {
		if x.Active && x.Up && x.Interface != loopback {
			consider(x.Prefix.Masked(), x.Interface)
		}
	}
	for _, r := range m.st.Routes {
		if r.Flags&flagGateway == 0 {
			consider(r.Dst, r.Interface)
		}
	}
	return ifname, best >= 0
}

// addRoute adds a route in the order of the checks of ip_rt_add(). It returns
// an error number, or -1 where the backend failed.
func (m *Model) addRoute(ctx context.Context, c routeCommand) int {
	if c.gateway.IsUnspecified() {
		return errnoNETUNREACH
	}
	r := routeEntry{Dst: c.dst, Gateway: c.gateway, Flags: c.flags, Interface: c.ifp}
	ifname, isLocal := m.local(c.gateway)
	if isLocal && c.ifp != "" && c.ifp != ifname {
		isLocal = false
	}
	if isLocal && ifname == loopback {
		// The gateway is an interface address, so this is an interface route
		// whatever the flags say, and one into nothing.
		r.Flags = r.Flags&^flagGateway | flagBlackhole
	}
	if r.Flags&flagGateway == 0 {
		if !isLocal {
			return errnoNETUNREACH
		}
		r.Interface = ifname
	} else if _, ok := m.onLink(c.gateway, c.ifp); !ok || isLocal {
		return errnoNETUNREACH
	}
	if m.routeExists(r) {
		return errnoEXIST
	}
	if err := m.backend.AddRoute(ctx, m.backendRoute(r)); err != nil {
		return -1
	}
	m.st.Routes = append(m.st.Routes, r)
	return 0
}

// routeExists says whether the table has a route that this one would repeat.
func (m *Model) routeExists(r routeEntry) bool {
	for _, x := range m.st.Routes {
		if x.Dst == r.Dst && x.Gateway == r.Gateway && (x.Flags^r.Flags)&flagGateway == 0 &&
			(r.Interface == "" || x.Interface == "" || x.Interface == r.Interface) {
			return true
		}
	}
	if r.Flags&flagGateway != 0 {
		return false
	}
	for _, a := range m.st.Addresses { // the kernel's own interface routes
		if a.Active && a.Up && a.Prefix.Masked() == r.Dst && a.Prefix.Addr() == r.Gateway {
			return true
		}
	}
	return false
}

// deleteRoute removes a route as ip_rt_delete(): interface routes of a local
// gateway first, then routes through the gateway.
func (m *Model) deleteRoute(ctx context.Context, c routeCommand) int {
	for _, gateway := range []routeFlags{0, flagGateway} {
		n := slices.IndexFunc(m.st.Routes, func(r routeEntry) bool {
			return r.Dst == c.dst && r.Gateway == c.gateway && r.Flags&flagGateway == gateway && (c.ifp == "" || r.Interface == c.ifp)
		})
		if n < 0 {
			continue
		}
		if err := m.backend.RemoveRoute(ctx, m.backendRoute(m.st.Routes[n])); err != nil {
			return -1
		}
		m.st.Routes = slices.Delete(m.st.Routes, n, n+1)
		m.restoreRoutes(ctx) // another one to the same place may take over
		return 0
	}
	return errnoSRCH
}

// lookup finds the best route to an address.
func (m *Model) lookup(a netip.Addr) (found, bool) {
	best, ok := found{}, false
	consider := func(f found) {
		if f.dst.Contains(a) && (!ok || f.dst.Bits() > best.dst.Bits()) {
			best, ok = f, true
		}
	}
	for _, x := range m.st.Addresses {
		if x.Active && x.Up {
			host := netip.PrefixFrom(x.Prefix.Addr(), x.Prefix.Addr().BitLen())
			consider(found{dst: host, ifname: x.Interface, flags: flagHost | flagKernel})
			if x.Interface != loopback {
				consider(found{dst: x.Prefix.Masked(), ifname: x.Interface, flags: flagKernel})
			}
		}
	}
	for _, r := range m.st.Routes {
		f := found{dst: r.Dst, gateway: r.Gateway, ifname: r.Interface, flags: r.Flags}
		if f.ifname == "" {
			f.ifname, _ = m.onLink(r.Gateway, "")
		}
		consider(f)
	}
	return best, ok
}

// backendRoute says what a route does.
func (m *Model) backendRoute(r routeEntry) Route {
	out := Route{Dst: r.Dst}
	switch {
	case r.Flags&flagBlackhole != 0:
		out.Blackhole = true
	case r.Flags&flagReject != 0:
		out.Reject = true
	case r.Flags&flagGateway == 0:
		out.Interface = r.Interface
	default:
		out.Gateway, out.Interface = r.Gateway, r.Interface
	}
	return out
}

// restoreRoutes adds all routes again: a backend may lose routes when their
// gateway is gone for a while, which illumos does not.
func (m *Model) restoreRoutes(ctx context.Context) {
	for _, r := range m.st.Routes {
		_ = m.backend.AddRoute(ctx, m.backendRoute(r)) // its gateway may still be away
	}
}

// dropRoutesOf forgets the routes that are bound to an interface.
func (m *Model) dropRoutesOf(ctx context.Context, ifname string) {
	m.dropRoutes(ctx, func(r routeEntry) bool { return r.Interface == ifname })
}

// dropRoutesFrom forgets the interface routes of a local address.
func (m *Model) dropRoutesFrom(ctx context.Context, a netip.Addr) {
	m.dropRoutes(ctx, func(r routeEntry) bool { return r.Flags&flagGateway == 0 && r.Gateway == a })
	m.restoreRoutes(ctx)
}

func (m *Model) dropRoutes(ctx context.Context, which func(routeEntry) bool) {
	m.st.Routes = slices.DeleteFunc(m.st.Routes, func(r routeEntry) bool {
		if which(r) {
			_ = m.backend.RemoveRoute(ctx, m.backendRoute(r)) // it may have gone with its interface
			return true
		}
		return false
	})
}
