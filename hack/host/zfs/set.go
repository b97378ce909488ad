package zfs

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// set is zfs_do_set.
func (r *run) set(args []string) int {
	switch {
	case len(args) > 0 && strings.HasPrefix(args[0], "-"):
		flag := ""
		if len(args[0]) > 1 {
			flag = args[0][1:2]
		}
		return r.usage("invalid option '" + flag + "'")
	case len(args) < 1:
		return r.usage("missing arguments")
	case len(args) < 2 && !strings.Contains(args[0], "="):
		return r.usage("missing property=value argument(s)")
	case len(args) < 2:
		return r.usage("missing dataset name(s)")
	}
	first := slices.IndexFunc(args, func(a string) bool { return !strings.Contains(a, "=") })
	if first < 0 {
		return r.usage("missing dataset name(s)")
	}
	if slices.ContainsFunc(args[first:], func(a string) bool { return strings.Contains(a, "=") }) {
		return r.usage("invalid argument order")
	}
	props := map[string]string{}
	for _, word := range args[:first] {
		if !r.assignment(props, word) {
			return 255 // the host returns -1 from main
		}
	}
	all, code := r.choose(args[first:], selection{types: typeDataset, depth: -1})
	for _, n := range all {
		code = max(code, r.setAll(n, props))
	}
	return code
}

// setAll is zfs_prop_set_list.
func (r *run) setAll(n *node, props map[string]string) int {
	action := "cannot set property for '" + n.Name + "'"
	types := typeFilesystem
	if n.Snapshot {
		types = typeSnapshot
	}
	stored, ok := r.validate(action, props, types, false, !n.Snapshot && r.on(n, "zoned"))
	if !ok {
		return 1
	}
	if n.Snapshot {
		maps.Copy(n.Props, stored)
		return 0
	}
	for _, name := range sortedKeys(stored) {
		if code := r.setOne(action, n, name, stored[name]); code != 0 {
			return code
		}
	}
	return 0
}

// setOne sets a valid property and makes it effective.
func (r *run) setOne(action string, n *node, name, value string) int {
	if code := r.checkSpace(action, n, name, value); code != 0 {
		return code
	}
	change := func() {
		n.Props[name] = value
	}
	return r.change(action, n, name, change)
}

// checkSpace is why the kernel answers ENOSPC to a quota or reservation.
func (r *run) checkSpace(action string, n *node, name, value string) int {
	switch name {
	case "quota", "refquota", "reservation", "refreservation":
	default:
		return 0
	}
	want, why := parseNumber(value)
	if why != "" || want == 0 {
		return 0
	}
	s, err := r.measure(r.ctx)
	if err != nil {
		return r.backendFailed(action, err)
	}
	switch {
	case name == "quota" && (want < r.amount(n, "reservation") || want < r.used(n, s)),
		name == "refquota" && (want < r.amount(n, "refreservation") || want < n.Base+s.charged[n.ID]):
		return r.fail(action, "size is less than current used or reserved space")
	case strings.HasSuffix(name, "reservation") && want > r.amount(n, name)+r.available(n, s):
		return r.fail(action, "size is greater than available space")
	}
	return 0
}

// change makes an edit of n's properties effective. Where it moves mounts, it
// unmounts before and mounts after, as libzfs' changelists do; a failure of
// the first undoes nothing and changes nothing.
func (r *run) change(action string, n *node, name string, edit func()) int {
	before := maps.Clone(n.Props)
	var affected []*node
	wasUnmountable := false
	switch name {
	case "mountpoint":
		old := r.setting(n, "mountpoint")
		wasUnmountable = old == "legacy" || old == "none"
		affected = r.inheriting(n, name)
	case "zoned":
		affected = r.inheriting(n, name)
	case "canmount":
		edit()
		off := n.Props["canmount"] == "off"
		n.Props = maps.Clone(before)
		if off {
			affected = []*node{n}
		}
	}
	remount, code := r.unmountAll(affected)
	if code != 0 {
		return code
	}
	edit()
	if err := r.applyTree(n, name); err != nil {
		n.Props = before
		r.mountAgain(affected, remount)
		if errors.Is(err, ErrNoSpace) && strings.HasSuffix(name, "quota") {
			return r.fail(action, "size is less than current used or reserved space")
		}
		return r.backendFailed(action, err)
	}
	for _, c := range affected {
		remount[c] = remount[c] || wasUnmountable && r.setting(c, "canmount") == "on"
	}
	if r.mountAgain(affected, remount) != 0 {
		r.inv.Errf("property may be set but unable to remount filesystem\n")
		return 1
	}
	return 0
}

// inheriting returns n and the file systems below it that take a property from
// it.
func (r *run) inheriting(n *node, name string) []*node {
	var all []*node
	for _, c := range r.tree(n) {
		own := false
		for at := c; at != n; at = r.byName[parent(at.Name)] {
			_, is := at.Props[name]
			own = own || is
		}
		if !own {
			all = append(all, c)
		}
	}
	return all
}

// unmountAll unmounts, deepest first. If one is busy the others are mounted
// again.
func (r *run) unmountAll(all []*node) (map[*node]bool, int) {
	was := map[*node]bool{}
	for _, c := range slices.Backward(all) {
		if c.Mounted == "" {
			continue
		}
		if err := r.unmountNode(r.ctx, c, false); err != nil {
			r.mountFailed(err)
			r.mountAgain(all, was)
			return nil, 1
		}
		was[c] = true
	}
	return was, 0
}

// mountAgain mounts those of all that are marked, parents first.
func (r *run) mountAgain(all []*node, marked map[*node]bool) int {
	code := 0
	for _, c := range all {
		if marked[c] {
			if err := r.mountNode(r.ctx, c, false); err != nil {
				code = r.mountFailed(err)
			}
		}
	}
	return code
}

// applyTree makes the backend follow a changed property of n and, where it is
// inherited, of what is below.
func (r *run) applyTree(n *node, name string) error {
	p, native := findProperty(name)
	if !native {
		return nil
	}
	all := []*node{n}
	if p.change == inheritable {
		all = r.inheriting(n, name)
	}
	for _, c := range all {
		if err := r.apply(c, name); err != nil {
			return err
		}
		switch name {
		case "readonly", "devices", "setuid", "exec", "atime":
			if c.Mounted == "" {
				continue
			}
			delete(c.temporary, name)
			if err := r.backend.Remount(r.ctx, c.ID, c.Mounted, r.mountOptions(c)); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit is zfs_do_inherit.
func (r *run) inherit(args []string) int {
	set, _, rest, ok := r.options(args, "rS")
	if !ok {
		return 2
	}
	switch {
	case len(rest) < 1:
		return r.usage("missing property argument")
	case len(rest) < 2:
		return r.usage("missing dataset argument")
	}
	name := rest[0]
	p, native := findProperty(name)
	switch {
	case native && p.change == readOnly:
		r.inv.Errf("%s property is read-only\n", name)
		return 1
	case native && p.change != inheritable && !set['S']:
		r.inv.Errf("'%s' property cannot be inherited\n", name)
		if strings.Contains(p.name, "quota") || strings.Contains(p.name, "reservation") {
			r.inv.Errf("use 'zfs set %s=none' to clear\nuse 'zfs inherit -S %s' to revert to received value\n", name, name)
		}
		return 1
	case !native && !userProperty(name):
		return r.usage("invalid property '" + name + "'")
	}
	all, code := r.choose(rest[1:], selection{types: typeDataset, depth: -1, recurse: set['r']})
	for _, n := range all {
		code = max(code, r.inheritOne(n, name, p, native, set['r']))
	}
	return code
}

func (r *run) inheritOne(n *node, name string, p property, native, recursive bool) int {
	action := "cannot inherit " + name + " for '" + n.Name + "'"
	if native {
		types := typeFilesystem
		if n.Snapshot {
			types = typeSnapshot
		}
		switch {
		case p.types&types == 0 && recursive:
			return 0
		case p.types&types == 0:
			return r.fail(action, "property doesn't apply to datasets of this type")
		case p.name == "mountpoint" && r.on(n, "zoned"):
			return r.fail(action, "dataset is used in a non-global zone")
		}
		name = p.name
	}
	if n.Snapshot || !native {
		delete(n.Props, name)
		return 0
	}
	return r.change(action, n, name, func() { delete(n.Props, name) })
}
