package zfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// subcommands are those that are simulated; those without run are refused.
var subcommands = map[string]subcommand{
	"create": {run: (*run).create}, "clone": {run: (*run).clone}, "destroy": {run: (*run).destroy},
	"snapshot": {run: (*run).snapshot}, "rollback": {run: (*run).rollback}, "promote": {run: (*run).promote},
	"rename": {run: (*run).rename}, "list": {run: (*run).list}, "get": {run: (*run).getCommand},
	"set": {run: (*run).set}, "inherit": {run: (*run).inherit}, "mount": {run: (*run).mount},
	"unmount": {run: (*run).unmount}, "hold": {run: (*run).hold}, "release": {run: (*run).hold},
	"holds": {run: (*run).holds}, "send": {run: (*run).send, unlocked: true},
	"receive":  {run: (*run).receive, unlocked: true},
	"bookmark": {}, "program": {}, "upgrade": {}, "userspace": {}, "groupspace": {}, "share": {}, "unshare": {},
	"allow": {}, "unallow": {}, "diff": {}, "remap": {}, "load-key": {}, "unload-key": {}, "change-key": {},
}

// open finds a dataset of the wanted types, as zfs_open does, or prints why
// there is none.
func (r *run) open(name string, types int) (*node, bool) {
	action := "cannot open '" + name + "'"
	if why := checkName(name, types, false); why != "" {
		r.fail(action, why)
		return nil, false
	}
	n := r.byName[name]
	switch {
	case n == nil:
		r.fail(action, "dataset does not exist")
	case n.Snapshot && types&typeSnapshot == 0, !n.Snapshot && types&typeFilesystem == 0:
		r.fail(action, "operation not applicable to datasets of this type")
	default:
		return n, true
	}
	return nil, false
}

// backendFailed prints an error of the backend.
func (r *run) backendFailed(action string, err error) int {
	var refused Refused
	switch {
	case errors.As(err, &refused):
		return r.refuse("%s", string(refused))
	case errors.Is(err, ErrBusy):
		return r.fail(action, "dataset is busy")
	case errors.Is(err, ErrNoSpace):
		return r.fail(action, "out of space")
	}
	r.inv.Errf("simulated host: %v\n", err)
	return r.fail(action, "I/O error")
}

// mountFailed prints an error of mountNode or unmountNode.
func (r *run) mountFailed(err error) int {
	r.inv.Errf("%s\n", err)
	return 1
}

// checkParents is check_parents of libzfs: the file system above path exists.
func (r *run) checkParents(path string, ancestors bool) bool {
	action := "cannot create '" + path + "'"
	up := parent(path)
	pool, _, _ := strings.Cut(path, "/")
	switch {
	case up == "":
		r.fail(action, "missing dataset name")
	case r.byName[pool] == nil:
		r.fail(action, "no such pool '"+pool+"'")
	case r.byName[up] == nil && !ancestors:
		r.fail(action, "parent does not exist")
	default:
		return true
	}
	return false
}

// createAncestors makes what is missing above path and mounts it.
func (r *run) createAncestors(path string) bool {
	if depth(path) >= maxDepth {
		r.fail("cannot create '"+path+"'", "maximum name nesting depth exceeded")
		return false
	}
	if !r.checkParents(path, true) {
		return false
	}
	var missing []string
	for up := parent(path); r.byName[up] == nil; up = parent(up) {
		missing = append(missing, up)
	}
	for _, name := range slices.Backward(missing) {
		n, ok := r.makeFilesystem(name, nil)
		if !ok {
			return false
		}
		if err := r.mountNode(r.ctx, n, false); err != nil {
			r.mountFailed(err)
			return false
		}
	}
	return true
}

// validate checks the properties of a new dataset and returns them in stored
// form, or prints what is wrong.
func (r *run) validate(action string, props map[string]string, types int, creating, zoned bool) (map[string]string, bool) {
	stored := map[string]string{}
	for _, name := range sortedKeys(props) {
		full, value, bad := checkProperty(name, props[name], types, creating, zoned)
		switch {
		case bad != nil && bad.simulated:
			r.refuse("%s", bad.reason)
			return nil, false
		case bad != nil:
			r.fail(action, bad.reason)
			return nil, false
		}
		stored[full] = value
	}
	return stored, true
}

// create is zfs_do_create.
func (r *run) create(args []string) int {
	set, opts, rest, ok := r.options(args, ":V:b:so:p")
	if !ok {
		return 2
	}
	props, ok := r.assignments(opts)
	switch {
	case !ok:
		return 1
	case set['V']:
		return r.refuse("volumes are not simulated")
	case set['b'] || set['s']:
		return r.usage("'-s' and '-b' can only be used when creating a volume")
	case len(rest) == 0:
		return r.usage("missing filesystem argument")
	case len(rest) > 1:
		return r.usage("too many arguments")
	}
	name := rest[0]
	if set['p'] && checkName(name, typeFilesystem, false) == "" {
		if n := r.byName[name]; n != nil && !n.Snapshot {
			return 0
		}
		if !r.createAncestors(name) {
			return 1
		}
	}
	n, ok := r.makeFilesystem(name, props)
	if !ok {
		return 1
	}
	if r.setting(n, "canmount") == "on" {
		if err := r.mountNode(r.ctx, n, false); err != nil {
			r.mountFailed(err)
			r.inv.Errf("filesystem successfully created, but not mounted\n")
			return 1
		}
	}
	return 0
}

// makeFilesystem is zfs_create of libzfs.
func (r *run) makeFilesystem(name string, props map[string]string) (*node, bool) {
	action := "cannot create '" + name + "'"
	if why := checkName(name, typeFilesystem, true); why != "" {
		r.fail(action, why)
		return nil, false
	}
	if depth(name) >= maxDepth {
		r.fail(action, "maximum name nesting depth exceeded")
		return nil, false
	}
	if !r.checkParents(name, false) {
		return nil, false
	}
	if r.byName[name] != nil {
		r.fail(action, "dataset already exists")
		return nil, false
	}
	stored, ok := r.validate(action, props, typeFilesystem, true, r.on(r.byName[parent(name)], "zoned"))
	if !ok {
		return nil, false
	}
	n := r.newNode(name, false)
	n.Props = stored
	if err := r.backend.Create(r.ctx, n.ID, r.groups(parent(name))); err != nil {
		r.backendFailed(action, err)
		return nil, false
	}
	return n, r.adopt(action, n)
}

// adopt adds a file system that the backend has just made, and makes its
// properties effective; on failure it is gone again.
func (r *run) adopt(action string, n *node) bool {
	r.insert(n)
	for _, name := range []string{"quota", "refquota", "readonly"} {
		if err := r.apply(n, name); err != nil {
			r.remove(n)
			_ = r.backend.Destroy(r.ctx, n.ID) // the first error is the one to tell
			r.backendFailed(action, err)
			return false
		}
	}
	return true
}

// apply makes the backend follow a property that it enforces.
func (r *run) apply(n *node, name string) error {
	switch name {
	case "quota":
		if q, is := n.Props["quota"]; is {
			if q == "0" {
				return r.backend.SetQuota(r.ctx, n.ID, 0, r.members(n))
			}
			return r.backend.SetQuota(r.ctx, n.ID, r.amount(n, "quota"), r.members(n))
		}
	case "refquota":
		if _, is := n.Props["refquota"]; is {
			limit := r.amount(n, "refquota")
			if limit != 0 && n.Base != 0 {
				return Refused("refquota of a clone is not enforced; use quota")
			}
			return r.backend.SetRefQuota(r.ctx, n.ID, limit)
		}
	case "readonly":
		return r.backend.SetReadOnly(r.ctx, n.ID, r.on(n, "readonly"))
	}
	return nil
}

// clone is zfs_do_clone and zfs_clone.
func (r *run) clone(args []string) int {
	set, opts, rest, ok := r.options(args, "o:p")
	if !ok {
		return 2
	}
	props, ok := r.assignments(opts)
	switch {
	case !ok:
		return 1
	case len(rest) < 1:
		return r.usage("missing source dataset argument")
	case len(rest) < 2:
		return r.usage("missing target dataset argument")
	case len(rest) > 2:
		return r.usage("too many arguments")
	}
	snap, ok := r.open(rest[0], typeSnapshot)
	if !ok {
		return 1
	}
	name := rest[1]
	if set['p'] && checkName(name, typeFilesystem, false) == "" {
		if n := r.byName[name]; n != nil && !n.Snapshot {
			return 0
		}
		if !r.createAncestors(name) {
			return 1
		}
	}
	n, ok := r.makeClone(snap, name, props)
	if !ok {
		return 1
	}
	if r.setting(n, "canmount") == "on" {
		if err := r.mountNode(r.ctx, n, false); err != nil {
			r.mountFailed(err)
			r.inv.Errf("clone successfully created, but not mounted\n")
			return 1
		}
	}
	return 0
}

func (r *run) makeClone(snap *node, name string, props map[string]string) (*node, bool) {
	action := "cannot create '" + name + "'"
	if why := checkName(name, typeFilesystem, true); why != "" {
		r.fail(action, why)
		return nil, false
	}
	if !r.checkParents(name, false) {
		return nil, false
	}
	stored, ok := r.validate(action, props, typeFilesystem, false, r.on(r.byName[parent(name)], "zoned"))
	if !ok {
		return nil, false
	}
	if r.byName[name] != nil {
		r.fail(action, "dataset already exists")
		return nil, false
	}
	n := r.newNode(name, false)
	n.Props, n.Origin, n.Base = stored, snap.ID, snap.Referenced
	if err := r.backend.Clone(r.ctx, snap.ID, n.ID, r.groups(parent(name))); err != nil {
		r.backendFailed(action, err)
		return nil, false
	}
	return n, r.adopt(action, n)
}

// promote is zfs_promote: the snapshots of the origin's file system up to the
// origin become the clone's.
func (r *run) promote(args []string) int {
	switch {
	case len(args) > 0 && strings.HasPrefix(args[0], "-"):
		flag := ""
		if len(args[0]) > 1 {
			flag = args[0][1:2]
		}
		return r.usage("invalid option '" + flag + "'")
	case len(args) < 1:
		return r.usage("missing clone filesystem argument")
	case len(args) > 1:
		return r.usage("too many arguments")
	}
	n, ok := r.open(args[0], typeFilesystem)
	if !ok {
		return 1
	}
	action := "cannot promote '" + n.Name + "'"
	origin := r.byID[n.Origin]
	if origin == nil {
		return r.fail(action, "not a cloned filesystem")
	}
	old := r.byName[filesystem(origin.Name)]
	moved := slices.DeleteFunc(r.snapshots(old), func(s *node) bool { return s.TXG > origin.TXG })
	for _, s := range moved {
		if _, short, _ := strings.Cut(s.Name, "@"); r.byName[n.Name+"@"+short] != nil {
			return r.fail(action, fmt.Sprintf("conflicting snapshot '%s' from parent '%s'", s.Name, origin.Name))
		}
	}
	for _, s := range moved {
		_, short, _ := strings.Cut(s.Name, "@")
		from := r.groups(s.Name)
		delete(r.byName, s.Name)
		s.Name = n.Name + "@" + short
		r.byName[s.Name] = s
		if err := r.backend.Regroup(r.ctx, s.ID, from, r.groups(s.Name)); err != nil {
			return r.backendFailed(action, err)
		}
	}
	n.Origin, old.Origin = old.Origin, origin.ID
	return 0
}
