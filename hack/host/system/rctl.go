package system

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

const prctlUsage = `usage:
    Report resource control values and actions:
	prctl [-P] [-t [basic | privileged | system]
	[-n name] [-i process | task | project | zone] id ...
	-P space delimited output
	-t privilege level of rctl values to get
	-n name of resource control values to get
	-i idtype of operand list
    Manipulate resource control values:
	prctl [-t [basic | privileged | system]
	-n name [-srx] [-v value] [-p pid ] [-e | -d action]
	[-i process | task | project | zone] id ...
	-t privilege level of rctl value to set/replace/delete/modify
	-n name of resource control to set/replace/delete/modify
	-s set new resource control value
	-r replace first rctl value of matching privilege
	-x delete first rctl value of matching privilege, value, and 
	   recipient pid
	-v value of rctl to set/replace/delete/modify
	-p recipient pid of rctl to set/replace/delete/modify
	-e enable action of first rctl value of matching privilege,
	   value, and recipient pid
	-d disable action of first rctl value of matching privilege,
	   value, and recipient pid
	-i idtype of operand list
`

// rctl is one resource control of zones.
type rctl struct {
	name   string
	max    uint64 // the system value
	bytes  bool
	action string
	inf    bool // the largest value means infinity
	get    func(c *Caps) uint64
	set    func(c *Caps, v uint64)
	usage  func(c Caps, u Usage) uint64
	least  uint64 // what a zone has without being given one; 0 for none
}

// rctls are the zone.* controls that are simulated.
func (m *Model) rctls() []rctl {
	all := []rctl{
		{"zone.max-processes", maxInt32, false, "deny", false,
			func(c *Caps) uint64 { return c.MaxProcesses }, func(c *Caps, v uint64) { c.MaxProcesses = v },
			func(_ Caps, u Usage) uint64 { return uint64(u.Processes) }, 0},
		{"zone.max-swap", math.MaxUint64, true, "deny", false,
			func(c *Caps) uint64 { return c.Swap }, func(c *Caps, v uint64) { c.Swap = v },
			func(_ Caps, u Usage) uint64 { return u.Swap }, 0},
		{"zone.max-locked-memory", math.MaxUint64, true, "deny", false,
			func(c *Caps) uint64 { return c.Locked }, func(c *Caps, v uint64) { c.Locked = v },
			func(Caps, Usage) uint64 { return 0 }, 0},
		{"zone.max-lwps", maxInt32, false, "deny", false,
			func(c *Caps) uint64 { return c.MaxLWPs }, func(c *Caps, v uint64) { c.MaxLWPs = v },
			func(_ Caps, u Usage) uint64 { return uint64(u.LWPs) }, 0},
		{"zone.cpu-cap", math.MaxUint32, false, "deny", true,
			func(c *Caps) uint64 { return uint64(c.CPU) }, func(c *Caps, v uint64) { c.CPU = int(v) },
			func(c Caps, _ Usage) uint64 { return uint64(c.CPU) }, 0},
		{"zone.cpu-shares", 65535, false, "none", false,
			func(c *Caps) uint64 { return c.CPUShares }, func(c *Caps, v uint64) { c.CPUShares = v },
			func(c Caps, _ Usage) uint64 { return orDefault(c.CPUShares, 1) }, 1},
	}
	if m.cfg.Distro != "openindiana" {
		all = append(all, rctl{"zone.max-physical-memory", math.MaxUint64, true, "deny", false,
			func(c *Caps) uint64 { return c.Physical }, func(c *Caps, v uint64) { c.Physical = v },
			func(_ Caps, u Usage) uint64 { return u.RSS }, 0})
	}
	return all
}

// prctl is the program prctl(1) for zones.
func (m *Model) prctl(ctx context.Context, inv *program.Invocation) int {
	warn := func(format string, args ...any) { inv.Errf("prctl: "+format+"\n", args...) }
	wrong := func(format string, args ...any) int {
		warn(format, args...)
		inv.Errf("%s", prctlUsage)
		return 2
	}
	set, rest, bad := options(inv.Args(), "sPp:Fd:e:i:n:rt:v:x")
	entity, privilege := last(set, 'i'), last(set, 't')
	change := has(set, 's') || has(set, 'r') || has(set, 'x')
	if has(set, 'v') && !has(set, 'r') && !has(set, 'x') && !has(set, 'd') && !has(set, 'e') {
		change = true
		set['s'] = []string{""}
	}
	if privilege == "priv" {
		privilege = "privileged"
	}
	operations := 0
	for _, flag := range []byte("srx") {
		if has(set, flag) {
			operations++
		}
	}
	switch {
	case bad != 0:
		return wrong("unknown option")
	case len(rest) < 1:
		return wrong("no arguments specified")
	case privilege != "" && privilege != "basic" && privilege != "privileged" && privilege != "system":
		return wrong("unknown privilege %s", privilege)
	case change && !has(set, 'n'):
		return wrong("-n is required with -s, -r, -x, -e, or -d")
	case operations > 1:
		return wrong("options -s, -r, and -x are exclusive")
	case has(set, 'r') && !has(set, 'v'):
		return wrong("option -r requires use of option -v")
	case has(set, 's') && !has(set, 'v'):
		return wrong("option -s requires use of option -v")
	case change && has(set, 'P'):
		return wrong("-P not valid when manipulating resource control values")
	case entity != "zone" && entity != "zoneid", has(set, 'd'), has(set, 'e'), has(set, 'p'):
		return refuse(inv, "prctl is simulated for zones only, without -d, -e and -p")
	case change && privilege == "system":
		return wrong("cannot modify system values")
	case has(set, 's') && privilege != "privileged":
		return wrong("-p pid required when setting or replacing task or project rctl")
	}
	return m.prctlZones(ctx, inv, set, rest, change, privilege)
}

// prctlZones does what a valid command line says for every zone of it.
func (m *Model) prctlZones(ctx context.Context, inv *program.Invocation, set map[byte][]string, zones []string, change bool, privilege string) int {
	warn := func(format string, args ...any) { inv.Errf("prctl: "+format+"\n", args...) }
	var wanted []rctl
	for _, rc := range m.rctls() {
		if !has(set, 'n') || rc.name == last(set, 'n') {
			wanted = append(wanted, rc)
		}
	}
	if len(wanted) == 0 {
		warn("failed to get resource control for %s: Invalid argument", last(set, 'n'))
		if change {
			inv.Errf("%s", prctlUsage)
			return 2
		}
		return 1
	}
	code := 0
	for _, id := range zones {
		z, ok := m.zone(ctx, id)
		if !ok {
			warn("%s: unknown zone", id)
			code = 1
			continue
		}
		if change {
			code = max(code, m.changeRctl(ctx, inv, z, wanted[0], set))
			continue
		}
		m.printRctls(ctx, inv, z, wanted, has(set, 'P'), privilege)
	}
	return code
}

// zone finds an active zone by its name or id.
func (m *Model) zone(ctx context.Context, id string) (Zone, bool) {
	if id == "global" || id == "0" {
		return Zone{Name: "global"}, true
	}
	for _, z := range m.cfg.Zones.Active(ctx) {
		if z.Name == id || strconv.Itoa(z.ID) == id {
			return z, true
		}
	}
	return Zone{}, false
}

// changeRctl is -s, -r and -x.
func (m *Model) changeRctl(ctx context.Context, inv *program.Invocation, z Zone, rc rctl, set map[byte][]string) int {
	warn := func(format string, args ...any) int {
		inv.Errf("prctl: "+format+"\n", args...)
		return 1
	}
	if z.ID == 0 {
		return refuse(inv, "the global zone's controls are not simulated")
	}
	var value uint64
	if has(set, 'v') {
		v, ok := scaled(last(set, 'v'), rc.bytes)
		switch {
		case !ok:
			inv.Errf("prctl: invalid -v value %s\n%s", last(set, 'v'), prctlUsage)
			return 2
		case v > rc.max:
			inv.Errf("prctl: -v value %s exceeds system limit for resource control: %s\n%s", last(set, 'v'), rc.name, prctlUsage)
			return 2
		}
		value = v
	}
	now := orDefault(rc.get(&z.Caps), rc.least)
	switch {
	case has(set, 's') && now == value:
		return warn("resource control already exists")
	case has(set, 's') && now != 0 && now < value:
		return 0 // the smaller value goes on to be the one that counts
	case has(set, 'r') && now == 0:
		return warn("no matching resource control to replace")
	case has(set, 'x') && (now == 0 || has(set, 'v') && value != now):
		return warn("no matching resource control found for deletion")
	case has(set, 'x'):
		value = 0
	case value == 0:
		return refuse(inv, "a limit of 0 is not simulated")
	}
	rc.set(&z.Caps, value)
	if err := m.cfg.Zones.SetCaps(ctx, z.ID, z.Caps); err != nil {
		return refuse(inv, "prctl: %v", err)
	}
	return 0
}

// scaled reads a value as scaledtouint64 does: a number with a suffix, by 1024
// for bytes and by 1000 for the rest.
func scaled(s string, bytes bool) (uint64, bool) {
	s = strings.ToUpper(s)
	if bytes {
		s = strings.TrimSuffix(s, "B")
	}
	base, power := 1000.0, 0.0
	if bytes {
		base = 1024
	}
	if s != "" {
		if i := strings.IndexByte("KMGTPE", s[len(s)-1]); i >= 0 {
			s, power = s[:len(s)-1], float64(i+1)
		}
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil && power == 0 {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || strings.ContainsAny(s, "EXPN+-_") {
		return 0, false
	}
	if f *= math.Pow(base, power); f >= math.MaxUint64 {
		return 0, false
	}
	return uint64(f), true
}

// printRctls is print_rctls of prctl.c.
func (m *Model) printRctls(ctx context.Context, inv *program.Invocation, z Zone, wanted []rctl, parseable bool, privilege string) {
	u, err := m.cfg.Zones.Usage(ctx, z.ID)
	if err != nil {
		u = Usage{}
	}
	inv.Outf("zone: %d: %.70s\n", z.ID, z.Name)
	if !parseable {
		inv.Outf("%-8s%-16s%-9s%-7s%-28s%10s\n", "NAME", "PRIVILEGE", "VALUE", "FLAG", "ACTION", "RECIPIENT")
	}
	for _, rc := range wanted {
		if !parseable {
			inv.Outf("%s\n", rc.name)
		}
		row := func(privilege string, v uint64, flag, action string) {
			unit := ""
			if rc.bytes {
				unit = "B"
			}
			switch {
			case parseable:
				inv.Outf("%s %s %d %s %s -\n", rc.name, privilege, v, flag, action)
			case privilege == "usage":
				inv.Outf("%8s%-16s%5s%-4s\n", "", privilege, scaledText(v, rc.bytes), unit)
			default:
				inv.Outf("%8s%-16s%5s%-4s%4s%3s%-28s%10s\n", "", privilege, scaledText(v, rc.bytes), unit, flag, "", action, "-")
			}
		}
		if privilege == "" && (rc.name != "zone.cpu-cap" || z.Caps.CPU != 0) {
			row("usage", rc.usage(z.Caps, u), "-", "-")
		}
		if v := orDefault(rc.get(&z.Caps), rc.least); v != 0 && privilege != "system" && privilege != "basic" {
			row("privileged", v, "-", rc.action)
		}
		if privilege == "" || privilege == "system" {
			flag := "max"
			if rc.inf {
				flag = "inf"
			}
			row("system", rc.max, flag, rc.action)
		}
	}
}

// scaledText prints a value in four characters, as uint64toscaled does.
func scaledText(v uint64, bytes bool) string {
	base := 1000.0
	if bytes {
		base = 1024
	}
	f, i := float64(v), 0
	for f >= base && i < 6 {
		f /= base
		i++
	}
	if i == 0 {
		return strconv.FormatUint(v, 10)
	}
	unit := "KMGTPE"[i-1 : i]
	if s := fmt.Sprintf("%.2f%s", f, unit); len(s) <= 5 {
		return s
	}
	if s := fmt.Sprintf("%.1f%s", f, unit); len(s) <= 5 {
		return s
	}
	return fmt.Sprintf("%.0f%s", f, unit)
}
