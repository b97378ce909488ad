package datalink

import (
	"context"
	"slices"

	"reddwarf.io/reddwarf/hack/host/program"
)

// The texts of ipadm_errors[] in libipadm that the model uses.
const (
	ipBadAddr      status = "Invalid address"
	ipBadProtocol  status = "Incorrect protocol family for operation"
	ipIfExists     status = "Interface already exists"
	ipAddrExists   status = "Address object already exists"
	ipNoInterface  status = "Interface does not exist"
	ipInvalid      status = "Invalid argument provided"
	ipNoDLPI       status = "Could not open DLPI link"
	ipUnknownProp  status = "Unknown property"
	ipNotFound     status = "Object not found"
	ipIfInUse      status = "Interface already in use"
	ipAddrInUse    status = "Address already in use"
	ipNotAvail     status = "Can't assign requested address"
	ipTemporary    status = "Persistent operation on temporary object"
	ipNotSup       status = "Operation not supported"
	ipDisabled     status = "Operation not supported on disabled object"
	ipRange        status = "Value is outside the allowed range"
	ipFailed       status = "Operation failed"
	ipNoDaemon     status = "Could not communicate with ipmgmtd"
	ipFromGlobal   status = "Operation not permitted on from-gz interface"
	loopback              = "lo0"
	maxInterface          = 32 // LIFNAMSIZ, with the final NUL
	maxAddrObjName        = 32 // IPADM_AOBJ_USTRSIZ, with the final NUL
)

// ipadmRun is one run of ipadm.
type ipadmRun struct {
	*program.Invocation
	m     *Model
	usage string
}

type ipadmCommand struct {
	name, usage string
	run         func(*ipadmRun, context.Context, []string) int
}

// ipadm is ipadm(8). Its exit code is 0 or 1.
func (m *Model) ipadm(ctx context.Context, inv *program.Invocation) int {
	subs := ipadmCommands()
	args := inv.Args()
	if len(args) > 0 {
		for _, s := range subs {
			if s.name != args[0] {
				continue
			}
			if s.run == nil {
				inv.Errf("%sipadm %s is not simulated\n", simulatedRefusal, s.name)
				return 1
			}
			return s.run(&ipadmRun{inv, m, s.usage}, ctx, args[1:])
		}
		inv.Errf("ipadm: unknown subcommand '%s'\n", args[0])
	}
	inv.Errf("usage:  ipadm <subcommand> <args> ...\n")
	for _, s := range subs {
		inv.Errf("%s\n", s.usage)
	}
	return 1
}

func ipadmCommands() []ipadmCommand {
	return []ipadmCommand{
		{"create-if", "\tcreate-if\t[-t] <interface>", (*ipadmRun).createIf},
		{"disable-if", "\tdisable-if\t-t <interface>", nil},
		{"enable-if", "\tenable-if\t-t <interface>", nil},
		{"delete-if", "\tdelete-if\t<interface>", (*ipadmRun).deleteIf},
		{"show-if", "\tshow-if\t\t[[-p] -o <field>,...] [<interface>]\n", (*ipadmRun).showIf},
		{"set-ifprop", "\tset-ifprop\t[-t] -p <prop>=<value[,...]> -m <protocol> <interface>", (*ipadmRun).setIfprop},
		{"reset-ifprop", "\treset-ifprop\t[-t] -p <prop> -m <protocol> <interface>", (*ipadmRun).resetIfprop},
		{"show-ifprop", "\tshow-ifprop\t[[-c] -o <field>,...] [-p <prop>,...]\n\t\t\t[-m <protocol>] [interface]\n", (*ipadmRun).showIfprop},
		{"create-addr", "\tcreate-addr\t[-t] -T static [-d] -a{local|remote}=addr[/prefixlen]\n\t\t\t<addrobj>\n" +
			"\tcreate-addr\t[-t] -T dhcp [-w <seconds> | forever]\n\t\t\t[-1] [-h <hostname>] <addrobj>\n" +
			"\tcreate-addr\t[-t] -T addrconf [-i interface-id]\n\t\t\t[-p {stateful|stateless}={yes|no}] <addrobj>", (*ipadmRun).createAddr},
		{"down-addr", "\tdown-addr\t[-t] <addrobj>", nil},
		{"up-addr", "\tup-addr\t\t[-t] <addrobj>", nil},
		{"disable-addr", "\tdisable-addr\t-t <addrobj>", nil},
		{"enable-addr", "\tenable-addr\t-t <addrobj>", nil},
		{"refresh-addr", "\trefresh-addr\t[-i] <addrobj>", nil},
		{"delete-addr", "\tdelete-addr\t[-r] <addrobj>", (*ipadmRun).deleteAddr},
		{"show-addr", "\tshow-addr\t[[-p] -o <field>,...] [<addrobj>]\n", (*ipadmRun).showAddr},
		{"set-addrprop", "\tset-addrprop\t[-t] -p <prop>=<value[,...]> <addrobj>", nil},
		{"reset-addrprop", "\treset-addrprop\t[-t] -p <prop> <addrobj>", nil},
		{"show-addrprop", "\tshow-addrprop\t[[-c] -o <field>,...] [-p <prop>,...] <addrobj>\n", nil},
		{"set-prop", "\tset-prop\t[-t] -p <prop>[+|-]=<value[,...]> <protocol>", (*ipadmRun).setProp},
		{"reset-prop", "\treset-prop\t[-t] -p <prop> <protocol>", (*ipadmRun).resetProp},
		{"show-prop", "\tshow-prop\t[[-c] -o <field>,...] [-p <prop>,...] [protocol]", (*ipadmRun).showProp},
	}
}

var ipadmLongOptions = map[string]byte{
	"temporary": 't', "type": 'T', "address": 'a', "down": 'd', "hostname": 'h', "interface-id": 'i', "prop": 'p',
	"wait": 'w', "release": 'r', "parsable": 'p', "parseable": 'p', "output": 'o', "module": 'm', "primary": '1',
}

func (r *ipadmRun) die(format string, args ...any) int {
	r.Errf("ipadm: "+format+"\n", args...)
	return 1
}

func (r *ipadmRun) options(args []string, short string) ([]option, []string, bool) {
	opts, operands, bad := getopt(args, short, ipadmLongOptions)
	if bad == nil {
		return opts, operands, true
	}
	if bad.missing {
		r.die("option '-%c' requires a value\nusage: %s", bad.name, r.usage)
	} else {
		r.die("unrecognized option '-%c'\nusage: %s", bad.name, r.usage)
	}
	return nil, nil, false
}

// backendFailed reports what only the simulation can fail at.
func (r *ipadmRun) backendFailed(err error) status {
	r.Errf("%s%v\n", simulatedRefusal, err)
	return ipFailed
}

func (r *ipadmRun) createIf(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "t")
	if !ok {
		return 1
	}
	if len(operands) != 1 {
		return r.die("Usage: %s", r.usage)
	}
	name := operands[0]
	s := ipInvalid
	if validInterface(name) {
		s = r.createInterface(ctx, name, len(opts) == 0)
	}
	if s != statusOK {
		return r.die("Could not create %s : %s", name, s)
	}
	return 0
}

// validInterface says whether name is a driver and an instance number.
func validInterface(name string) bool {
	if len(name) >= maxInterface || len(name) < 2 || !isDigit(name[len(name)-1]) || !isAlpha(name[0]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// createInterface plumbs IP on a link, as i_ipadm_create_if().
func (r *ipadmRun) createInterface(ctx context.Context, name string, persistent bool) status {
	m := r.m
	if i := m.iface(name); i != nil {
		if i.Active {
			return ipIfExists
		}
		return ipDisabled
	}
	l := m.activeLink(name)
	switch {
	case m.unmanaged():
		return ipNoDaemon
	case m.zone != nil && name == loopback:
		// A zone's loopback interface is like any other until it is plumbed.
	case l != nil && l.Zone != "":
		return ipIfInUse
	case l != nil && persistent && !l.Persistent:
		return ipTemporary
	case l == nil, l.Class == classEtherstub: // no primary MAC client on an anchor VNIC
		return ipNoDLPI
	}
	if err := m.backend.Plumb(ctx, name); err != nil {
		return r.backendFailed(err)
	}
	i := &ipif{Name: name, Active: true, Persistent: persistent, Props: map[string]string{}, Saved: map[string]string{}}
	m.st.Interfaces = append(m.st.Interfaces, i)
	for _, proto := range []string{"ipv4", "ipv6"} {
		key := proto + " forwarding"
		if m.prop(key) == "on" {
			i.Props[key] = "on"
		}
		if err := m.backend.SetForwarding(ctx, name, proto == "ipv6", m.prop(key) == "on"); err != nil {
			return r.backendFailed(err)
		}
	}
	return statusOK
}

func (r *ipadmRun) deleteIf(ctx context.Context, args []string) int {
	if len(args) != 1 {
		return r.die("Usage: %s", r.usage)
	}
	if s := r.deleteInterface(ctx, args[0]); s != statusOK {
		return r.die("Could not delete %s: %s", args[0], s)
	}
	return 0
}

func (r *ipadmRun) deleteInterface(ctx context.Context, name string) status {
	m := r.m
	if m.unmanaged() {
		return ipNoDaemon
	}
	if !validInterface(name) {
		return ipInvalid
	}
	i := m.iface(name)
	if i == nil {
		return ipNoInterface
	}
	if name == loopback {
		r.Errf("%sdeleting the loopback interface is not simulated\n", simulatedRefusal)
		return ipFailed
	}
	if i.Active {
		if err := m.backend.Unplumb(ctx, name); err != nil {
			return r.backendFailed(err)
		}
	}
	m.st.Addresses = slices.DeleteFunc(m.st.Addresses, func(a *address) bool { return a.Interface == name })
	m.st.Interfaces = slices.DeleteFunc(m.st.Interfaces, func(x *ipif) bool { return x == i })
	m.dropRoutesOf(ctx, name)
	return statusOK
}

var showIfFields = []field{{"IFNAME", 11}, {"STATE", 9}, {"CURRENT", 13}, {"PERSISTENT", 11}}

func (r *ipadmRun) showIf(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "po:")
	if !ok {
		return 1
	}
	spec, parsable := showFlags(opts)
	if len(operands) > 1 {
		return r.die("Usage: %s", r.usage)
	}
	t := newTable(r.Invocation, "ipadm", spec, showIfFields, parsable, false)
	if t == nil {
		return 1
	}
	list := r.m.st.Interfaces
	if len(operands) == 1 {
		i := r.m.iface(operands[0])
		if i == nil {
			return r.die("Could not get interface(s): %s", ipNoInterface)
		}
		list = []*ipif{i}
	}
	for _, i := range list {
		t.row(func(c string) string { return r.m.showIfColumn(i, c) })
	}
	return 0
}

func showFlags(opts []option) (spec string, parsable bool) {
	for _, o := range opts {
		switch o.name {
		case 'p', 'c':
			parsable = true
		case 'o':
			spec = o.value
		}
	}
	return spec, parsable
}

// showIfColumn is what show-if prints in a column.
func (m *Model) showIfColumn(i *ipif, column string) string {
	switch column {
	case "IFNAME":
		return i.Name
	case "STATE":
		if !i.Active {
			return "disabled"
		}
		for _, a := range m.st.Addresses {
			if a.Interface == i.Name && a.Active && a.Up {
				return "ok"
			}
		}
		return "down"
	case "CURRENT":
		switch {
		case !i.Active:
			return "------------"
		case i.Name == loopback:
			return "-m-v------46"
		}
		return "bm--------46"
	case "PERSISTENT":
		if i.Persistent && i.Name != loopback {
			return "-46"
		}
		return "---"
	}
	return ""
}
