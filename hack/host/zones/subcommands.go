package zones

import (
	"context"
	"strings"
	"time"
)

// maxBootArgs is BOOTARGS_MAX.
const maxBootArgs = 256

// bootArguments joins what follows the options.
func (a *admin) bootArguments(prefix string, words []string) (string, bool) {
	s := prefix + strings.Join(words, " ")
	if len(s) >= maxBootArgs {
		a.zerror("Boot argument list too long")
		return "", false
	}
	return s, true
}

// boot implements zoneadm boot.
func (a *admin) boot(ctx context.Context) int {
	o := &options{args: a.args, spec: "?fs", inv: a.inv}
	force, prefix := false, ""
	for c := o.next(); c != 0; c = o.next() {
		switch c {
		case 's':
			prefix = "-s"
		case 'f':
			force = true
		default:
			return a.optionUsage("boot", o)
		}
	}
	args, ok := a.bootArguments(prefix, o.rest())
	if !ok || !a.check("boot", false, false, force) {
		return exitErr
	}
	return a.verifiedCall(ctx, "boot", args)
}

func (a *admin) optionUsage(name string, o *options) int {
	a.subUsage(name)
	if o.bad == '?' {
		return exitOK
	}
	return exitUsage
}

// verifiedCall verifies the zone and has zoneadmd do the rest.
func (a *admin) verifiedCall(ctx context.Context, request, args string) int {
	if !a.verifyDetails(ctx, request) {
		return exitErr
	}
	if !a.call(ctx, request, args) {
		if ctx.Err() == nil {
			a.zerror("call to zoneadmd failed")
		}
		return exitErr
	}
	return exitOK
}

// ready implements zoneadm ready.
func (a *admin) ready(ctx context.Context) int {
	if code, ok := a.noArguments("ready"); !ok {
		return code
	}
	if !a.check("ready", false, false, false) {
		return exitErr
	}
	return a.verifiedCall(ctx, "ready", "")
}

// halt implements zoneadm halt.
func (a *admin) halt(ctx context.Context) int {
	if code, ok := a.noArguments("halt"); !ok {
		return code
	}
	if !a.check("halt", false, false, false) || !a.call(ctx, "halt", "") {
		return exitErr
	}
	return exitOK
}

// reboot implements zoneadm reboot.
func (a *admin) reboot(ctx context.Context) int {
	o := &options{args: a.args, spec: "?", inv: a.inv}
	if o.next() != 0 {
		return a.optionUsage("reboot", o)
	}
	args, ok := a.bootArguments("", o.rest())
	if !ok || !a.check("reboot", true, false, false) || !a.verifyDetails(ctx, "reboot") ||
		!a.call(ctx, "reboot", args) {
		return exitErr
	}
	return exitOK
}

// shutdown implements zoneadm shutdown.
func (a *admin) shutdown(ctx context.Context) int {
	o := &options{args: a.args, spec: "?r", inv: a.inv}
	again := false
	for c := o.next(); c != 0; c = o.next() {
		if c != 'r' {
			return a.optionUsage("shutdown", o)
		}
		again = true
	}
	args, ok := a.bootArguments("", o.rest())
	if !ok || !a.check("shutdown", true, false, false) || !a.call(ctx, "shutdown", "") {
		return exitErr
	}
	if !a.waitInstalled(ctx) {
		return exitErr
	}
	if again && (!a.check("boot", false, false, false) || !a.call(ctx, "boot", args)) {
		return exitErr
	}
	return exitOK
}

// waitInstalled is zone_wait_shutdown.
func (a *admin) waitInstalled(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	tick := time.NewTicker(shutdownPoll)
	defer tick.Stop()
	for {
		if st, ok := a.m.stateOf(a.zone); !ok || st == stateInstalled {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.inv.Errf("zone '%s': unable to shutdown zone\n", a.zone)
			return false
		}
	}
}

// verify implements zoneadm verify.
func (a *admin) verify(ctx context.Context) int {
	if code, ok := a.noArguments("verify"); !ok {
		return code
	}
	if !a.check("verify", false, false, false) || !a.verifyDetails(ctx, "verify") {
		return exitErr
	}
	return exitOK
}

// trivialHook reports whether a brand's hook is true(1) or false(1), and which.
// Other hooks would have to be run on illumos.
func trivialHook(cmd string) (succeeds, trivial bool) {
	f := strings.Fields(cmd)
	if len(f) == 0 {
		return false, false
	}
	switch f[0] {
	case "/usr/bin/true", "/bin/true", "true":
		return true, true
	case "/usr/bin/false", "/bin/false", "false":
		return false, true
	}
	return false, false
}

// hook runs a brand's hook as far as that is simulated. An empty one succeeds
// if zoneadm has built-in behaviour for it that changes nothing else.
func (a *admin) hook(name string, builtin bool) (succeeds, simulated bool) {
	cfg, _ := a.m.savedConfig(a.zone)
	b, err := a.m.brand(cfg.Root["brand"], a.inv.Files)
	if err != nil {
		a.zerror("missing or invalid brand")
		return false, false
	}
	cmd := b.Hooks[name]
	if cmd == "" && builtin {
		return true, true
	}
	if cmd == "" && name == "install" {
		a.zerror("Missing brand install command")
		return false, false
	}
	if succeeds, simulated = trivialHook(cmd); !simulated {
		a.inv.Errf("simulated host: the %s of brand %s is not simulated\n", name, b.Name)
	}
	return succeeds, simulated
}

// through sets a state, and the one before it while a hook runs: a zone whose
// hook fails stays incomplete.
func (a *admin) through(ctx context.Context, hook string, to state) int {
	succeeds, simulated := a.hook(hook, false)
	if !simulated {
		return exitErr
	}
	return a.locked(ctx, func() int {
		if code := a.setState(stateIncomplete); code != exitOK {
			return code
		}
		if !succeeds {
			return exitErr
		}
		return a.setState(to)
	})
}

// install implements zoneadm install for brands with a trivial hook.
func (a *admin) install(ctx context.Context) int {
	if !a.check("install", false, true, false) || !a.verifyDetails(ctx, "install") {
		return exitErr
	}
	return a.through(ctx, "install", stateInstalled)
}

func (a *admin) setState(st state) int {
	if err := a.m.setState(a.zone, st); err != zOK {
		a.inv.Errf("zoneadm: %s: could not set state: %s\n", a.zone, err.Error())
		return exitErr
	}
	return exitOK
}

// uninstall implements zoneadm uninstall for brands with a trivial hook. The
// built-in uninstall, which destroys the zonepath, is not simulated.
func (a *admin) uninstall(ctx context.Context) int {
	if !a.check("uninstall", false, true, false) {
		return exitErr
	}
	if !hasFlag(a.args, "F") {
		if !a.inv.Terminal {
			a.zerror("Input not from terminal and -F not specified: uninstall not done.")
			return exitErr
		}
		a.inv.Errf("simulated host: zoneadm uninstall asks no questions: use -F\n")
		return exitErr
	}
	cfg, _ := a.m.savedConfig(a.zone)
	root := cfg.path() + "/root"
	if mounts := a.m.datasets.MountsBelow(root); len(mounts) > 0 {
		a.zerror("These file systems are mounted on subdirectories of %s.", root)
		for _, dir := range mounts {
			a.inv.Errf("  %s\n", dir)
		}
		return exitErr
	}
	return a.through(ctx, "uninstall", stateConfigured)
}

// attach implements zoneadm attach. With -F no hook runs: the zone only has to
// have a proper zonepath.
func (a *admin) attach(ctx context.Context) int {
	o := &options{args: a.args, spec: "?Fn:U"}
	force := false
	for c := o.next(); c != 0; c = o.next() {
		switch c {
		case 'F':
			force = true
		case 'n', 'U':
			a.inv.Errf("simulated host: zoneadm attach -%c is not simulated\n", c)
			return exitErr
		}
	}
	if !a.check("attach", false, true, false) || !a.verifyDetails(ctx, "attach") {
		return exitErr
	}
	if !force {
		if ok, _ := a.hook("attach", true); !ok {
			return exitErr
		}
	}
	return a.locked(ctx, func() int {
		cfg, ok := a.m.savedConfig(a.zone)
		if !ok {
			return exitErr
		}
		if !a.validZonepath(cfg.path(), "attach") {
			a.inv.Errf("could not verify zonepath %s because of the above errors.\n", cfg.path())
			return exitErr
		}
		return a.setState(stateInstalled)
	})
}

// detach implements zoneadm detach.
func (a *admin) detach(ctx context.Context) int {
	o := &options{args: a.args, spec: "?n"}
	for c := o.next(); c != 0; c = o.next() {
		if c == 'n' {
			a.inv.Errf("simulated host: zoneadm detach -n is not simulated\n")
			return exitErr
		}
	}
	if !a.check("detach", false, true, false) || !a.verifyDetails(ctx, "detach") {
		return exitErr
	}
	if ok, _ := a.hook("detach", true); !ok {
		return exitErr
	}
	return a.locked(ctx, func() int { return a.setState(stateConfigured) })
}
