package datalink

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// routeCommand is one parsed add, delete or get.
type routeCommand struct {
	cmd             string
	dstText, gwText string
	dst             netip.Prefix
	gateway         netip.Addr
	ifp             string
	flags           routeFlags
	v6              bool

	kind    string // "host", "net" or ""
	hasDst  bool
	hasMask bool
	iface   bool // -interface
	mask    int
}

// routeError is a syntax error; its text is what route prints.
type routeError string

// Error returns what route prints.
func (e routeError) Error() string { return string(e) }

func routeErrorf(format string, args ...any) error {
	return routeError(fmt.Sprintf(format, args...))
}

// parseRouteCommand reads the words after the command, as args_to_rtcmd().
func parseRouteCommand(cmd string, words []string) (routeCommand, error) {
	c := routeCommand{cmd: cmd, flags: flagStatic}
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		key, dash := strings.CutPrefix(w, "-")
		if !dash && w != "host" && w != "net" {
			if err := c.operand(w); err != nil {
				return c, err
			}
			continue
		}
		if takes := routeArgument[key]; !takes {
			if err := c.qualifier(key); err != nil {
				return c, err
			}
			continue
		}
		if len(words) == 0 {
			return c, routeErrorf("route: argument required following keyword %s", w)
		}
		if err := c.argument(key, words[0]); err != nil {
			return c, err
		}
		words = words[1:]
	}
	return c.finish()
}

// routeArgument are the qualifiers that take an argument.
var routeArgument = map[string]bool{
	"ifp": true, "ifa": true, "gateway": true, "dst": true, "netmask": true, "mtu": true, "hopcount": true, "expire": true,
	"recvpipe": true, "sendpipe": true, "ssthresh": true, "rtt": true, "rttvar": true, "setsrc": true, "secattr": true,
}

func (c *routeCommand) qualifier(key string) error {
	switch key {
	case "host", "net":
		if c.kind != "" && c.kind != key {
			return routeErrorf("route: -host and -net are mutually exclusive")
		}
		c.kind = key
	case "inet":
		c.v6 = false
	case "inet6":
		c.v6 = true
	case "iface", "interface":
		c.iface = true
		c.flags &^= flagStatic
	case "nostatic":
		c.flags &^= flagStatic
	case "static":
		c.flags |= flagStatic
	case "reject":
		c.flags |= flagReject
	case "blackhole":
		c.flags |= flagBlackhole
	case "private":
		c.flags |= flagPrivate
	case "link", "sa", "lock", "lockrest", "proto1", "proto2", "cloning", "xresolve", "multirt", "indirect":
		return routeErrorf("%sroute qualifier -%s is not simulated", simulatedRefusal, key)
	default:
		return routeErrorf("route: botched keyword: %s", key)
	}
	return nil
}

func (c *routeCommand) argument(key, value string) error {
	switch key {
	case "ifp":
		c.ifp = value
	case "gateway":
		return c.setGateway(value)
	case "dst":
		return c.setDst(value)
	case "netmask":
		c.kind = "net"
		return c.setMask(value)
	default:
		return routeErrorf("%sroute qualifier -%s is not simulated", simulatedRefusal, key)
	}
	return nil
}

// operand reads the destination, the gateway, then a netmask or an old metric.
func (c *routeCommand) operand(w string) error {
	switch {
	case !c.hasDst:
		return c.setDst(w)
	case c.gwText == "":
		return c.setGateway(w)
	}
	if n, err := strconv.ParseUint(w, 10, 31); err == nil {
		c.iface = n == 0
		return nil
	}
	return c.setMask(w)
}

func (c *routeCommand) setDst(s string) error {
	c.dstText, c.hasDst = s, true
	bits := 32
	if c.v6 {
		bits = 128
	}
	if s == "default" {
		zero := netip.IPv4Unspecified()
		if c.v6 {
			zero = netip.IPv6Unspecified()
		}
		c.dst, c.hasMask, c.mask = netip.PrefixFrom(zero, 0), true, 0
		return nil
	}
	host, length, has := strings.Cut(s, "/")
	a, err := netip.ParseAddr(host)
	if has {
		n, nerr := strconv.Atoi(length)
		switch {
		case host == "":
			return routeErrorf("route: %s: unexpected '/'", s)
		case nerr != nil || !isDigit(length[0]):
			return routeErrorf("route: bad prefix length %s", length)
		case n > bits:
			return routeErrorf("route: prefix length %s out of range", length)
		}
		c.hasMask, c.mask = true, n
	}
	if err != nil || a.Is4() == c.v6 || a.Zone() != "" {
		return c.badAddress(s)
	}
	c.dst = netip.PrefixFrom(a, bits)
	if !has && !c.v6 && c.kind != "host" && (c.kind == "net" || networkAddress(a)) {
		c.hasMask, c.mask = true, classMask(a)
	}
	return nil
}

// networkAddress says whether all host bits of an address's class are zero.
func networkAddress(a netip.Addr) bool {
	return netip.PrefixFrom(a, classLength(a)).Masked().Addr() == a
}

// classMask is the mask of a network without length: that of the class, longer
// where more bytes are used.
func classMask(a netip.Addr) int {
	b := a.As4()
	n := classLength(a)
	for i := 3; i*8 >= n; i-- {
		if b[i] != 0 {
			return (i + 1) * 8
		}
	}
	return n
}

func (c *routeCommand) setGateway(s string) error {
	c.gwText = s
	if strings.Contains(s, "/") {
		return routeErrorf("route: %s: unexpected '/'", s)
	}
	if s == "default" {
		c.gateway = netip.IPv4Unspecified()
		return nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is4() == c.v6 || a.Zone() != "" {
		return c.badAddress(s)
	}
	c.gateway = a
	return nil
}

// badAddress is the error of an address that is none, or of the other family.
func (c *routeCommand) badAddress(s string) error {
	if c.v6 {
		return routeErrorf("route: %s: bad address", s)
	}
	return routeErrorf("%s: bad value", s)
}

func (c *routeCommand) setMask(s string) error {
	if c.v6 {
		return routeErrorf("route: -netmask not supported for IPv6: use <prefix>/<prefix-length> instead")
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return routeErrorf("%s: bad value", s)
	}
	for n := range 33 {
		if maskOf(netip.PrefixFrom(a, n)) == a {
			c.hasMask, c.mask = true, n
			return nil
		}
	}
	return routeErrorf("%sroutes with holes in their mask are not simulated", simulatedRefusal)
}

// finish checks what is missing and computes the flags.
func (c routeCommand) finish() (routeCommand, error) {
	switch {
	case !c.hasDst:
		return c, routeErrorf("route: destination required")
	case c.cmd != "get" && c.gwText == "":
		return c, routeErrorf("route: gateway required for add or delete command")
	}
	bits := c.dst.Addr().BitLen()
	if !c.iface {
		c.flags |= flagGateway
	}
	if c.kind != "net" && (!c.hasMask || c.mask == bits) {
		c.flags |= flagHost
	}
	if !c.hasMask || c.flags&flagHost != 0 {
		c.mask = bits
	}
	if c.cmd == "get" && !c.hasMask {
		c.mask = bits
	}
	addr := c.dst.Addr()
	c.dst = netip.PrefixFrom(addr, c.mask)
	if c.cmd != "get" {
		c.dst = c.dst.Masked()
	}
	return c, nil
}
