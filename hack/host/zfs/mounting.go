package zfs

import (
	"slices"
	"strings"
)

// mount is zfs_do_mount.
func (r *run) mount(args []string) int {
	set, opts, rest, ok := r.options(args, ":alvo:O")
	if !ok {
		return 2
	}
	var words []string
	for _, o := range opts {
		if o.flag != 'o' {
			continue
		}
		if o.value == "" {
			return r.usage("empty mount options (-o) specified")
		}
		words = append(words, strings.Split(o.value, ",")...)
	}
	switch {
	case set['a'] && len(rest) != 0, len(rest) > 1:
		return r.usage("too many arguments")
	case set['a']:
		code := 0
		for _, n := range r.filesystems() {
			code = max(code, r.mountOne(n, false, set['O'], words))
		}
		return code
	case len(rest) == 0 && words != nil:
		return r.usage("missing filesystem argument (specify -a for all)")
	case len(rest) == 0:
		for _, n := range r.filesystems() {
			if n.Mounted != "" {
				r.inv.Outf("%-30s  %s\n", n.Name, n.Mounted)
			}
		}
		return 0
	}
	n, ok := r.open(rest[0], typeFilesystem)
	if !ok {
		return 1
	}
	return r.mountOne(n, true, set['O'], words)
}

// mountOne is share_mount_one: what is not for an implicit mount is silently
// passed over.
func (r *run) mountOne(n *node, explicit, overlay bool, words []string) int {
	action := "cannot mount '" + n.Name + "'"
	dir, canmount := r.setting(n, "mountpoint"), r.setting(n, "canmount")
	remount := slices.Contains(words, "remount")
	why := ""
	switch {
	case r.on(n, "zoned"):
		why = "dataset is exported to a local zone"
	case dir == "legacy":
		why = "legacy mountpoint\nuse mount(1M) to mount this filesystem"
	case dir == "none":
		why = "no mountpoint set"
	case canmount == "off":
		why = "'canmount' property is set to 'off'"
	case canmount == "noauto" && !explicit:
		return 0
	case n.Mounted != "" && !remount:
		why = "filesystem already mounted"
	}
	if why != "" {
		if !explicit {
			return 0
		}
		return r.fail(action, why)
	}
	temporary, ok := r.temporaryFrom(n, words)
	if !ok {
		return r.fail(action, "Invalid argument")
	}
	old := n.temporary
	n.temporary = temporary
	var err error
	if n.Mounted != "" {
		err = r.backend.Remount(r.ctx, n.ID, n.Mounted, r.mountOptions(n))
	} else {
		err = r.mountNode(r.ctx, n, overlay)
	}
	if err != nil {
		n.temporary = old
		return r.mountFailed(err)
	}
	return 0
}

// temporaryFrom reads the words of mount -o, see zfs(8) "Temporary Mount Point
// Properties".
func (r *run) temporaryFrom(n *node, words []string) (map[string]string, bool) {
	temporary := map[string]string{}
	for _, w := range words {
		switch name := strings.TrimPrefix(w, "no"); {
		case w == "remount":
		case w == "ro", w == "rw":
			temporary["readonly"] = map[string]string{"ro": "on", "rw": "off"}[w]
		case slices.Contains(temporaryOptions[:], name) && name != "readonly":
			temporary[name] = map[bool]string{true: "on", false: "off"}[name == w]
		default:
			return nil, false
		}
	}
	if temporary["readonly"] == "off" && r.on(n, "readonly") {
		return nil, false // the contents are read-only wherever they are shown
	}
	return temporary, true
}

// unmount is zfs_do_unmount.
func (r *run) unmount(args []string) int {
	set, _, rest, ok := r.options(args, "af")
	if !ok {
		return 2
	}
	switch {
	case set['a'] && len(rest) != 0, len(rest) > 1:
		return r.usage("too many arguments")
	case set['a']:
		return r.unmountEverything(set['f'])
	case len(rest) == 0:
		return r.usage("missing filesystem argument")
	}
	name := rest[0]
	if strings.HasPrefix(name, "/") {
		found, ok := r.mountedAt(name)
		if !ok {
			if _, err := r.inv.Files.Lstat(name); err != nil {
				r.inv.Errf("cannot unmount '%s': No such file or directory\n", name)
				return 1
			}
			r.inv.Errf("cannot unmount '%s': not a mountpoint\n", name)
			return 1
		}
		name = found
	}
	n, ok := r.open(name, typeFilesystem)
	if !ok {
		return 1
	}
	action := "cannot unmount '" + n.Name + "'"
	switch {
	case r.setting(n, "mountpoint") == "legacy":
		return r.fail(action, "legacy mountpoint\nuse umount(1M) to unmount this filesystem")
	case n.Mounted == "":
		return r.fail(action, "not currently mounted")
	}
	if set['f'] {
		return r.unmountForced(r.inheriting(n, "mountpoint"))
	}
	_, code := r.unmountAll(r.inheriting(n, "mountpoint"))
	return code
}

func (r *run) unmountForced(all []*node) int {
	for _, c := range slices.Backward(all) {
		if err := r.unmountNode(r.ctx, c, true); err != nil {
			return r.mountFailed(err)
		}
	}
	return 0
}

func (r *run) unmountEverything(force bool) int {
	code := 0
	for _, n := range slices.Backward(r.filesystems()) {
		if r.setting(n, "mountpoint") == "legacy" || r.setting(n, "canmount") == "noauto" {
			continue
		}
		if err := r.unmountNode(r.ctx, n, force); err != nil {
			code = r.mountFailed(err)
		}
	}
	return code
}
