// Package nat makes the rules of a simulated illumos host's ipnat and ipf real
// on Linux, by nftables in the network namespace of the process, which must be
// the host's own.
//
// One destination of redirects is one chain, found by a map, so that thousands
// of services cost a packet one look-up; Load changes only chains whose rules
// have changed. Sessions are connection tracking's, which outlive rules as
// ipnat's do. Packets that the host itself sends never meet a redirect.
package nat

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/ipf"
)

// Backend implements ipf.Backend. Create it with New.
type Backend struct {
	mu     sync.Mutex
	loaded map[family]*ruleset // not there before the first Load, or when it is not known
	six    bool                // there is, or may be, a table for IPv6
}

var _ ipf.Backend = (*Backend)(nil)

// New returns a backend that has loaded nothing.
func New() *Backend { return &Backend{loaded: map[family]*ruleset{}} }

// family is a family of addresses. Each has an nftables table, for IPv6 from
// its first rule on.
type family struct {
	ip        string // as nftables calls it
	bits      int
	conntrack netlink.InetFamily
}

var (
	ipv4 = family{"ip", 32, unix.AF_INET}
	ipv6 = family{"ip6", 128, unix.AF_INET6}
)

func (f family) table() string { return f.ip + " ipfilter" }
func (f family) addressType() string {
	return map[int]string{32: "ipv4_addr", 128: "ipv6_addr"}[f.bits]
}

func (f family) any() netip.Prefix {
	if f == ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Load implements ipf.Backend, in one transaction.
func (b *Backend) Load(ctx context.Context, nat []ipf.Rule, filter []ipf.FilterRule) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var four, six []ipf.Rule
	for _, r := range nat {
		if r.IPv6 {
			six = append(six, r)
		} else {
			four = append(four, r)
		}
	}
	want := map[family]*ruleset{}
	var err error
	if want[ipv4], err = compile(ipv4, four, filter); err != nil {
		return err
	}
	script := want[ipv4].difference(b.loaded[ipv4])
	if b.six = b.six || len(six) > 0; b.six {
		if want[ipv6], err = compile(ipv6, six, nil); err != nil {
			return err
		}
		script += want[ipv6].difference(b.loaded[ipv6])
	}
	// A caller that is killed ends ctx, not a change that the kernel makes at once.
	err = nft(context.WithoutCancel(ctx), script)
	b.loaded = want
	if err != nil {
		clear(b.loaded) // what there is now is not known: the next change begins anew
	}
	return err
}

// ruleset is a compiled table: the rules of each chain by the chain's name,
// and the maps from redirected networks to chains, by prefix length.
type ruleset struct {
	family
	chains map[string]string
	vips   map[int]map[netip.Addr]string
	ages   map[uint32]map[netip.AddrPort]bool // UDP destinations by the age of their sessions, in seconds
}

// baseChains are the chains with hooks.
var baseChains = map[string]string{
	"redirects": "type nat hook prerouting priority dstnat ; policy accept ;",
	"maps":      "type nat hook postrouting priority srcnat ; policy accept ;",
	"ages":      "type filter hook prerouting priority -90 ; policy accept ;",
	// NAT runs before the filter for what comes in, and after it for what goes out.
	// What comes in meets the filter before it is routed, as in ipf_hook4_in().
	"filter_in":    "type filter hook prerouting priority -50 ; policy accept ;",
	"filter_cross": "type filter hook forward priority filter ; policy accept ;",
	"filter_out":   "type filter hook output priority filter ; policy accept ;",
}

// difference is the transaction that turns what is loaded into rs.
func (rs *ruleset) difference(old *ruleset) string {
	var b strings.Builder
	table := rs.table()
	if old == nil {
		fmt.Fprintf(&b, "add table %s\ndelete table %s\nadd table %s\n", table, table, table)
		for _, name := range slices.Sorted(maps.Keys(baseChains)) {
			fmt.Fprintf(&b, "add chain %s %s { %s }\n", table, name, baseChains[name])
		}
		old = &ruleset{}
	}
	for _, n := range slices.Sorted(maps.Keys(rs.vips)) {
		if _, ok := old.vips[n]; !ok {
			fmt.Fprintf(&b, "add map %s vip%d { type %s : verdict ; }\n", table, n, rs.addressType())
		}
	}
	rs.agesDifference(&b, old)
	for _, name := range slices.Sorted(maps.Keys(rs.chains)) {
		if _, ok := old.chains[name]; !ok && baseChains[name] == "" {
			fmt.Fprintf(&b, "add chain %s %s\n", table, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rs.chains)) {
		if before, ok := old.chains[name]; ok && before == rs.chains[name] {
			continue
		}
		fmt.Fprintf(&b, "flush chain %s %s\n", table, name)
		for rule := range strings.Lines(rs.chains[name]) {
			fmt.Fprintf(&b, "add rule %s %s %s", table, name, rule)
		}
	}
	rs.elements(&b, old)
	return b.String()
}

// elements changes the maps, and then removes chains and maps that nothing
// refers to any more.
func (rs *ruleset) elements(b *strings.Builder, old *ruleset) {
	table := rs.table()
	for _, n := range slices.Sorted(maps.Keys(rs.vips)) {
		for _, a := range sortedAddrs(rs.vips[n]) {
			if _, ok := old.vips[n][a]; !ok {
				fmt.Fprintf(b, "add element %s vip%d { %s : jump %s }\n", table, n, a, rs.vips[n][a])
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(old.vips)) {
		for _, a := range sortedAddrs(old.vips[n]) {
			if _, ok := rs.vips[n][a]; !ok {
				fmt.Fprintf(b, "delete element %s vip%d { %s : jump %s }\n", table, n, a, old.vips[n][a])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.chains)) {
		if _, ok := rs.chains[name]; !ok {
			fmt.Fprintf(b, "flush chain %s %s\ndelete chain %s %s\n", table, name, table, name)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(old.vips)) {
		if _, ok := rs.vips[n]; !ok {
			fmt.Fprintf(b, "delete map %s vip%d\n", table, n)
		}
	}
}

func sortedAddrs(m map[netip.Addr]string) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// nft runs one atomic transaction of nft(8).
func nft(ctx context.Context, script string) error {
	if script == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, firstLines(string(out)))
	}
	return nil
}

func firstLines(s string) string {
	const enough = 500
	return strings.TrimSpace(s[:min(len(s), enough)])
}

// Sessions implements ipf.Backend. A connection that is both redirected and
// mapped is two sessions, as in ipnat.
func (b *Backend) Sessions(context.Context) ([]ipf.Session, error) {
	var out []ipf.Session
	var flows []*netlink.ConntrackFlow
	for _, f := range []family{ipv4, ipv6} {
		some, err := netlink.ConntrackTableList(netlink.ConntrackTable, f.conntrack)
		if err != nil {
			return nil, fmt.Errorf("connection tracking: %w", err)
		}
		flows = append(flows, some...)
	}
	for _, f := range flows {
		client := endpoint(f.Forward.SrcIP, f.Forward.SrcPort)
		asked := endpoint(f.Forward.DstIP, f.Forward.DstPort)
		served := endpoint(f.Reverse.SrcIP, f.Reverse.SrcPort)
		seen := endpoint(f.Reverse.DstIP, f.Reverse.DstPort)
		proto := int(f.Forward.Protocol)
		if served != asked {
			out = append(out, ipf.Session{Kind: ipf.Redirect, Inside: served, Outside: asked, Peer: client, Proto: proto})
		}
		if seen != client {
			out = append(out, ipf.Session{Kind: ipf.Map, Inside: client, Outside: seen, Peer: served, Proto: proto})
		}
	}
	return out, nil
}

func endpoint(ip []byte, port uint16) ipf.Endpoint {
	a, _ := netip.AddrFromSlice(ip)
	return ipf.Endpoint{Addr: a.Unmap(), Port: port}
}

// Flush implements ipf.Backend.
func (b *Backend) Flush(ctx context.Context) (int, error) {
	sessions, err := b.Sessions(ctx)
	if err != nil {
		return 0, err
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return 0, fmt.Errorf("connection tracking: %w", err)
	}
	return len(sessions), nil
}
