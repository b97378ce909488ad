package mounts

import (
	"context"
	"path"
	"slices"
	"strings"
	"syscall"

	"reddwarf.io/reddwarf/hack/host/program"
)

// mount is /usr/sbin/mount.
func (m *Model) mount(ctx context.Context, inv *program.Invocation) int {
	var fstype, opts string
	var passed []option // to the program of the file system
	set := map[byte]bool{}
	found, rest := getopt(inv, "mount", "?acd:f:F:gmno:pqrvVO", inv.Args())
	for _, o := range found {
		set[o.flag] = true
		switch o.flag {
		case 'F', 'f':
			if fstype != "" {
				inv.Errf("mount: More than one FSType specified\n")
				return mountUsage(inv)
			}
			fstype = o.value
		case 'o':
			opts = o.value
			passed = append(passed, o)
		case 'c', 'g', 'm', 'q', 'O', 'r':
			passed = append(passed, o)
		}
	}
	switch {
	case set['?']:
		return mountUsage(inv)
	case set['a'] || set['V']:
		inv.Errf("simulated host: mount -a and -V are not modelled\n")
		return 1
	case len(rest) > 2:
		return mountUsage(inv)
	case set['p'] && set['v']:
		inv.Errf("mount: -a, -p, and -v are mutually exclusive\n")
		return mountUsage(inv)
	case len(rest) == 0 && (len(passed) > 0 || fstype != ""):
		return mountUsage(inv)
	case len(rest) > 0 && (set['p'] || set['v']):
		inv.Errf("mount: Cannot use -p and -v with arguments\n")
		return mountUsage(inv)
	case len(rest) == 0:
		m.print(inv, set['p'], set['v'])
		return 0
	case len(rest) == 1 || fstype == "":
		inv.Errf("simulated host: mount looks nothing up in /etc/vfstab: give -F FSType, special and mount point\n")
		return 1
	}
	special, point := rest[0], rest[1]
	if code := checkFields(inv, fstype, point); code != 0 {
		return code
	}
	real, err := m.cfg.Resolve(point)
	if err != nil {
		inv.Errf("mount: %s: %s\n", point, errnoText(err))
		return 1
	}
	w := wish{special: special, point: real, set: set, words: words(opts)}
	switch fstype {
	case "lofs":
		return m.mountLofs(ctx, inv, w, passed)
	case "nfs":
		return m.mountNFS(ctx, inv, w, passed)
	}
	inv.Errf("simulated host: mount -F %s is not modelled\n", fstype)
	return 1
}

// wish is a mount to be made.
type wish struct {
	special, point string
	set            map[byte]bool
	words          []string // of -o
}

func words(opts string) []string {
	if opts == "" {
		return nil
	}
	return strings.Split(opts, ",")
}

func mountUsage(inv *program.Invocation) int {
	inv.Errf("Usage:\nmount [-v | -p]\n" +
		"mount [-F FSType] [-V] [current_options] [-o specific_options]\n\t{special | mount_point}\n" +
		"mount [-F FSType] [-V] [current_options] [-o specific_options]\n\tspecial mount_point\n" +
		"mount -a [-F FSType ] [-V] [current_options] [-o specific_options]\n\t[mount_point ...]\n")
	return 1
}

// checkFields is check_fields.
func checkFields(inv *program.Invocation, fstype, point string) int {
	switch {
	case len(fstype) > 8:
		inv.Errf("mount: FSType %s exceeds 8 characters\n", fstype)
	case !path.IsAbs(point):
		inv.Errf("mount: Mount point %s is not an absolute pathname.\n", point)
	default:
		if _, err := inv.Files.Lstat(point); err != nil {
			inv.Errf("mount: Mount point %s does not exist.\n", point)
			return 1
		}
		return 0
	}
	return 1
}

// print is print_mnttab.
func (m *Model) print(inv *program.Invocation, asVfstab, verbose bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range append(m.cfg.Others(), m.table...) {
		at := e.Time.Format("Mon Jan _2 15:04:05 2006")
		switch {
		case asVfstab:
			inv.Outf("%s - %s %s - no %s\n", e.Special, e.Point, e.Type, strings.Join(e.Options, ","))
		case verbose:
			inv.Outf("%s on %s type %s %s%s on %s\n", e.Special, e.Point, e.Type, remote(e), flags(e.Options, "read-only"), at)
		default:
			inv.Outf("%s on %s %s%s on %s\n", e.Point, e.Special, remote(e), flags(e.Options, "read only"), at)
		}
	}
}

func remote(e Entry) string {
	if e.Type == "nfs" {
		return "remote/"
	}
	return ""
}

// flags is the function of that name.
func flags(opts []string, readOnly string) string {
	text := "read/write"
	if slices.Contains(opts, "ro") {
		text = readOnly
	}
	switch {
	case slices.Contains(opts, "nosuid"):
		text += "/nosetuid/nodevices"
	default:
		for _, o := range []string{"setuid", "devices"} {
			if slices.Contains(opts, "no"+o) {
				o = "no" + o
			}
			text += "/" + o
		}
	}
	for _, o := range opts {
		switch o {
		case "ro", "rw", "suid", "nosuid", "setuid", "nosetuid", "devices", "nodevices":
		default:
			text += "/" + o
		}
	}
	return text
}

// generic are the options that every file system takes, and what they do.
var generic = map[string]func(*Options){
	"ro": func(o *Options) { o.ReadOnly = true }, "rw": func(o *Options) { o.ReadOnly = false },
	"nosuid": func(o *Options) { o.NoSetuid, o.NoDevices = true, true }, "suid": func(*Options) {},
	"nosetuid": func(o *Options) { o.NoSetuid = true }, "setuid": func(*Options) {},
	"nodevices": func(o *Options) { o.NoDevices = true }, "devices": func(*Options) {},
	"noexec": func(o *Options) { o.NoExec = true }, "exec": func(*Options) {},
	"nbmand": func(*Options) {}, "nonbmand": func(*Options) {}, "nosub": nil,
}

// mountLofs is /usr/lib/fs/lofs/mount.
func (m *Model) mountLofs(ctx context.Context, inv *program.Invocation, w wish, passed []option) int {
	for _, o := range passed {
		if !strings.ContainsRune("ormqO", rune(o.flag)) {
			inv.Errf("lofs mount: illegal option -- %c\nUsage: mount [-Ormq] [-o options] special mountpoint\n", o.flag)
			return 111
		}
	}
	o := Options{ReadOnly: w.set['r']}
	for _, word := range w.words {
		apply := generic[word]
		if apply == nil {
			inv.Errf("simulated host: lofs option %q is not modelled\n", word)
			return 1
		}
		apply(&o)
	}
	fail := func(err error) int {
		inv.Errf("mount: %s: %s\n", w.special, errnoText(err))
		return 111
	}
	// lofs keeps the name that it was given; mounting is by what it leads to.
	source, err := m.cfg.Resolve(w.special)
	if err != nil {
		return fail(err)
	}
	if _, err := inv.Files.Lstat(source); err != nil {
		return fail(err)
	}
	if err := m.add(ctx, Entry{w.special, w.point, "lofs", shown(w.words, o), m.cfg.Clock()}, source, w.set['O'], o); err != nil {
		return fail(err)
	}
	return 0
}

// add makes a mount, as the kernel does: a mount point that is the root of a
// mount is busy unless it is to be covered.
func (m *Model) add(ctx context.Context, e Entry, source string, overlay bool, o Options) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := func(have Entry) bool { return have.Point == e.Point }
	if _, ok := m.last(taken); !overlay && (ok || slices.ContainsFunc(m.cfg.Others(), taken)) {
		return syscall.EBUSY
	}
	if err := m.cfg.Backend.Mount(ctx, source, e.Point, o); err != nil {
		return err
	}
	m.table = append(m.table, e)
	return nil
}

// shown are the options as the table shows them.
func shown(words []string, o Options) []string {
	out := []string{"rw"}
	if o.ReadOnly {
		out[0] = "ro"
	}
	for _, w := range words {
		if w != "ro" && w != "rw" {
			out = append(out, w)
		}
	}
	return out
}
