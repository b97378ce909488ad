// Package links makes the network of a simulated illumos host real on Linux:
// a bridge for an etherstub, a veth pair for a VNIC, one end of which is a
// port of the bridge while the other is the VNIC itself and moves into the
// network namespace of a zone and back.
//
// It works in the network namespace of its process, which must be the host's
// own: it changes settings there that concern all interfaces.
package links

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/datalink"
)

// Backend implements datalink.Backend. Create it with New.
type Backend struct {
	mu        sync.Mutex
	redirects bool
	base      map[string]datalink.Counters // of ports that were made anew
}

var _ datalink.Backend = (*Backend)(nil)

// New returns a backend for the network namespace of the process. It makes
// layer 2 pass by the firewall of layer 3, as on illumos: Linux hands bridged
// packets to it in every new namespace when br_netfilter is loaded.
func New() (*Backend, error) {
	for _, f := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+f, []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("bridge firewall: %w", err)
		}
	}
	// Linux answers ARP for any of its addresses on any interface, and a bridge
	// is one: it would answer zones that ask for a VNIC's address.
	for name, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if err := sysctl("net/ipv4/conf/all/"+name, value); err != nil {
			return nil, err
		}
	}
	b := &Backend{redirects: true, base: map[string]datalink.Counters{}}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("loopback interface: %w", err)
	}
	return b, b.SetRedirects(context.Background(), true)
}

// Linux names have 15 characters at most, and illumos names no hyphen: names
// with one are ours.
const maxName = unix.IFNAMSIZ - 1

// InterfaceName is the interface of a link in whichever namespace it is: the
// link's name, or a hash of it where that is too long for Linux.
func InterfaceName(link string) string { return shorten("", link) }

// portName is the end of a VNIC's pair that stays at the bridge.
func portName(link string) string { return shorten("p-", link) }

// bridgeName is the bridge of an etherstub.
func bridgeName(link string) string { return shorten("b-", link) }

func shorten(prefix, link string) string {
	if len(prefix)+len(link) <= maxName {
		return prefix + link
	}
	h := fnv.New32a()
	h.Write([]byte(link)) //nolint:errcheck // never fails
	return fmt.Sprintf("%sx-%08x", prefix, h.Sum32())
}

// CreateStub implements datalink.Backend.
func (b *Backend) CreateStub(_ context.Context, name string) error {
	off := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName(name)
	attrs.MTU = stubMTU
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
		return fmt.Errorf("bridge %s: %w", attrs.Name, err)
	}
	// The switch itself has no addresses and says nothing.
	if err := silence(attrs.Name); err != nil {
		return errors.Join(err, b.deleteByName(attrs.Name))
	}
	l, err := netlink.LinkByName(attrs.Name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("bridge %s: %w", attrs.Name, err), b.deleteByName(attrs.Name))
	}
	return nil
}

const stubMTU = 9000

// DeleteStub implements datalink.Backend.
func (b *Backend) DeleteStub(_ context.Context, name string) error {
	return b.deleteByName(bridgeName(name))
}

func (b *Backend) deleteByName(name string) error {
	l, err := netlink.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	// A pair goes by itself when the namespace of its other end ends, which
	// the kernel does in its own time.
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf)
}

// CreateVNIC implements datalink.Backend.
func (b *Backend) CreateVNIC(_ context.Context, v datalink.VNIC) error {
	bridge, err := netlink.LinkByName(bridgeName(v.Over))
	if err != nil {
		return fmt.Errorf("bridge of %s: %w", v.Over, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = portName(v.Name), v.MTU, bridge.Attrs().Index
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: InterfaceName(v.Name), PeerHardwareAddr: v.MAC, PeerMTU: uint32(v.MTU)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("pair of %s: %w", v.Name, err)
	}
	err = errors.Join(
		silence(attrs.Name),
		setUp(attrs.Name))
	if err != nil {
		return errors.Join(err, b.deleteByName(attrs.Name))
	}
	return nil
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// DeleteVNIC implements datalink.Backend.
func (b *Backend) DeleteVNIC(ctx context.Context, name string) error {
	err := b.SetGuard(ctx, name, datalink.Guard{})
	b.mu.Lock()
	delete(b.base, name)
	b.mu.Unlock()
	return errors.Join(err, b.deleteByName(portName(name)))
}

// SetMTU implements datalink.Backend. Of a VNIC in a zone only the port's side
// changes.
func (b *Backend) SetMTU(_ context.Context, name string, mtu int) error {
	changed := false
	for _, n := range []string{portName(name), InterfaceName(name)} {
		l, err := netlink.LinkByName(n)
		if isNotFound(err) {
			continue
		}
		if err == nil {
			err = netlink.LinkSetMTU(l, mtu)
		}
		if err != nil {
			return fmt.Errorf("mtu of %s: %w", n, err)
		}
		changed = true
	}
	if !changed {
		return fmt.Errorf("mtu of %s: no such interface", name)
	}
	return nil
}

// Counters implements datalink.Backend. A VNIC is read at its port, which sees
// the same packets from the other side, wherever the VNIC is.
func (b *Backend) Counters(_ context.Context, name string) (datalink.Counters, error) {
	if l, err := netlink.LinkByName(portName(name)); err == nil {
		b.mu.Lock()
		base := b.base[name]
		b.mu.Unlock()
		return sum(base, portCounters(l)), nil
	}
	l, err := netlink.LinkByName(InterfaceName(name))
	if isNotFound(err) {
		if l, err = netlink.LinkByName(bridgeName(name)); err != nil {
			return datalink.Counters{}, fmt.Errorf("interface of %s: %w", name, err)
		}
	}
	if err != nil {
		return datalink.Counters{}, fmt.Errorf("interface %s: %w", name, err)
	}
	s := l.Attrs().Statistics
	if s == nil {
		return datalink.Counters{}, nil
	}
	return datalink.Counters{InPackets: s.RxPackets, InBytes: s.RxBytes, InErrors: s.RxErrors,
		OutPackets: s.TxPackets, OutBytes: s.TxBytes, OutErrors: s.TxErrors}, nil
}

func portCounters(l netlink.Link) datalink.Counters {
	s := l.Attrs().Statistics
	if s == nil {
		return datalink.Counters{}
	}
	return datalink.Counters{InPackets: s.TxPackets, InBytes: s.TxBytes, InErrors: s.TxErrors,
		OutPackets: s.RxPackets, OutBytes: s.RxBytes, OutErrors: s.RxErrors}
}

func sum(a, c datalink.Counters) datalink.Counters {
	return datalink.Counters{
		InPackets: a.InPackets + c.InPackets, InBytes: a.InBytes + c.InBytes, InErrors: a.InErrors + c.InErrors,
		OutPackets: a.OutPackets + c.OutPackets, OutBytes: a.OutBytes + c.OutBytes, OutErrors: a.OutErrors + c.OutErrors,
	}
}

// silence keeps the host's IPv6 off an interface that is only a switch or a
// port of one.
func silence(name string) error {
	err := sysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kernel has no IPv6
	}
	return err
}

func sysctl(path, value string) error {
	if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
		return fmt.Errorf("setting %s: %w", path, err)
	}
	return nil
}

// nft runs one atomic transaction of nft(8).
func nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
