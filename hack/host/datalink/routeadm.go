package datalink

import (
	"context"

	"reddwarf.io/reddwarf/hack/host/program"
)

const routeadmUsage = `usage: routeadm [-p] [-R <root-dir>]
       routeadm [-e <option>] [-d <option>] [-r <option>]
           [-l <FMRI>] [-m <FMRI> key=value [...]]
           [-s <var>=<val>] [-R <root-dir>]
       routeadm -u

       <option> is one of:
       ipv4-forwarding
       ipv4-routing
       ipv6-forwarding
       ipv6-routing

       <var> is one of:
       ipv4-routing-daemon
       ipv4-routing-daemon-args
       ipv4-routing-stop-cmd
       ipv6-routing-daemon
       ipv6-routing-daemon-args
       ipv6-routing-stop-cmd
       routing-svcs
`

// routeadmOptions maps routeadm's options to the IP properties behind them.
// Routing daemons have none: they do not exist here.
var routeadmOptions = []struct{ name, prop string }{
	{"ipv4-routing", ""},
	{"ipv6-routing", ""},
	{"ipv4-forwarding", "ipv4 forwarding"},
	{"ipv6-forwarding", "ipv6 forwarding"},
}

// routeadm is routeadm(8): -e, -d and -r choose, -u applies, -p reports.
func (m *Model) routeadm(ctx context.Context, inv *program.Invocation) int {
	opts, operands, bad := getopt(inv.Args(), "bd:e:l:m:pR:r:s:u", nil)
	if bad != nil {
		if bad.missing {
			inv.Errf("routeadm: option requires an argument --%c\n", bad.name)
		}
		inv.Errf("%s", routeadmUsage)
		return 1
	}
	modify, update, parsable := false, false, false
	for _, o := range opts {
		switch o.name {
		case 'e', 'd', 'r':
			if !m.chooseRouteadm(inv, o) {
				return 1
			}
			modify = true
		case 'u':
			update = true
		case 'p':
			parsable = true
		default:
			inv.Errf("%srouteadm -%c is not simulated\n", simulatedRefusal, o.name)
			return 1
		}
	}
	param := ""
	if parsable && len(operands) == 1 {
		param, operands = operands[0], nil
	}
	if len(operands) > 0 {
		inv.Errf("%s", routeadmUsage)
		return 1
	}
	if parsable && (update || modify) {
		inv.Errf("routeadm: the -p option cannot be used with any of -demrsu\n%s", routeadmUsage)
		return 1
	}
	if update {
		return m.updateRouteadm(ctx, inv)
	}
	if modify {
		return 0
	}
	return m.reportRouteadm(inv, parsable, param)
}

func (m *Model) chooseRouteadm(inv *program.Invocation, o option) bool {
	for _, known := range routeadmOptions {
		switch {
		case known.name != o.value:
		case known.prop == "" && o.name == 'e':
			inv.Errf("%srouting daemons are not simulated\n", simulatedRefusal)
			return false
		default:
			m.st.Routeadm[known.name] = o.name == 'e'
			return true
		}
	}
	inv.Errf("routeadm: invalid option: %s\n%s", o.value, routeadmUsage)
	return false
}

func (m *Model) updateRouteadm(ctx context.Context, inv *program.Invocation) int {
	for name, on := range m.st.Routeadm {
		m.applyRouteadm(name, on)
	}
	if err := m.applyAllProps(ctx); err != nil {
		inv.Errf("%s%v\n", simulatedRefusal, err)
		return 1
	}
	return 0
}

// applyRouteadm sets the IP property behind a choice, for all interfaces.
func (m *Model) applyRouteadm(name string, on bool) {
	for _, o := range routeadmOptions {
		if o.name != name || o.prop == "" {
			continue
		}
		m.st.Props[o.prop] = onOff(on)
		m.st.SavedProps[o.prop] = onOff(on)
		for _, i := range m.st.Interfaces {
			if i.Active && i.Name != loopback {
				i.Props[o.prop] = onOff(on)
			}
		}
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func enabled(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func (m *Model) reportRouteadm(inv *program.Invocation, parsable bool, param string) int {
	title := map[string]string{
		"ipv4-routing": "IPv4 routing", "ipv6-routing": "IPv6 routing",
		"ipv4-forwarding": "IPv4 forwarding", "ipv6-forwarding": "IPv6 forwarding",
	}
	if !parsable {
		inv.Outf("              Configuration   Current              Current\n")
		inv.Outf("                     Option   Configuration        System State\n")
		inv.Outf("---------------------------------------------------------------\n")
	}
	shown := false
	for _, o := range routeadmOptions {
		if param != "" && param != o.name {
			continue
		}
		shown = true
		current := o.prop != "" && m.prop(o.prop) == "on"
		saved, ok := m.st.Routeadm[o.name]
		if !ok {
			saved = m.st.SavedProps[o.prop] == "on"
		}
		switch {
		case !parsable:
			inv.Outf("%27s   %-21s%s\n", title[o.name], enabled(saved), enabled(current))
		case param == "":
			inv.Outf("%s persistent=%s default=disabled current=%s\n", o.name, enabled(saved), enabled(current))
		default:
			inv.Outf("persistent=%s default=disabled current=%s\n", enabled(saved), enabled(current))
		}
	}
	if !shown {
		inv.Errf("routeadm: no such option/variable %s\n", param)
		return 1
	}
	if !parsable {
		inv.Outf("\n               Routing services   \"\"\n\nRouting daemons:\n\n                      STATE   FMRI\n")
	}
	return 0
}
