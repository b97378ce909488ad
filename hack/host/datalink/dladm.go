package datalink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// status is an error of libdladm by its text; empty is success.
type status string

// The texts of dladm_status2str() that the model uses.
const (
	statusOK         status = ""
	statusBadArg     status = "invalid argument"
	statusFailed     status = "operation failed"
	statusNotSup     status = "operation not supported"
	statusNotFound   status = "object not found"
	statusBadVal     status = "invalid value"
	statusExist      status = "object already exists"
	statusReadOnly   status = "read-only property"
	statusBadCount   status = "invalid number of values"
	statusTempOnly   status = "change cannot be persistent"
	statusBusy       status = "link busy"
	statusMACInUse   status = "MAC address is already in use"
	statusBadMAC     status = "invalid MAC address value"
	statusBadMACLen  status = "invalid MAC address length"
	statusNoFactory  status = "factory MAC address slots not supported"
	statusBadPrefix  status = "Invalid MAC address prefix value"
	statusMinMaxBW   status = "minimum value for maxbw is 1200K"
	statusBadMTU     status = "MTU check failed, MTU outside of device's supported range"
	statusInvalidIP  status = "invalid IP address"
	simulatedRefusal        = "simulated host: "
)

// dladmRun is one run of dladm.
type dladmRun struct {
	*program.Invocation
	m   *Model
	sub *subcommand
}

// subcommand is one line of dladm's table of commands, in its order.
type subcommand struct {
	name, usage string
	run         func(*dladmRun, context.Context, []string) int
}

// dladm is dladm(8). Its exit code is 0 or 1.
func (m *Model) dladm(ctx context.Context, inv *program.Invocation) int {
	subs := m.dladmCommands()
	args := inv.Args()
	if len(args) == 0 {
		return dladmUsage(inv, subs)
	}
	for i := range subs {
		s := &subs[i]
		if s.name != args[0] {
			continue
		}
		r := &dladmRun{Invocation: inv, m: m, sub: s}
		if s.run == nil {
			inv.Errf("%sdladm %s is not simulated\n", simulatedRefusal, s.name)
			return 1
		}
		return s.run(r, ctx, args[1:])
	}
	inv.Errf("dladm: unknown subcommand '%s'\n", args[0])
	return dladmUsage(inv, subs)
}

func dladmUsage(inv *program.Invocation, subs []subcommand) int {
	inv.Errf("usage:  dladm <subcommand> <args> ...\n")
	for _, s := range subs {
		if s.usage != "" {
			inv.Errf("%s\n", s.usage)
		}
	}
	return 1
}

// die prints a fatal error.
func (r *dladmRun) die(format string, args ...any) int {
	r.Errf("dladm: "+format+"\n", args...)
	return 1
}

func (r *dladmRun) warn(format string, args ...any) {
	r.Errf("dladm: warning: "+format+"\n", args...)
}

// dieStatus prints a fatal error of libdladm.
func (r *dladmRun) dieStatus(s status, format string, args ...any) int {
	return r.die("%s: %s", fmt.Sprintf(format, args...), s)
}

// dieBackend reports what only the simulation can fail at.
func (r *dladmRun) dieBackend(err error, format string, args ...any) int {
	r.Errf("%s%v\n", simulatedRefusal, err)
	return r.dieStatus(statusFailed, format, args...)
}

// options parses the arguments of a subcommand, or prints why it can't.
func (r *dladmRun) options(args []string, short string) ([]option, []string, bool) {
	opts, operands, bad := getopt(args, short, dladmLongOptions)
	if bad == nil {
		return opts, operands, true
	}
	if bad.missing {
		r.die("option '-%c' requires a value\nusage: %s", bad.name, r.sub.usage)
	} else {
		r.die("unrecognized option '-%c'\nusage: %s", bad.name, r.sub.usage)
	}
	return nil, nil, false
}

func (r *dladmRun) usage() int { return dladmUsage(r.Invocation, r.m.dladmCommands()) }

// dladmLongOptions joins the long options of the simulated subcommands; none
// means different things in two of them.
var dladmLongOptions = map[string]byte{
	"temporary": 't', "root-dir": 'R', "link": 'l', "mac-address": 'm', "slot": 'n', "mac-prefix": 'r',
	"vlan-id": 'v', "vrid": 'V', "address-family": 'A', "output": 'o', "parsable": 'p', "parseable": 'p',
	"persistent": 'P', "statistics": 's', "interval": 'i', "prop": 'p', "forcible": 'f',
}

// dladmCommands is the table of subcommands. Those without a function are
// known on illumos, but not here.
func (m *Model) dladmCommands() []subcommand {
	zoneOption := ""
	if m.distro == "smartos" {
		zoneOption = "[-z zonename] "
	}
	subs := []subcommand{
		{"rename-link", "    rename-link      <oldlink> <newlink>", nil},
		{"show-link", "    show-link        [-pP] [-o <field>,..] [-s [-i <interval>]] [<link>]\n", (*dladmRun).showLink},
		{"create-aggr", "    create-aggr      [-t] [-P <policy>] [-L <mode>] [-T <time>] [-u <address>]\n\t\t     -l <link> [-l <link>...] <link>", nil},
		{"delete-aggr", "    delete-aggr      [-t] <link>", nil},
		{"add-aggr", "    add-aggr         [-t] -l <link> [-l <link>...] <link>", nil},
		{"remove-aggr", "    remove-aggr      [-t] -l <link> [-l <link>...] <link>", nil},
		{"modify-aggr", "    modify-aggr      [-t] [-P <policy>] [-L <mode>] [-T <time>] [-u <address>]\n\t\t     <link>", nil},
		{"show-aggr", "    show-aggr        [-pPLx] [-o <field>,..] [-s [-i <interval>]] [<link>]\n", nil},
		{"set-linkprop", "    set-linkprop     [-t] " + zoneOption + "-p <prop>=<value>[,...] <name>", (*dladmRun).setLinkprop},
		{"reset-linkprop", "    reset-linkprop   [-t] " + zoneOption + "[-p <prop>,...] <name>", (*dladmRun).resetLinkprop},
		{"show-linkprop", "    show-linkprop    [-cP] [-o <field>,...] " + zoneOption + "[-p <prop>,...] <name>\n", (*dladmRun).showLinkprop},
		{"show-ether", "    show-ether       [-px][-o <field>,...] <link>\n", nil},
		{"create-vlan", "    create-vlan      [-ft] -l <link> -v <vid> [link]", nil},
		{"delete-vlan", "    delete-vlan      [-t] <link>", nil},
		{"show-vlan", "    show-vlan        [-pP] [-o <field>,..] [<link>]\n", nil},
		{"create-iptun", "    create-iptun     [-t] -T <type> [-a {local|remote}=<addr>,...] <link>]", nil},
		{"delete-iptun", "    delete-iptun     [-t] <link>", nil},
		{"show-iptun", "    show-iptun       [-pP] [-o <field>,..] [<link>]\n", nil},
		{"delete-phys", "    delete-phys      <link>", nil},
		{"show-phys", "    show-phys        [-m | -H | -P] [[-p] [-o <field>[,...]] [<link>]\n", (*dladmRun).showPhys},
		{"create-vnic", "    create-vnic      [-t] -l <link> [-m <value> | auto |\n\t\t     {factory [-n <slot-id>]} | {random [-r <prefix>]} |\n" +
			"\t\t     {vrrp -V <vrid> -A {inet | inet6}} [-v <vid> [-f]]\n\t\t     [-p <prop>=<value>[,...]] <vnic-link>", (*dladmRun).createVNIC},
		{"delete-vnic", "    delete-vnic      [-t] " + zoneOption + "<vnic-link>", (*dladmRun).deleteVNIC},
		{"show-vnic", "    show-vnic        [-pP] [-l <link>] " + zoneOption + "[-s [-i <interval>]] [<link>]\n", (*dladmRun).showVNIC},
		{"create-etherstub", "    create-etherstub [-t] <link>", (*dladmRun).createEtherstub},
		{"delete-etherstub", "    delete-etherstub [-t] <link>", (*dladmRun).deleteEtherstub},
		{"show-etherstub", "    show-etherstub   [-t] [<link>]\n", (*dladmRun).showEtherstub},
		{"create-simnet", "", nil},
		{"modify-simnet", "", nil},
		{"delete-simnet", "", nil},
		{"show-simnet", "", nil},
		{"create-bridge", "    create-bridge    [-R <root-dir>] [-P <protect>] [-p <priority>]\n\t\t     [-m <max-age>] [-h <hello-time>] [-d <forward-delay>]\n" +
			"\t\t     [-f <force-protocol>] [-l <link>]... <bridge>", nil},
		{"delete-bridge", "    delete-bridge    [-R <root-dir>] <bridge>", nil},
		{"add-bridge", "    add-bridge       [-R <root-dir>] -l <link> [-l <link>]... <bridge>", nil},
		{"remove-bridge", "    remove-bridge    [-R <root-dir>] -l <link> [-l <link>]... <bridge>", nil},
		{"show-usage", "    show-usage       [-a] [-d | -F <format>] [-s <DD/MM/YYYY,HH:MM:SS>]\n\t\t     [-e <DD/MM/YYYY,HH:MM:SS>] -f <logfile> [<link>]", nil},
	}
	if m.distro == "openindiana" {
		return subs
	}
	return slices.Concat(subs, []subcommand{
		{"create-overlay", "    create-overlay   [-t] -e <encap> -s <search> -v <vnetid>\n\t\t     [ -p <prop>=<value>[,...]] <overlay>", nil},
		{"delete-overlay", "    delete-overlay   <overlay>", nil},
		{"modify-overlay", "    modify-overlay   -d mac | -f | -s mac=ip:port <overlay>", nil},
		{"show-overlay", "    show-overlay     [-f | -t] [[-p] -o <field>,...] [<overlay>]\n", nil},
	})
}

// altroot refuses -R: there is only one root.
func (r *dladmRun) altroot() int {
	r.Errf("%sdladm -R is not simulated\n", simulatedRefusal)
	return 1
}

// parseProps splits the -p arguments as dladm_parse_args() does: a value may
// hold commas, so `a=1,2,b=3` gives a two values.
func parseProps(text string, noValues bool) ([]propArg, bool) {
	var list []propArg
	open := false // the last property still takes values
	word, start := "", 0
	for i := range len(text) {
		c := text[i]
		separator := c == '=' || c == ','
		if !separator && i != len(text)-1 {
			continue
		}
		end := i
		if !separator {
			end = i + 1
		}
		if word = text[start:end]; separator && word == "" {
			return nil, false
		}
		start = i + 1
		if open && c != '=' {
			if noValues {
				return nil, false
			}
			last := &list[len(list)-1]
			last.values = append(last.values, word)
			continue
		}
		list = append(list, propArg{name: word})
		open = c != ','
	}
	return list, true
}

// propArg is one property of a -p option.
type propArg struct {
	name   string
	values []string
}

// joinProps collects the -p options as dladm does, each ended by a comma.
func joinProps(opts []option) (string, bool) {
	var b strings.Builder
	for _, o := range opts {
		if o.name == 'p' {
			b.WriteString(o.value + ",")
		}
	}
	return b.String(), b.Len() < 1024 // DLADM_STRSIZE
}
