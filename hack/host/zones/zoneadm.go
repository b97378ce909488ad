package zones

import (
	"context"
	"fmt"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// admin is one run of zoneadm(8).
type admin struct {
	m    *Model
	inv  *program.Invocation
	zone string // -z; empty for none
	args []string
}

// subcommand is one row of zoneadm's command table.
type subcommand struct {
	name  string
	usage string // empty for those that the usage text leaves out
	run   func(a *admin, ctx context.Context) int
}

func subcommands() []subcommand {
	return []subcommand{
		{"help", "help", (*admin).help},
		{"boot", "boot [-- boot_arguments]", (*admin).boot},
		{"halt", "halt", (*admin).halt},
		{"ready", "ready", (*admin).ready},
		{"shutdown", "shutdown [-r [-- boot_arguments]]", (*admin).shutdown},
		{"reboot", "reboot [-- boot_arguments]", (*admin).reboot},
		{"list", "list [-cinpv]", (*admin).list},
		{"verify", "verify", (*admin).verify},
		{"install", "install [brand-specific args]", (*admin).install},
		{"uninstall", "uninstall [-F] [brand-specific args]", (*admin).uninstall},
		{"mount", "", (*admin).notSimulated},
		{"unmount", "", (*admin).notSimulated},
		{"clone", "clone [-m method] [-s <ZFS snapshot>] [brand-specific args] zonename", (*admin).notSimulated},
		{"move", "move zonepath", (*admin).notSimulated},
		{"detach", "detach [-n] [brand-specific args]", (*admin).detach},
		{"attach", "attach [-F] [-n <path>] [brand-specific args]", (*admin).attach},
		{"mark", "mark incomplete", (*admin).mark},
		{"apply", "", (*admin).notSimulated},
		{"sysboot", "", (*admin).notSimulated},
	}
}

// zoneadm implements zoneadm(8).
func (m *Model) zoneadm(ctx context.Context, inv *program.Invocation) int {
	a := &admin{m: m, inv: inv}
	o := &options{args: inv.Args(), spec: "?u:z:R:", inv: inv, name: "zoneadm"}
	uuid, haveUUID := "", false
	for c := o.next(); c != 0; c = o.next() {
		switch c {
		case 'u':
			uuid, haveUUID = o.arg, true
		case 'z':
			a.zone = o.arg
			if o.arg == "" {
				return a.unknown()
			}
		case 'R':
			a.zerror("simulated host: alternate roots are not simulated")
			return exitErr
		default:
			return a.usage(true)
		}
	}
	rest := o.rest()
	if len(rest) == 0 {
		return a.usage(false)
	}
	if haveUUID && uuid != "" {
		name, ok := m.byUUID(uuid)
		if !ok && a.zone == "" {
			a.zerror("no zone specified")
			return exitErr
		}
		if ok {
			a.zone = name
		}
	}
	if a.zone != "" && a.zone != "global" {
		cfg, ok := m.savedConfig(a.zone)
		if !ok {
			return a.unknown()
		}
		if cfg.Root["brand"] == "" {
			a.zerror("missing or invalid brand")
			return exitErr
		}
	}
	for _, s := range subcommands() {
		if s.name == rest[0] {
			a.args = rest[1:]
			return s.run(a, ctx)
		}
	}
	return a.usage(false)
}

func (a *admin) unknown() int {
	a.inv.Errf("zoneadm: %s: %s\n", a.zone, zNoZone.Error())
	return exitErr
}

func (m *Model) byUUID(uuid string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.order {
		if z := m.zones[name]; z.uuid != "" && strings.EqualFold(z.uuid, uuid) {
			return name, true
		}
	}
	return "", false
}

// usage prints the usage text: to standard output if it was asked for.
func (a *admin) usage(explicit bool) int {
	print := a.inv.Errf
	if explicit {
		print = a.inv.Outf
	}
	print("usage:\tzoneadm help\n\tzoneadm [-z <zone>] [-u <uuid-match>] list\n" +
		"\tzoneadm {-z <zone>|-u <uuid-match>} <subcommand>\n\nSubcommands:\n\n")
	for _, s := range subcommands() {
		if s.usage != "" {
			print("%s\n", s.usage)
		}
	}
	if !explicit {
		print("\n")
	}
	return exitUsage
}

func (a *admin) help(context.Context) int {
	a.usage(true)
	return exitOK
}

// subUsage prints the usage of one subcommand. zoneadm adds an explanation,
// which is left out here.
func (a *admin) subUsage(name string) int {
	for _, s := range subcommands() {
		if s.name == name {
			a.inv.Errf("usage:\t%s\n", s.usage)
		}
	}
	return exitUsage
}

// noArguments reads the arguments of a subcommand that takes none.
func (a *admin) noArguments(name string) (code int, ok bool) {
	o := &options{args: a.args, spec: "?", inv: a.inv}
	if c := o.next(); c != 0 {
		a.subUsage(name)
		if o.bad == '?' {
			return exitOK, false
		}
		return exitUsage, false
	}
	if len(o.rest()) > 0 {
		return a.subUsage(name), false
	}
	return exitOK, true
}

// zerror prints one of zoneadm's own messages.
func (a *admin) zerror(format string, args ...any) {
	where := ""
	if a.zone != "" {
		where = fmt.Sprintf("zone '%s': ", a.zone)
	}
	a.inv.Errf("zoneadm: "+where+format+"\n", args...)
}

func (a *admin) notSimulated(context.Context) int {
	a.inv.Errf("simulated host: zoneadm %s is not simulated\n", a.inv.Args()[len(a.inv.Args())-len(a.args)-1])
	return exitErr
}

// check is sanity_check: whether the zone's state allows a subcommand.
// running: the zone must be running. idle: it must not be.
func (a *admin) check(name string, running, idle, force bool) bool {
	switch {
	case a.zone == "":
		a.zerror("no zone specified")
		return false
	case a.zone == "global":
		a.zerror("%s operation is invalid for the global zone.", name)
		return false
	case strings.HasPrefix(a.zone, "SUNW"):
		a.zerror("%s operation is invalid for zones starting with SUNW.", name)
		return false
	}
	st, ok := a.m.stateOf(a.zone)
	active := ok && st >= stateReady
	if running && !force {
		if !active {
			a.zerror("not running")
		}
		return active
	}
	if idle && active {
		a.zerror("%s operation is invalid for %s zones.", name, st)
		return false
	}
	if !ok {
		a.inv.Errf("zoneadm: %s: could not get state: %s\n", a.zone, zNoZone.Error())
		return false
	}
	return a.checkState(name, st, force)
}

func (a *admin) checkState(name string, st state, force bool) bool {
	incomplete := func() bool {
		if st == stateIncomplete {
			a.zerror("zone is incomplete; uninstall required.")
			return false
		}
		return true
	}
	switch name {
	case "uninstall":
		if st == stateConfigured {
			a.zerror("is already in state 'configured'.")
			return false
		}
	case "attach", "clone", "install":
		if st == stateInstalled {
			a.zerror("is already installed.")
			return false
		}
		if name == "attach" && force {
			return true
		}
		return incomplete()
	case "detach", "move", "ready", "boot":
		min := stateInstalled
		if name == "boot" && force {
			min = stateIncomplete
		}
		if st < min {
			a.zerror("must be %s before %s.", min, name)
			return false
		}
	case "verify":
		return incomplete()
	}
	return true
}

// mark implements mark, with the -F that its usage text does not mention.
func (a *admin) mark(ctx context.Context) int {
	o := &options{args: a.args, spec: "F"}
	force := false
	for c := o.next(); c != 0; c = o.next() {
		if c != 'F' {
			return exitUsage
		}
		force = true
	}
	rest := o.rest()
	if len(rest) != 1 {
		return exitUsage
	}
	to, ok := map[string]state{"configured": stateConfigured, "incomplete": stateIncomplete, "installed": stateInstalled}[rest[0]]
	if !ok || to != stateIncomplete && !force {
		return exitUsage
	}
	if !a.check("mark", false, true, false) {
		return exitErr
	}
	return a.locked(ctx, func() int {
		if err := a.m.setState(a.zone, to); err != zOK {
			a.inv.Errf("zoneadm: %s: could not set state: %s\n", a.zone, err.Error())
			return int(err)
		}
		return exitOK
	})
}

// locked runs f under the zone's lock.
func (a *admin) locked(ctx context.Context, f func() int) int {
	if err := a.m.lock(ctx, a.zone); err != nil {
		return exitErr // killed while waiting
	}
	defer a.m.unlock(a.zone)
	return f()
}
