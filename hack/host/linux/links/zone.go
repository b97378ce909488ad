package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/datalink"
)

// MoveToZone implements datalink.Backend.
func (b *Backend) MoveToZone(_ context.Context, name, path string) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close() //nolint:errcheck // the handle has its own reference
	l, err := netlink.LinkByName(InterfaceName(name))
	if err != nil {
		return fmt.Errorf("interface %s: %w", InterfaceName(name), err)
	}
	if err := netlink.LinkSetNsFd(l, int(ns.Fd())); err != nil {
		return fmt.Errorf("moving %s: %w", name, err)
	}
	return nil
}

// TakeBack implements datalink.Backend. The kernel destroys a VNIC whose
// namespace ends first; then it is made anew, and its counters go on.
func (b *Backend) TakeBack(ctx context.Context, v datalink.VNIC, path string) error {
	if _, err := netlink.LinkByName(InterfaceName(v.Name)); err == nil {
		return nil
	}
	if path != "" && moveHome(InterfaceName(v.Name), path) == nil {
		return nil
	}
	b.keepCounters(v.Name)
	if err := b.deleteByName(portName(v.Name)); err != nil {
		return err
	}
	return b.CreateVNIC(ctx, v)
}

// moveHome moves an interface out of another namespace into ours.
func moveHome(name, path string) error {
	h, err := handleAt(path)
	if err != nil {
		return err
	}
	defer h.Close()
	// Not /proc/self: that is the main thread, which may be in another one.
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer home.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := h.LinkSetNsFd(l, int(home.Fd())); err != nil {
		return fmt.Errorf("moving %s: %w", name, err)
	}
	return nil
}

// handleAt opens a netlink connection in another network namespace. The
// caller's thread stays where it is.
func handleAt(path string) (*netlink.Handle, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close() //nolint:errcheck // the handle has its own reference
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return h, nil
}

// keepCounters remembers what a port has counted before it goes away.
func (b *Backend) keepCounters(name string) {
	l, err := netlink.LinkByName(portName(name))
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.base[name] = sum(b.base[name], portCounters(l))
}

// PlumbZone implements datalink.Backend.
func (b *Backend) PlumbZone(_ context.Context, name, path string, addrs []netip.Prefix, routers []netip.Addr) error {
	if err := zoneSysctls(path); err != nil {
		return err
	}
	h, err := handleAt(path)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, n := range []string{"lo", InterfaceName(name)} {
		l, err := h.LinkByName(n)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("interface %s of the zone: %w", n, err)
		}
	}
	l, err := h.LinkByName(InterfaceName(name))
	if err != nil {
		return fmt.Errorf("interface %s of the zone: %w", name, err)
	}
	for _, p := range addrs {
		if err := addAddress(h, l, p); err != nil {
			return fmt.Errorf("address %s in the zone: %w", p, err)
		}
	}
	for _, router := range routers {
		bits := router.BitLen()
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if bits == 128 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r := &netlink.Route{Dst: ipNet(all), Gw: router.AsSlice(), LinkIndex: l.Attrs().Index}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("default router %s of the zone: %w", router, err)
		}
	}
	return nil
}

func addAddress(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := h.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// zoneSysctls makes the settings of a zone's namespace that differ between
// Linux and illumos. /proc/sys shows the namespace of the thread that reads
// it, so this needs a thread of its own, which ends with the goroutine.
func zoneSysctls(path string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread must not be used again
		ns, err := os.Open(path)
		if err != nil {
			done <- fmt.Errorf("network namespace: %w", err)
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering network namespace: %w", err)
			return
		}
		for _, f := range []string{"iptables", "ip6tables", "arptables"} {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+f, []byte("0"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				done <- fmt.Errorf("bridge firewall: %w", err)
				return
			}
		}
		done <- nil
	}()
	return <-done
}
