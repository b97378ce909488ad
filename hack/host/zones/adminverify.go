package zones

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// verifyDetails is verify_details: whether a subcommand can use the zone's
// configuration on this host.
func (a *admin) verifyDetails(ctx context.Context, cmd string) bool {
	cfg, ok := a.m.savedConfig(a.zone)
	if !ok {
		a.inv.Errf("zoneadm: %s: %s\n", cmd, zNoZone.Error())
		return false
	}
	good := true
	if cmd != "attach" && !a.validZonepath(cfg.path(), cmd) {
		a.inv.Errf("could not verify zonepath %s because of the above errors.\n", cfg.path())
		good = false
	}
	if !a.verifyHandle(ctx, cfg) {
		good = false
	}
	if !good {
		a.inv.Errf("zoneadm: zone %s failed to verify\n", a.zone)
	}
	return good
}

func (a *admin) verifyHandle(ctx context.Context, cfg *zoneConfig) bool {
	st, _ := a.m.stateOf(a.zone)
	if cfg.ipType() == "exclusive" && st < stateReady {
		for _, r := range cfg.Resources["net"] {
			physical := r.Values["physical"]
			switch err := a.m.links.CheckAssign(physical); {
			case err == nil:
			case isWarning(err):
				a.inv.Errf("%v.\n", err)
			default:
				a.inv.Errf("WARNING: skipping network interface '%s': object not found\n", physical)
			}
		}
	}
	good := a.verifyFilesystems(ctx, cfg)
	for _, r := range cfg.Resources["rctl"] {
		if name := r.Values["name"]; !slices.Contains(a.m.distro.rctls(), name) {
			a.zerror("WARNING: Ignoring unrecognized rctl '%s'.", name)
			continue
		}
		for _, l := range r.Limits {
			if !l.valid() {
				a.zerror("invalid rctl value: (priv=%s,limit=%s,action%s)", l.Priv, l.Limit, l.Action)
				good = false
			}
		}
	}
	b, err := a.m.brand(cfg.Root["brand"], a.inv.Files)
	if err != nil {
		a.zerror("missing or invalid brand")
		return false
	}
	if name, why := b.checkPrivileges(cfg.Root["limitpriv"], cfg.ipType()); why != zOK {
		a.inv.Errf("%s\n", privilegeFault(name, why))
		good = false
	}
	return good
}

// fsTypes are the types with a /usr/lib/fs/TYPE/mount; true for those that
// have an fsck too.
var fsTypes = map[string]bool{"lofs": false, "zfs": false, "tmpfs": false, "proc": false, "dev": false,
	"ctfs": false, "mntfs": false, "objfs": false, "fd": false, "sharefs": false, "nfs": false,
	"hsfs": false, "autofs": false, "smbfs": false, "bootfs": false, "ufs": true, "pcfs": true, "udfs": true}

// verifyFilesystems is verify_filesystems. As there, a later file system that
// is fine covers up for an earlier special that is not.
func (a *admin) verifyFilesystems(ctx context.Context, cfg *zoneConfig) bool {
	good, useZFS := true, false
	for _, r := range cfg.Resources["fs"] {
		dir, kind, special, raw := r.Values["dir"], r.Values["type"], r.Values["special"], r.Values["raw"]
		fsck, known := fsTypes[kind]
		switch {
		case kind == "proc" || kind == "mntfs" || kind == "autofs" || kind == "cachefs" || strings.HasPrefix(kind, "nfs"):
			a.inv.Errf("cannot verify fs %s: type %s is not allowed.\n", dir, kind)
			good = false
		case !known:
			a.inv.Errf("could not verify fs %s: could not access /usr/lib/fs/%s/mount: No such file or directory\n", dir, kind)
			good = false
		case raw != "" && !fsck:
			a.inv.Errf("cannot verify fs %s: 'raw' device specified but no fsck executable exists for %s\n", dir, kind)
			good = false
		case raw == "" && fsck && !a.isRegular(special):
			a.inv.Errf("could not verify fs %s: must specify 'raw' device for %s file systems\n", dir, kind)
			good = false
		case kind == "zfs":
			useZFS = true
		default:
			_, err := a.m.paths.Resolve(special)
			if err != nil {
				a.inv.Errf("could not verify fs %s: could not access %s: %s\n", dir, special, errnoText(err))
			}
			good = err == nil
		}
	}
	if useZFS && !a.verifyDatasets(ctx, cfg) {
		good = false
	}
	return good
}

// verifyDatasets asks for every dataset that a zone not yet active mounts.
func (a *admin) verifyDatasets(ctx context.Context, cfg *zoneConfig) bool {
	if a.m.lock(ctx, a.zone) != nil {
		return false
	}
	defer a.m.unlock(a.zone)
	if st, ok := a.m.stateOf(a.zone); !ok || st >= stateReady {
		return true // another zoneadm has booted it: its datasets were fine
	}
	defer a.m.datasets.Release(a.zone)
	good := true
	for _, r := range cfg.Resources["fs"] {
		if r.Values["type"] != "zfs" {
			continue
		}
		if _, err := a.m.datasets.Source(r.Values["special"], a.zone); err != nil {
			text := err.Error()
			if !strings.Contains(text, "verify fs ") {
				text = "could not verify fs " + r.Values["dir"] + ": " + text
			}
			a.inv.Errf("%s\n", text)
			good = false
		}
	}
	return good
}

func (a *admin) isRegular(file string) bool {
	info, err := a.m.paths.Lstat(file)
	return err == nil && info.Mode.IsRegular()
}

// validZonepath is validate_zonepath. It repairs owner and mode of the
// zonepath itself, but not of its parent.
func (a *admin) validZonepath(p, cmd string) bool {
	out := a.inv.Errf
	if !strings.HasPrefix(p, "/") {
		out("%s is not an absolute path.\n", p)
		return false
	}
	resolved, err := a.m.paths.Resolve(p)
	if err != nil {
		return a.missingZonepath(p, cmd, err)
	}
	if resolved != p {
		out("zoneadm: %s: %s\n", p, zResolvedPath.Error())
		return false
	}
	info, err := a.m.paths.Lstat(p)
	if err != nil {
		out("zoneadm: %s: %s\n", p, errnoText(err))
		return false
	}
	if !info.Mode.IsDir() {
		out("%s is not a directory.\n", p)
		return false
	}
	if !a.disjoint(p) {
		return false
	}
	bad := false
	if info.UID != 0 {
		out("%s is not owned by root.\n", p)
		if bad = cmd == "verify"; !bad {
			out("%s: changing owner to root.\n", p)
			if err := a.m.paths.Chown(p, 0); err != nil {
				out("zoneadm: %s: %s\n", p, errnoText(err))
				return false
			}
		}
	}
	bad = a.badMode(p, info.Mode, 0o700, 0o777) || bad
	if bad && cmd != "verify" {
		out("%s: changing permissions to 0700.\n", p)
		if err := a.m.paths.Chmod(p, 0o700); err != nil {
			out("zoneadm: %s: %s\n", p, errnoText(err))
		} else {
			bad = false
		}
	}
	return a.validParent(path.Dir(p)) && a.validRoot(p, cmd) && !bad
}

func (a *admin) missingZonepath(p, cmd string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) || cmd != "verify" && cmd != "install" && cmd != "clone" && cmd != "move" {
		a.inv.Errf("zoneadm: %s: %s\n", p, errnoText(err))
		return false
	}
	if cmd == "verify" {
		a.inv.Errf("WARNING: %s does not exist, so it could not be verified.\n"+
			"When 'zoneadm install' is run, 'install' will try to create\n%s, and 'verify' will be tried again,\n"+
			"but the 'verify' may fail if:\nthe parent directory of %s is group- or other-writable\nor\n"+
			"%s overlaps with any other installed zones.\n", p, p, p, p)
		return true
	}
	if err := a.m.paths.MkdirAll(p, 0o755); err != nil {
		a.inv.Errf("zoneadm: %s: %s\n", p, errnoText(err))
		return false
	}
	if err := a.m.paths.Chmod(p, 0o700); err != nil {
		a.inv.Errf("zoneadm: %s: %s\n", p, errnoText(err))
	}
	if _, err := a.m.paths.Resolve(p); err != nil {
		return false
	}
	return a.validZonepath(p, cmd)
}

// disjoint refuses a zonepath that overlaps with that of an installed zone.
func (a *admin) disjoint(p string) bool {
	name, other, found := a.m.overlapping(a.zone, p)
	if found {
		a.inv.Errf("%s zonepath (%s) and %s zonepath (%s) overlap.\n", a.zone, p, name, other)
	}
	return !found
}

// overlapping finds another installed zone whose zonepath is, holds or lies
// in p.
func (m *Model) overlapping(self, p string) (name, zonepath string, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.order {
		z := m.zones[name]
		if z.state < stateInstalled || name == self {
			continue
		}
		if other := z.config.path(); within(p, other) || within(other, p) {
			return name, other, true
		}
	}
	return "", "", false
}

// badMode prints which bits of need are missing and which of care are too many.
func (a *admin) badMode(p string, mode, need, care fs.FileMode) bool {
	bad := false
	for _, b := range []struct {
		bit  fs.FileMode
		name string
	}{
		{0o400, "owner readable"}, {0o200, "owner writable"}, {0o100, "owner executable"},
		{0o040, "group readable"}, {0o020, "group writable"}, {0o010, "group executable"},
		{0o004, "world readable"}, {0o002, "world writable"}, {0o001, "world executable"},
	} {
		switch {
		case care&b.bit == 0:
		case need&b.bit != 0 && mode&b.bit == 0:
			a.inv.Errf("%s must be %s.\n", p, b.name)
			bad = true
		case need&b.bit == 0 && mode&b.bit != 0:
			a.inv.Errf("%s must not be %s.\n", p, b.name)
			bad = true
		}
	}
	return bad
}

func (a *admin) validParent(p string) bool {
	info, err := a.m.paths.Lstat(p)
	if err != nil {
		a.inv.Errf("zoneadm: %s: %s\n", p, errnoText(err))
		return false
	}
	good := true
	if info.UID != 0 {
		a.inv.Errf("%s is not owned by root.\n", p)
		good = false
	}
	return !a.badMode(p, info.Mode, 0o700, 0o722) && good
}

// validRoot checks the root of a zone that is only configured.
func (a *admin) validRoot(p, cmd string) bool {
	if st, _ := a.m.stateOf(a.zone); st != stateConfigured || cmd == "attach" {
		return true
	}
	root := p + "/root"
	info, err := a.m.paths.Lstat(root)
	switch {
	case err != nil:
		return true
	case !info.Mode.IsDir():
		a.inv.Errf("%s is not a directory.\n", root)
	case info.UID != 0:
		a.inv.Errf("%s is not owned by root.\n", root)
	case info.Mode.Perm() != 0o755:
		a.inv.Errf("%s mode is not 0755.\n", root)
	default:
		return true
	}
	return false
}
