package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/datalink"
)

// Plumb implements datalink.Backend.
func (b *Backend) Plumb(_ context.Context, name string) error {
	return setUp(InterfaceName(name))
}

// Unplumb implements datalink.Backend.
func (b *Backend) Unplumb(_ context.Context, name string) error {
	l, err := netlink.LinkByName(InterfaceName(name))
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address %s of %s: %w", a.IPNet, name, err)
		}
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// AddAddress implements datalink.Backend.
func (b *Backend) AddAddress(_ context.Context, name string, p netip.Prefix) error {
	l, err := netlink.LinkByName(InterfaceName(name))
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	if err := addAddress(h, l, p); err != nil {
		return fmt.Errorf("address %s of %s: %w", p, name, err)
	}
	return nil
}

// RemoveAddress implements datalink.Backend.
func (b *Backend) RemoveAddress(_ context.Context, name string, p netip.Prefix) error {
	l, err := netlink.LinkByName(InterfaceName(name))
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("address %s of %s: %w", p, name, err)
	}
	return nil
}

// AddRoute implements datalink.Backend. Several routes to one destination
// stand beside each other.
func (b *Backend) AddRoute(_ context.Context, r datalink.Route) error {
	route, err := linuxRoute(r)
	if err != nil {
		return err
	}
	if err := netlink.RouteAppend(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route to %s: %w", r.Dst, err)
	}
	return nil
}

// RemoveRoute implements datalink.Backend.
func (b *Backend) RemoveRoute(_ context.Context, r datalink.Route) error {
	route, err := linuxRoute(r)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("route to %s: %w", r.Dst, err)
	}
	return nil
}

func linuxRoute(r datalink.Route) (*netlink.Route, error) {
	out := &netlink.Route{Dst: ipNet(r.Dst), Table: unix.RT_TABLE_MAIN}
	switch {
	case r.Blackhole:
		out.Type = unix.RTN_BLACKHOLE
		return out, nil
	case r.Reject:
		out.Type = unix.RTN_UNREACHABLE
		return out, nil
	case r.Gateway.IsValid():
		out.Gw = r.Gateway.AsSlice()
	default:
		out.Scope = netlink.SCOPE_LINK
	}
	if r.Interface == "" {
		return out, nil
	}
	l, err := netlink.LinkByName(InterfaceName(r.Interface))
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", r.Interface, err)
	}
	out.LinkIndex = l.Attrs().Index
	return out, nil
}

// SetForwarding implements datalink.Backend.
//
// Linux looks only at the interface where a packet arrives, illumos also at
// the one where it leaves: that is a rule of the firewall.
func (b *Backend) SetForwarding(ctx context.Context, name string, v6, on bool) error {
	if err := nft(ctx, routersScript(name, v6, on)); err != nil {
		return err
	}
	family, value := "ipv4", "0"
	if v6 {
		family = "ipv6"
	}
	if on {
		value = "1"
	}
	path := fmt.Sprintf("net/%s/conf/%s/forwarding", family, InterfaceName(name))
	if _, err := os.Stat("/proc/sys/net/ipv6"); v6 && !on && errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without IPv6 forwards none
	}
	if _, err := os.Stat("/proc/sys/" + path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forwarding of %s: no such interface", name)
	}
	if v6 && on {
		// Linux forwards IPv6 only where it does everywhere.
		if err := sysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
			return err
		}
	}
	return sysctl(path, value)
}

// SetRedirects implements datalink.Backend. Linux sends redirects where either
// the interface or all interfaces may, and new interfaces begin with the
// default.
func (b *Backend) SetRedirects(_ context.Context, on bool) error {
	b.mu.Lock()
	b.redirects = on
	b.mu.Unlock()
	value := "0"
	if on {
		value = "1"
	}
	entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		err := sysctl("net/ipv4/conf/"+e.Name()+"/send_redirects", value)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may just have gone
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// routersScript puts an interface into the set of those where forwarded
// packets may leave, or takes it out.
func routersScript(name string, v6, on bool) string {
	table := "ip datalink"
	if v6 {
		table = "ip6 datalink"
	}
	s := fmt.Sprintf("add table %[1]s\nadd set %[1]s routers { type ifname ; }\n"+
		"add chain %[1]s forward { type filter hook forward priority -10 ; policy accept ; }\nflush chain %[1]s forward\n"+
		"add rule %[1]s forward oifname != @routers drop\nadd element %[1]s routers { %[2]q }\n", table, InterfaceName(name))
	if !on {
		s += fmt.Sprintf("delete element %s routers { %q }\n", table, InterfaceName(name))
	}
	return s
}
