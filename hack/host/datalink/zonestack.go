package datalink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"reddwarf.io/reddwarf/hack/host/program"
)

// ErrNoZone means that no zone of that id has a link.
var ErrNoZone = errors.New("no zone with an IP stack of its own has that id")

// ZoneCommands returns the programs of the network that a zone with links of
// its own has. Its IP stack is empty at first: whatever the zone's init does
// not set is not there. It goes with the zone.
func (m *Model) ZoneCommands(id int) (map[string]program.Command, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.stacks[id]
	if !ok {
		s = m.newStack(id)
	}
	if len(s.st.Links) == 0 {
		return nil, fmt.Errorf("zone %d: %w", id, ErrNoZone)
	}
	if m.stacks == nil {
		m.stacks = map[int]*Model{}
	}
	m.stacks[id] = s
	return map[string]program.Command{
		"ipadm": s.locked(s.ipadm), "route": s.locked(s.route), "ipmgmtd": s.locked(s.ipmgmtd),
	}, nil
}

// newStack is the IP stack of a zone that has just booted: a Model of which the
// zone's links are the network cards.
func (m *Model) newStack(id int) *Model {
	s := &Model{distro: m.distro, zone: &zoneStack{outside: m.backend}}
	s.backend = s.zone
	s.st = state{NextID: 1, Props: map[string]string{}, SavedProps: map[string]string{}, Routeadm: map[string]bool{}}
	for _, l := range m.st.Links {
		if l.Zone == "" || l.ZoneID != id {
			continue
		}
		s.zone.netns, s.zone.links = l.Netns, append(s.zone.links, l.Name)
		if slices.Contains(l.ZoneProps, "allowed-ips") {
			s.zone.fromGlobal = append(s.zone.fromGlobal, l.Name)
		}
		s.st.Links = append(s.st.Links, &link{ID: s.nextID(), Name: l.Name, Class: classVNIC, MAC: l.MAC, MTU: l.mtu(), Active: true, Persistent: l.Persistent})
	}
	return s
}

// ipmgmtd is the daemon that ipadm talks to. In an ordinary zone SMF starts it.
func (m *Model) ipmgmtd(_ context.Context, inv *program.Invocation) int {
	if len(inv.Args()) > 0 {
		inv.Errf("%soptions of ipmgmtd are not simulated\n", simulatedRefusal)
		return 1
	}
	m.zone.managed = true
	return 0
}

// zoneStack is the Backend of a zone's IP stack. It makes real what a pod zone
// does, and refuses the rest.
type zoneStack struct {
	NoBackend
	outside    Backend
	netns      string
	links      []string
	managed    bool     // ipmgmtd runs
	fromGlobal []string // links whose addresses the global zone has set
}

var errZoneStack = errors.New("that is not simulated inside of a zone")

// Plumb brings a link up. The loopback interface has always been.
func (z *zoneStack) Plumb(ctx context.Context, name string) error {
	return z.set(ctx, name, nil, nil)
}

// AddAddress sets an address.
func (z *zoneStack) AddAddress(ctx context.Context, name string, p netip.Prefix) error {
	return z.set(ctx, name, []netip.Prefix{p}, nil)
}

// AddRoute sets a default route.
func (z *zoneStack) AddRoute(ctx context.Context, r Route) error {
	if r.Dst.Bits() != 0 || !r.Gateway.IsValid() || r.Interface == "" && len(z.links) != 1 {
		return errZoneStack
	}
	name := r.Interface
	if name == "" {
		name = z.links[0]
	}
	return z.set(ctx, name, nil, []netip.Addr{r.Gateway})
}

func (z *zoneStack) set(ctx context.Context, name string, addrs []netip.Prefix, routers []netip.Addr) error {
	if name == loopback || z.netns == "" {
		return nil
	}
	return z.outside.PlumbZone(ctx, name, z.netns, addrs, routers)
}

// Unplumb refuses.
func (z *zoneStack) Unplumb(context.Context, string) error { return errZoneStack }

// RemoveAddress refuses.
func (z *zoneStack) RemoveAddress(context.Context, string, netip.Prefix) error { return errZoneStack }

// RemoveRoute refuses.
func (z *zoneStack) RemoveRoute(context.Context, Route) error { return errZoneStack }

// unmanaged is what every change says while the zone has no ipmgmtd.
func (m *Model) unmanaged() bool { return m.zone != nil && !m.zone.managed }
