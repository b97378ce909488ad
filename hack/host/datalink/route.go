package datalink

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Error numbers of illumos, which route(8) exits with.
const (
	errnoSRCH        = 3
	errnoEXIST       = 17
	errnoINVAL       = 22
	errnoNETUNREACH  = 128
	persistentPrefix = "persistent: route add "
)

// routeErrors are the texts that route prints; others are strerror's.
var routeErrors = map[int]string{
	errnoSRCH: "not in table", errnoEXIST: "entry exists", errnoINVAL: "Invalid argument", errnoNETUNREACH: "Network is unreachable",
}

// routeRun is one run of route.
type routeRun struct {
	*program.Invocation
	m          *Model
	numeric    bool
	persistent bool
}

func routeUsage(inv *program.Invocation, botched string) int {
	if botched != "" {
		inv.Errf("route: botched keyword: %s\n", botched)
	}
	inv.Errf("usage: route [ -fnpqv ] [ -R <root-dir> ] cmd [[ -<qualifers> ] args ]\n")
	return 1
}

// route is route(8). Messages of the kernel go to standard output, and their
// error number is the exit code.
func (m *Model) route(ctx context.Context, inv *program.Invocation) int {
	r := &routeRun{Invocation: inv, m: m}
	args := inv.Args()
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		opts, rest, bad := shortOptions(args[0][1:], args[1:], "R:nqdtvfp")
		if bad != nil {
			return routeUsage(inv, "")
		}
		for _, o := range opts {
			switch o.name {
			case 'n':
				r.numeric = true
			case 'p':
				r.persistent = true
			case 'q':
			default:
				inv.Errf("%sroute -%c is not simulated\n", simulatedRefusal, o.name)
				return 1
			}
		}
		args = rest
	}
	if len(args) == 0 {
		return routeUsage(inv, "")
	}
	switch args[0] {
	case "add", "delete", "get":
		return r.command(ctx, args)
	case "show":
		return r.show(args)
	case "change", "flush", "monitor":
		inv.Errf("%sroute %s is not simulated\n", simulatedRefusal, args[0])
		return 1
	}
	return routeUsage(inv, args[0])
}

// command is route add, delete and get.
func (r *routeRun) command(ctx context.Context, args []string) int {
	c, err := parseRouteCommand(args[0], args[1:])
	if err != nil {
		r.Errf("%v\n", err)
		return 1
	}
	if c.ifp != "" && r.m.iface(c.ifp) == nil {
		r.Errf("route: %s: no such interface\n", c.ifp)
		return 1
	}
	code := 0
	switch c.cmd {
	case "get":
		return r.get(c)
	case "add":
		code = r.m.addRoute(ctx, c)
	case "delete":
		code = r.m.deleteRoute(ctx, c)
	}
	if code < 0 {
		r.Errf("%sthe route could not be made\n", simulatedRefusal)
		return 1
	}
	if code == errnoINVAL {
		r.Errf("writing to routing socket: %s\n", routeErrors[code])
	}
	r.Outf("%s", c.short("", r.numeric))
	if code == 0 {
		r.Outf("\n")
	} else {
		r.Outf(": %s\n", routeErrors[code])
	}
	if r.persistent && (code == 0 || code == errnoEXIST || code == errnoSRCH) {
		return r.save(c, args[1:])
	}
	return code
}

// short is the one line that names a route.
func (c routeCommand) short(saved string, numeric bool) string {
	kind := "net"
	if c.flags&flagHost != 0 {
		kind = "host"
	}
	s := fmt.Sprintf("%s%s %s %s", c.cmd, saved, kind, c.dstText)
	switch {
	case c.gwText == "":
	case numeric:
		s += ": gateway " + c.gateway.String()
	default:
		s += ": gateway " + c.gwText
	}
	return s
}

// save changes the file of persistent routes.
func (r *routeRun) save(c routeCommand, args []string) int {
	matches := func(line string) bool {
		old, err := parseRouteCommand("add", splitWords(line))
		return err == nil && old.dstText == c.dstText && old.dst.Bits() == c.dst.Bits() && old.gwText == c.gwText
	}
	saved := &r.m.st.SavedRoute
	if c.cmd == "add" {
		if slices.ContainsFunc(*saved, matches) {
			r.Errf("%s: entry exists\n", c.short(" persistent", r.numeric))
			return 1
		}
		*saved = append(*saved, strings.Join(args, " "))
		r.Outf("%s\n", c.short(" persistent", r.numeric))
		return 0
	}
	if !slices.ContainsFunc(*saved, matches) {
		r.Errf("%s: not in file\n", c.short(" persistent", r.numeric))
		return 1
	}
	for _, line := range *saved {
		if matches(line) {
			old, _ := parseRouteCommand("delete", splitWords(line))
			r.Outf("%s\n", old.short(" persistent", r.numeric))
		}
	}
	*saved = slices.DeleteFunc(*saved, matches)
	return 0
}

func (r *routeRun) show(args []string) int {
	if !r.persistent {
		r.Errf("route: show command requires -p\n")
		return 1
	}
	if len(args) != 1 {
		r.Errf("route: invalid arguments for show\n")
		return 1
	}
	if len(r.m.st.SavedRoute) == 0 {
		r.Outf("No persistent routes are defined\n")
	}
	for _, v6 := range []bool{false, true} {
		for _, line := range r.m.st.SavedRoute {
			if c, err := parseRouteCommand("add", splitWords(line)); err == nil && c.v6 == v6 {
				r.Outf("%s%s\n", persistentPrefix, line)
			}
		}
	}
	return 0
}

// found is what a look-up in the forwarding table gives.
type found struct {
	dst     netip.Prefix
	gateway netip.Addr
	ifname  string
	flags   routeFlags
}

func (r *routeRun) get(c routeCommand) int {
	f, ok := r.m.lookup(c.dst.Addr())
	if !ok {
		r.Outf(" %s: not in table\n", c.dst.Addr())
		return errnoSRCH
	}
	name := func(a netip.Addr) string {
		if a.IsUnspecified() {
			return "default"
		}
		return a.String()
	}
	r.Outf("   route to: %s\n", name(c.dst.Addr()))
	r.Outf("destination: %s\n", name(f.dst.Addr()))
	r.Outf("       mask: %s\n", name(maskOf(f.dst)))
	if f.flags&flagGateway != 0 {
		r.Outf("    gateway: %s\n", name(f.gateway))
	}
	mtu := 8232
	if l := r.m.activeLink(f.ifname); l != nil {
		mtu = l.mtu()
	}
	r.Outf("  interface: %s\n", f.ifname)
	r.Outf("      flags: %s\n", f.flags|flagUp|flagDone)
	r.Outf(" recvpipe  sendpipe  ssthresh    rtt,ms rttvar,ms  hopcount      mtu     expire\n")
	for _, n := range []int{0, 0, 0, 0, 0, 0, mtu} {
		r.Outf("%8d  ", n)
	}
	r.Outf("%8d \n", 0)
	return 0
}

func maskOf(p netip.Prefix) netip.Addr {
	raw := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
