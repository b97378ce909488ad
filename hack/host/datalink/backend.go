package datalink

import (
	"context"
	"net"
	"net/netip"
)

// Backend makes the network real. The model has already decided that an
// operation is allowed; it calls one method at a time. Removing what is not
// there succeeds.
type Backend interface {
	// CreateStub makes a layer-2 switch without ports; DeleteStub removes it.
	CreateStub(ctx context.Context, name string) error
	DeleteStub(ctx context.Context, name string) error

	// CreateVNIC makes a network card of the host on a stub; it is down.
	CreateVNIC(ctx context.Context, v VNIC) error
	DeleteVNIC(ctx context.Context, name string) error

	// SetMTU changes the MTU of a VNIC or of a physical link.
	SetMTU(ctx context.Context, name string, mtu int) error

	// SetGuard replaces what a VNIC may send, and how much it may send and get.
	// The zero Guard allows all.
	SetGuard(ctx context.Context, name string, g Guard) error

	// Counters returns what has passed a link since it was made, in whichever
	// zone it was.
	Counters(ctx context.Context, name string) (Counters, error)

	// MoveToZone moves a VNIC into the network namespace at path netns;
	// TakeBack gets it again, also from a namespace that is gone. Its
	// addresses and routes are lost both times. TakeBack of a VNIC that is
	// already here succeeds.
	MoveToZone(ctx context.Context, name, netns string) error
	TakeBack(ctx context.Context, v VNIC, netns string) error

	// PlumbZone brings up a VNIC inside a zone and the zone's loopback
	// interface, and sets addresses and default routes there.
	PlumbZone(ctx context.Context, name, netns string, addrs []netip.Prefix, routers []netip.Addr) error

	// Plumb brings up a link of the global zone, Unplumb takes it down with
	// all its addresses.
	Plumb(ctx context.Context, name string) error
	Unplumb(ctx context.Context, name string) error
	AddAddress(ctx context.Context, name string, p netip.Prefix) error
	RemoveAddress(ctx context.Context, name string, p netip.Prefix) error

	// AddRoute adds a route of the global zone; one that is already there is
	// no error.
	AddRoute(ctx context.Context, r Route) error
	RemoveRoute(ctx context.Context, r Route) error

	// SetForwarding says whether packets that arrive at a link may be
	// forwarded. SetRedirects says whether the host sends ICMP redirects.
	SetForwarding(ctx context.Context, name string, v6, on bool) error
	SetRedirects(ctx context.Context, on bool) error
}

// VNIC is a virtual network card to be made.
type VNIC struct {
	Name string
	Over string // the etherstub
	MAC  net.HardwareAddr
	MTU  int
}

// Guard is what a VNIC may send, by its link properties protection and
// allowed-ips, and how much of it, by maxbw.
type Guard struct {
	BitsPerSecond uint64 // in either direction; 0 is no limit

	MAC        net.HardwareAddr // the only sender address, if MACNospoof
	MACNospoof bool
	Restricted bool           // only IPv4, IPv6 and ARP
	IPNospoof  bool           // IP and ARP sender addresses only out of Allowed
	Allowed    []netip.Prefix // of either family
}

// Counters is what has passed a link, seen from its own side.
type Counters struct {
	InPackets, InBytes, InErrors    uint64
	OutPackets, OutBytes, OutErrors uint64
}

// Route is a route to be made. Exactly one of Gateway with or without
// Interface, Interface alone, Reject, or Blackhole says where packets go.
type Route struct {
	Dst       netip.Prefix
	Gateway   netip.Addr // the zero Addr for a route to an interface
	Interface string
	Reject    bool // packets are answered with ICMP unreachable
	Blackhole bool // packets vanish
}

// NoBackend makes nothing real: the host exists in memory only.
type NoBackend struct{}

var _ Backend = NoBackend{}

// CreateStub does nothing, as all methods of NoBackend.
func (NoBackend) CreateStub(context.Context, string) error { return nil }

// DeleteStub does nothing.
func (NoBackend) DeleteStub(context.Context, string) error { return nil }

// CreateVNIC does nothing.
func (NoBackend) CreateVNIC(context.Context, VNIC) error { return nil }

// DeleteVNIC does nothing.
func (NoBackend) DeleteVNIC(context.Context, string) error { return nil }

// SetMTU does nothing.
func (NoBackend) SetMTU(context.Context, string, int) error { return nil }

// SetGuard does nothing.
func (NoBackend) SetGuard(context.Context, string, Guard) error { return nil }

// Counters returns zeros: nothing passes.
func (NoBackend) Counters(context.Context, string) (Counters, error) { return Counters{}, nil }

// MoveToZone does nothing.
func (NoBackend) MoveToZone(context.Context, string, string) error { return nil }

// TakeBack does nothing.
func (NoBackend) TakeBack(context.Context, VNIC, string) error { return nil }

// PlumbZone does nothing.
func (NoBackend) PlumbZone(context.Context, string, string, []netip.Prefix, []netip.Addr) error {
	return nil
}

// Plumb does nothing.
func (NoBackend) Plumb(context.Context, string) error { return nil }

// Unplumb does nothing.
func (NoBackend) Unplumb(context.Context, string) error { return nil }

// AddAddress does nothing.
func (NoBackend) AddAddress(context.Context, string, netip.Prefix) error { return nil }

// RemoveAddress does nothing.
func (NoBackend) RemoveAddress(context.Context, string, netip.Prefix) error { return nil }

// AddRoute does nothing.
func (NoBackend) AddRoute(context.Context, Route) error { return nil }

// RemoveRoute does nothing.
func (NoBackend) RemoveRoute(context.Context, Route) error { return nil }

// SetForwarding does nothing.
func (NoBackend) SetForwarding(context.Context, string, bool, bool) error { return nil }

// SetRedirects does nothing.
func (NoBackend) SetRedirects(context.Context, bool) error { return nil }
