package datalink

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// addrRequest is what create-addr is asked for.
type addrRequest struct {
	persistent, up      bool
	typ                 string
	static              string
	hasStatic           bool
	auto, dhcp, anyDHCP bool // options of the other types were given
}

func (r *ipadmRun) createAddr(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "1T:a:dh:i:p:w:t")
	if !ok {
		return 1
	}
	q := addrRequest{persistent: true, up: true}
	static := false
	for _, o := range opts {
		switch o.name {
		case 't':
			q.persistent = false
		case 'T':
			q.typ = o.value
		case 'a':
			q.static, q.hasStatic, static = o.value, true, true
		case 'd':
			q.up, static = false, true
		case 'h', '1':
			q.anyDHCP = true
		case 'w':
			q.dhcp = true
		case 'i', 'p':
			q.auto = true
		}
	}
	if q.typ == "" || len(operands) != 1 {
		return r.die("Invalid arguments\nusage: %s", r.usage)
	}
	object := operands[0]
	if _, name, _ := strings.Cut(object, "/"); name == "" {
		return r.die("invalid address object name: %s\nusage: %s", object, r.usage)
	}
	wrong := func() int { return r.die("Invalid arguments for type %s\nusage: %s", q.typ, r.usage) }
	switch q.typ {
	case "static":
		if !q.hasStatic || q.auto || q.dhcp || q.anyDHCP {
			return wrong()
		}
		return r.createStatic(ctx, object, q)
	case "dhcp":
		if q.auto || static {
			return wrong()
		}
	case "addrconf":
		if q.dhcp || static || q.anyDHCP {
			return wrong()
		}
	default:
		return r.die("Invalid address type %s", q.typ)
	}
	r.Errf("%saddresses of type %s are not simulated\n", simulatedRefusal, q.typ)
	return r.die("Could not create address: %s", ipNotSup)
}

func (r *ipadmRun) createStatic(ctx context.Context, object string, q addrRequest) int {
	local, code := r.staticArgs(q.static)
	if code != 0 {
		return code
	}
	ifname, name, _ := strings.Cut(object, "/")
	if !validInterface(ifname) || !validAddrName(name) {
		return r.die("Error in creating address object: %s", ipInvalid)
	}
	prefix, s := parseAddress(local)
	if s != statusOK {
		return r.die("Error in setting local address: %s", s)
	}
	if s := r.addStatic(ctx, &address{Object: object, Interface: ifname, Prefix: prefix, Type: "static", Up: q.up,
		Active: true, Persistent: q.persistent}); s != statusOK {
		return r.die("Could not create address: %s", s)
	}
	return 0
}

// staticArgs reads the value of -a: local=A,remote=B or just an address.
func (r *ipadmRun) staticArgs(arg string) (local string, code int) {
	hasLocal, hasRemote, other := false, false, false
	for sub := range strings.SplitSeq(arg, ",") {
		key, value, _ := strings.Cut(sub, "=")
		switch {
		case key == "local" && hasLocal:
			return "", r.die("Multiple local addresses provided")
		case key == "local":
			local, hasLocal = value, true
		case key == "remote" && hasRemote:
			return "", r.die("Multiple remote addresses provided")
		case key == "remote":
			hasRemote = true
		case other:
			return "", r.die("Invalid address provided\nusage: %s", r.usage)
		default:
			other = true
		}
	}
	switch {
	case hasLocal && !hasRemote:
		return local, 0
	case hasLocal: // no simulated link is point to point
		return "", r.die("Could not create address: %s", ipInvalid)
	case hasRemote || !other:
		return "", r.die("Missing local address\nusage: %s", r.usage)
	}
	return arg, 0
}

// validAddrName applies i_ipadm_is_user_aobjname_valid().
func validAddrName(name string) bool {
	if name == "" || len(name) >= maxAddrObjName || !isAlpha(name[0]) {
		return false
	}
	for i := range len(name) {
		if !isAlnum(name[i]) {
			return false
		}
	}
	return true
}

// parseAddress reads ADDRESS[/LENGTH]. Without a length an IPv4 address has
// that of its class, an IPv6 address 64.
func parseAddress(s string) (netip.Prefix, status) {
	host, length, has := strings.Cut(s, "/")
	bits := 0
	if has {
		n, err := strconv.ParseUint(length, 10, 16)
		if err != nil {
			return netip.Prefix{}, ipInvalid
		}
		bits = int(n)
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, ipBadAddr
	}
	if bits > a.BitLen() {
		return netip.Prefix{}, ipInvalid
	}
	if bits == 0 {
		bits = classLength(a)
	}
	return netip.PrefixFrom(a, bits), statusOK
}

func classLength(a netip.Addr) int {
	if a.Is6() {
		return 64
	}
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// addStatic creates the address in the order of libipadm's checks. The
// interface is plumbed if it is not yet.
func (r *ipadmRun) addStatic(ctx context.Context, a *address) status {
	m := r.m
	i := m.iface(a.Interface)
	switch {
	case m.unmanaged():
		return ipNoDaemon
	case i != nil && !i.Active:
		return ipDisabled
	case i != nil && a.Persistent && !i.Persistent:
		return ipTemporary
	case a.Prefix.Addr().IsUnspecified():
		return ipBadAddr
	}
	for _, x := range m.st.Addresses {
		if x.Object == a.Object {
			return ipAddrExists
		}
	}
	created := false
	if i == nil {
		if s := r.createInterface(ctx, a.Interface, a.Persistent); s != statusOK {
			return s
		}
		created = true
	}
	s := m.addressFree(a)
	if s == statusOK && m.zone != nil && slices.Contains(m.zone.fromGlobal, a.Interface) {
		if a.Persistent {
			s = ipFromGlobal
		}
		a.Type = "from-gz" // whoever has created it: the link is what counts
	}
	if s == statusOK && a.Up && a.Interface != loopback {
		if err := m.backend.AddAddress(ctx, a.Interface, a.Prefix); err != nil {
			s = r.backendFailed(err)
		}
	}
	if s != statusOK {
		if created {
			r.deleteInterface(ctx, a.Interface)
		}
		return s
	}
	m.st.Addresses = append(m.st.Addresses, a)
	m.restoreRoutes(ctx)
	return statusOK
}

// addressFree says whether the address may go up, as
// ip_addr_availability_check().
func (m *Model) addressFree(a *address) status {
	for _, x := range m.st.Addresses {
		switch {
		case !a.Up || !x.Up || !x.Active || x.Prefix.Addr() != a.Prefix.Addr():
		case x.Interface == a.Interface:
			return ipAddrInUse
		case !a.Prefix.Addr().IsLinkLocalUnicast():
			return ipNotAvail
		}
	}
	return statusOK
}

func (r *ipadmRun) deleteAddr(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "r")
	if !ok {
		return 1
	}
	if len(operands) != 1 {
		return r.die("Usage: %s", r.usage)
	}
	if s := r.removeAddress(ctx, operands[0], len(opts) > 0); s != statusOK {
		return r.die("could not delete address: %s", s)
	}
	return 0
}

func (r *ipadmRun) removeAddress(ctx context.Context, object string, release bool) status {
	m := r.m
	n := slices.IndexFunc(m.st.Addresses, func(a *address) bool { return a.Object == object })
	if n < 0 {
		return ipNotFound
	}
	a := m.st.Addresses[n]
	if release {
		return ipNotSup // only DHCP addresses can be released
	}
	if a.Active && a.Up && a.Interface != loopback {
		if err := m.backend.RemoveAddress(ctx, a.Interface, a.Prefix); err != nil {
			return r.backendFailed(err)
		}
	}
	m.st.Addresses = slices.Delete(m.st.Addresses, n, n+1)
	m.dropRoutesFrom(ctx, a.Prefix.Addr())
	return statusOK
}

var showAddrFields = []field{{"ADDROBJ", 18}, {"TYPE", 9}, {"STATE", 13}, {"CURRENT", 8}, {"PERSISTENT", 11}, {"ADDR", 46}}

func (r *ipadmRun) showAddr(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "po:")
	if !ok {
		return 1
	}
	spec, parsable := showFlags(opts)
	if parsable && spec == "" {
		return r.die("-p requires -o")
	}
	if len(operands) > 1 {
		return r.die("Usage: %s", r.usage)
	}
	ifname, object := "", ""
	if len(operands) == 1 {
		before, name, has := strings.Cut(operands[0], "/")
		switch {
		case !has:
			return r.die("Invalid address object name provided")
		case name == "":
			ifname = before
		default:
			object = operands[0]
		}
	}
	if spec == "" {
		spec = "addrobj,type,state,addr"
	}
	t := newTable(r.Invocation, "ipadm", spec, showAddrFields, parsable, false)
	if t == nil {
		return 1
	}
	if ifname != "" && r.m.iface(ifname) == nil {
		return r.die("Could not get address: %s", ipNoInterface)
	}
	found := false
	for _, a := range r.m.sortedAddresses() {
		if (ifname == "" || a.Interface == ifname) && (object == "" || a.Object == object) {
			found = true
			t.row(a.show)
		}
	}
	if object != "" && !found {
		return r.die("Address object not found")
	}
	return 0
}

// sortedAddresses lists IPv4 before IPv6, and what is active before what is
// disabled, as getifaddrs() and libipadm do.
func (m *Model) sortedAddresses() []*address {
	rank := func(a *address) int {
		n := 0
		if !a.Active {
			n = 2
		}
		if a.Prefix.Addr().Is6() {
			n++
		}
		return n
	}
	out := slices.Clone(m.st.Addresses)
	slices.SortStableFunc(out, func(a, b *address) int { return rank(a) - rank(b) })
	return out
}

// show is what show-addr prints in a column.
func (a *address) show(column string) string {
	switch column {
	case "ADDROBJ":
		return a.Object
	case "TYPE":
		return a.Type
	case "STATE":
		switch {
		case !a.Active:
			return "disabled"
		case !a.Up:
			return "down"
		}
		return "ok"
	case "CURRENT":
		switch {
		case !a.Active:
			return "-----"
		case !a.Up && a.Persistent:
			return "-----"
		case !a.Up:
			return "---t-"
		case a.Persistent:
			return "U----"
		}
		return "U--t-"
	case "PERSISTENT":
		if a.Persistent && a.Up {
			return "U--"
		}
		return "---"
	case "ADDR":
		return a.Prefix.String()
	}
	return ""
}
