package zones

import (
	"context"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// login is one run of zlogin(1).
type login struct {
	m   *Model
	inv *program.Invocation

	user                                          string
	console, disconnect, failsafe, null, pty, std bool
	userGiven                                     bool
}

// failsafeShell is what zlogin -S runs.
const failsafeShell = "/sbin/sh"

func (l *login) usage() int {
	if l.m.distro.gate() {
		l.inv.Errf("usage: zlogin [ -dnQCES ] [ -e cmdchar ] [-l user] zonename [command [args ...] ]\n")
	} else {
		l.inv.Errf("usage: zlogin [ -dinCEINQS ] [ -e cmdchar ] [-l user] zonename [command [args ...] ]\n")
	}
	return exitUsage
}

func (l *login) zerror(format string, args ...any) int {
	l.inv.Errf("zlogin: "+format+"\n", args...)
	return exitErr
}

// zlogin implements zlogin(1).
func (m *Model) zlogin(ctx context.Context, inv *program.Invocation) int {
	l := &login{m: m, inv: inv, user: "root"}
	spec := "dnECR:Se:l:Q"
	if !m.distro.gate() {
		spec += "iIN"
	}
	o := &options{args: inv.Args(), spec: spec, inv: inv, name: "zlogin"}
	for c := o.next(); c != 0; c = o.next() {
		switch c {
		case 'C':
			l.console = true
		case 'S':
			l.failsafe = true
		case 'd':
			l.disconnect = true
		case 'i':
			l.pty = true
		case 'I', 'N':
			l.std = true
		case 'l':
			l.user, l.userGiven = o.arg, true
		case 'n':
			l.null = true
		case 'E', 'Q', 'e':
		case 'R':
			return l.zerror("simulated host: alternate roots are not simulated")
		default:
			return l.usage()
		}
	}
	rest := o.rest()
	if code, ok := l.conflict(rest); !ok {
		return code
	}
	return l.run(ctx, rest[0], rest[1:])
}

// conflict refuses options that exclude each other.
func (l *login) conflict(rest []string) (int, bool) {
	refuse := func(format string) (int, bool) {
		l.zerror("%s", format)
		return l.usage(), false
	}
	switch {
	case l.console && l.userGiven:
		return refuse("-l may not be specified for console login")
	case l.console && l.null:
		return refuse("-n may not be specified for console login")
	case l.console && l.failsafe:
		return refuse("-S may not be specified for console login")
	case l.failsafe && l.userGiven:
		return refuse("-l may not be specified for failsafe login")
	case !l.console && l.disconnect:
		return refuse("-d may only be specified with console login")
	case len(rest) == 1 && l.null:
		return refuse("-n may not be specified for interactive login")
	case len(rest) > 1 && l.console:
		return refuse("Commands may not be specified for console login.")
	case len(rest) == 0:
		return l.usage(), false
	}
	return 0, true
}

func (l *login) run(ctx context.Context, name string, args []string) int {
	if name == "global" {
		return l.zerror("'zlogin' not applicable to the global zone")
	}
	st, ok := l.m.stateOf(name)
	switch {
	case !ok:
		return l.zerror("zone '%s' unknown", name)
	case st < stateInstalled:
		return l.zerror("cannot login to a zone which is '%s'", st)
	case l.console || l.std:
		l.inv.Errf("simulated host: zlogin -C and -I are not simulated\n")
		return exitErr
	case l.pty && len(args) > 0 && !l.inv.Terminal:
		l.inv.Errf("simulated host: what zlogin -i does without a terminal is undefined\n")
		return exitErr
	case st != stateRunning && st != stateMounted:
		return l.zerror("login allowed only to running zones (%s is '%s').", name, st)
	}
	k := (&operation{m: l.m, name: name}).kernel()
	if k == nil {
		return l.zerror("failed to get zoneid for zone '%s'", name)
	}
	e := l.entry(k, args)
	status, err := l.m.backend.Enter(ctx, k.id, e)
	if err != nil {
		return l.zerror("could not enter zone %s: %v", name, err)
	}
	// WEXITSTATUS: a program that died by a signal counts as exit code 0.
	return status >> 8 & 0xff
}

// entry says what is run in the zone.
func (l *login) entry(k *kernelZone, args []string) Entry {
	e := Entry{Dir: "/", Stdin: l.inv.Stdin, Stdout: l.inv.Stdout, Stderr: l.inv.Stderr}
	if l.null {
		e.Stdin = eof{}
	}
	interactive := len(args) == 0 && l.inv.Terminal || l.pty && l.inv.Terminal
	e.Terminal = interactive
	e.Argv = l.argv(k, args, interactive)
	pathVar := "PATH=/usr/sbin:/usr/bin"
	if k.brand.BootsLikeLinux {
		pathVar = "PATH=/bin:/usr/sbin:/usr/bin"
	}
	e.Env = []string{pathVar}
	switch {
	case l.failsafe:
		e.Env = append(e.Env, "HOME=/", "SHELL="+failsafeShell)
	case !interactive:
		env, dir := l.userEnv(k)
		e.Env, e.Dir = append(e.Env, env...), dir
	}
	return e
}

// account is the user's line of the zone's passwd(5), which the brand's
// user_cmd prints.
func (l *login) account(k *kernelZone) (home, shell string, ok bool) {
	if l.inv.Files == nil {
		return "", "", false
	}
	data, err := readAll(l.inv.Files, l.hostPath(k, "/etc/passwd"))
	if err != nil {
		return "", "", false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) == 7 && f[0] == l.user {
			return f[5], f[6], true
		}
	}
	return "", "", false
}

// userEnv is the environment that login(1) would make, and the directory to
// start in.
func (l *login) userEnv(k *kernelZone) (env []string, dir string) {
	home, shell, ok := l.account(k)
	if shell == "" {
		shell = "/sbin/sh"
	}
	if !ok {
		return []string{"HOME=/", "SHELL=" + shell}, "/"
	}
	dir = "/"
	if info, err := l.m.paths.Lstat(l.hostPath(k, home)); err != nil {
		l.zerror("Could not chdir to home directory %s: %s", home, errnoText(err))
	} else if info.Mode.IsDir() {
		dir = home
	}
	return []string{"LOGNAME=" + l.user, "HOME=" + home, "MAIL=/var/mail/" + l.user, "SHELL=" + shell}, dir
}

// argv is prep_args: a shell runs the words, after they have been joined.
func (l *login) argv(k *kernelZone, args []string, interactive bool) []string {
	if len(args) == 0 {
		if l.failsafe {
			return []string{failsafeShell}
		}
		cmd := strings.NewReplacer("%Z", "global", "%u", l.user).Replace(k.brand.LoginCmd)
		return strings.Fields(cmd)
	}
	if l.pty && interactive {
		return args // -i with a terminal runs the program itself
	}
	line := l.shellLine(args)
	if l.failsafe {
		return []string{failsafeShell, "-c", line}
	}
	su, ok := l.su(k)
	if !ok {
		return args
	}
	argv := []string{su}
	if l.user != "root" {
		argv = append(argv, "-")
	}
	return append(argv, l.user, "-c", line)
}

// shellLine joins the words of a command. illumos-gate adds a blank after each
// and quotes nothing. Joyent passes a single word as it is, and of several it
// puts those with a blank or tab in single quotes; quotes within are not taken
// care of.
func (l *login) shellLine(args []string) string {
	if l.m.distro.gate() {
		return strings.Join(args, " ") + " "
	}
	if len(args) == 1 {
		return args[0]
	}
	words := make([]string, len(args))
	for i, a := range args {
		if strings.ContainsAny(a, " \t") {
			a = "'" + a + "'"
		}
		words[i] = a
	}
	return strings.Join(words, " ")
}

// su finds the su(8) of the zone. Where there is none, Joyent's zlogin runs
// the words as a program of their own. SmartOS' looks at the first bytes of
// the zonepath instead of at the file, and so always takes the first.
func (l *login) su(k *kernelZone) (string, bool) {
	if l.m.distro != OmniOS {
		return "/usr/bin/su", true
	}
	for _, su := range []string{"/usr/bin/su", "/bin/su"} {
		if _, err := l.m.paths.Lstat(l.hostPath(k, su)); err == nil {
			return su, true
		}
	}
	return "", false
}

// hostPath is where the global zone sees a file of the zone.
func (l *login) hostPath(k *kernelZone, file string) string {
	op := &operation{m: l.m}
	return shown(k.root, file, op.mountsOf(k))
}
