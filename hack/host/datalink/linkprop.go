package datalink

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// propDesc describes one link property, as prop_table of libdladm.
type propDesc struct {
	name     string
	def      string   // "" where the driver knows it, "--" where there is none
	possible []string // nil where any checked value goes
	ro       bool
	tempOnly bool
	vnicOnly bool

	// idle says that the simulation keeps the value and does nothing by it.
	idle bool

	// check returns the values as they are printed.
	check func(m *Model, l *link, values []string) ([]string, status)
}

// linkProps are the simulated properties, in libdladm's order.
var linkProps = []propDesc{
	{name: "zone", tempOnly: true, check: checkZone},
	{name: "state", def: "up", possible: []string{"up", "down"}, ro: true},
	{name: "mtu", check: checkMTU},
	{name: "maxbw", def: "--", check: checkMaxBW},
	{name: "cpus", idle: true, def: "--", check: checkCPUs},
	{name: "pool", idle: true, def: "--", check: one},
	{name: "priority", idle: true, def: "high", possible: []string{"low", "medium", "high"}},
	{name: "protection", def: "--", possible: []string{"mac-nospoof", "restricted", "ip-nospoof", "dhcp-nospoof"}},
	{name: "promisc-filtered", idle: true, def: "on", possible: []string{"off", "on"}, vnicOnly: true},
	{name: "allowed-ips", def: "--", check: checkAllowedIPs},
	{name: "allowed-dhcp-cids", idle: true, def: "--", check: func(_ *Model, _ *link, v []string) ([]string, status) { return v, statusOK }},
}

func findProp(name string) *propDesc {
	for i := range linkProps {
		if strings.EqualFold(linkProps[i].name, name) {
			return &linkProps[i]
		}
	}
	return nil
}

// checkProp returns the text of a property's new value.
func (m *Model) checkProp(l *link, name string, values []string) (string, status) {
	d := findProp(name)
	switch {
	case d == nil:
		return "", statusNotFound
	case d.vnicOnly && l.Class != classVNIC:
		return "", statusBadArg
	case d.ro:
		return "", statusReadOnly
	case len(values) == 0:
		return "", statusBadArg
	}
	if d.possible == nil {
		out, s := d.check(m, l, values)
		return strings.Join(out, ","), s
	}
	var out []string
	for _, v := range values {
		i := slices.IndexFunc(d.possible, func(p string) bool { return strings.EqualFold(p, v) })
		if i < 0 {
			return "", statusBadVal
		}
		out = append(out, d.possible[i])
	}
	return strings.Join(out, ","), statusOK
}

func one(_ *Model, _ *link, values []string) ([]string, status) {
	if len(values) != 1 {
		return nil, statusBadCount
	}
	return values, statusOK
}

// checkZone refuses every zone: the model learns of a zone only by what it is
// told when one boots, and that is the way to give it a link.
func checkZone(_ *Model, _ *link, values []string) ([]string, status) {
	if len(values) != 1 {
		return nil, statusBadCount
	}
	return nil, statusNotSup
}

func checkMTU(m *Model, l *link, values []string) ([]string, status) {
	if len(values) != 1 {
		return nil, statusBadCount
	}
	n, err := strconv.Atoi(values[0])
	if err != nil {
		return nil, statusBadArg
	}
	low, high := 576, 9000 // ANCHOR_VNIC_MIN_MTU, ANCHOR_VNIC_MAX_MTU
	if l.Class == classVNIC {
		if over := m.link(l.Over); over != nil {
			high = over.mtu()
		}
	}
	if n < low || n > high {
		return nil, statusBadMTU
	}
	return []string{strconv.Itoa(n)}, statusOK
}

// checkMaxBW reads a bandwidth as dladm_str2bw() and prints it as
// dladm_bw2str(): in Mbps, right aligned in five columns.
func checkMaxBW(_ *Model, _ *link, values []string) ([]string, status) {
	if len(values) != 1 {
		return nil, statusBadCount
	}
	text, mult := values[0], uint64(1_000_000)
	if text != "" && !isDigit(text[len(text)-1]) {
		switch text[len(text)-1] {
		case 'k', 'K':
			mult = 1000
		case 'm', 'M':
		case 'g', 'G':
			mult = 1_000_000_000
		case '%':
			return nil, statusNotSup
		default:
			return nil, statusBadVal
		}
		text = text[:len(text)-1]
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n*mult/mult != n {
		return nil, statusBadArg
	}
	bw := n * mult
	if bw < 1_200_000 && bw != 0 {
		return nil, statusMinMaxBW
	}
	mbps, kbps := bw/1_000_000, bw%1_000_000/1000
	if kbps != 0 {
		return []string{fmt.Sprintf("%5d.%03d", mbps, kbps)}, statusOK
	}
	return []string{fmt.Sprintf("%5d", mbps)}, statusOK
}

// printedBandwidth reads what checkMaxBW has printed: bits per second, 0 for no
// limit.
func printedBandwidth(text string) uint64 {
	whole, part, _ := strings.Cut(strings.TrimSpace(text), ".")
	mbps, _ := strconv.ParseUint(whole, 10, 64) // nothing but its own print comes here
	kbps, _ := strconv.ParseUint(part, 10, 64)
	return mbps*1_000_000 + kbps*1000
}

func checkCPUs(_ *Model, _ *link, values []string) ([]string, status) {
	for _, v := range values {
		if n, err := strconv.Atoi(v); err != nil || n < 0 {
			return nil, statusBadVal
		}
	}
	return values, statusOK
}

const maxAllowedIPs = 32 // MPT_MAXIPADDR

func checkAllowedIPs(_ *Model, _ *link, values []string) ([]string, status) {
	if len(values) > maxAllowedIPs {
		return nil, statusBadCount
	}
	var out []string
	for _, v := range values {
		p, ok := parseAllowedIP(v)
		if !ok {
			return nil, statusInvalidIP
		}
		out = append(out, p.String())
	}
	return out, statusOK
}

// parseAllowedIP reads an address, or a network without host bits.
func parseAllowedIP(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), !a.IsUnspecified() && !a.Is4In6() && a.Zone() == ""
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil && p.Bits() > 0 && p == p.Masked() && !p.Addr().IsUnspecified() && !p.Addr().Is4In6()
}

func parseAllowed(list string) []netip.Prefix {
	var out []netip.Prefix
	for v := range strings.SplitSeq(list, ",") {
		if p, err := netip.ParsePrefix(v); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// storeProp records a value; "" is the default.
func storeProp(l *link, name, value string, persistent bool) {
	name = findProp(name).name
	sets := []*map[string]string{&l.Props}
	if persistent && l.Persistent {
		sets = append(sets, &l.Saved)
	}
	for _, set := range sets {
		if *set == nil {
			*set = map[string]string{}
		}
		if value == "" {
			delete(*set, name)
		} else {
			(*set)[name] = value
		}
	}
}

// applyProp makes a changed property real.
func (m *Model) applyProp(ctx context.Context, l *link, name string) error {
	switch name {
	case "mtu":
		if l.Class != classEtherstub {
			return m.backend.SetMTU(ctx, l.Name, l.mtu())
		}
	case "protection", "allowed-ips", "maxbw":
		if l.Class == classVNIC {
			return m.backend.SetGuard(ctx, l.Name, l.guard())
		}
	}
	return nil
}
