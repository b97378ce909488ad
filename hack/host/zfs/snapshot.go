package zfs

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// snapshot is zfs_do_snapshot: all of them or none.
func (r *run) snapshot(args []string) int {
	set, opts, rest, ok := r.options(args, "ro:")
	if !ok {
		return 2
	}
	props, ok := r.assignments(opts)
	switch {
	case !ok:
		return 1
	case len(rest) < 1:
		return r.usage("missing snapshot argument")
	}
	var names []string
	for _, arg := range rest {
		fs, short, is := strings.Cut(arg, "@")
		if !is {
			return r.usage("")
		}
		n, ok := r.open(fs, typeFilesystem)
		if !ok {
			return r.usage("") // the host's own oddity: usage for a missing file system
		}
		roots := []*node{n}
		if set['r'] {
			roots = r.tree(n)
		}
		for _, root := range roots {
			names = append(names, root.Name+"@"+short)
		}
	}
	code := r.snapshotAll(names, props)
	if code != 0 && (set['r'] || len(rest) > 1) {
		r.inv.Errf("no snapshots were created\n")
	}
	return code
}

// snapshotAll is zfs_snapshot_nvl.
func (r *run) snapshotAll(names []string, props map[string]string) int {
	seen := map[string]bool{}
	for _, name := range names {
		if why := checkName(name, typeSnapshot, true); why != "" {
			return r.fail("cannot create snapshot '"+name+"'", why)
		}
	}
	stored, ok := r.validate("cannot create snapshots ", props, typeSnapshot, false, false)
	if !ok {
		return 1
	}
	bad := 0
	for _, name := range names {
		if r.byName[name] != nil {
			bad = r.fail("cannot create snapshot '"+name+"'", "dataset already exists")
		}
	}
	if bad != 0 {
		return bad
	}
	for _, name := range names {
		if fs := filesystem(name); seen[fs] {
			return r.fail("cannot create snapshots ", "multiple snapshots of same fs not allowed")
		} else {
			seen[fs] = true
		}
	}
	var made []*node
	for _, name := range names {
		fs := r.byName[filesystem(name)]
		n := r.newNode(name, true)
		n.Props = maps.Clone(stored)
		if err := r.backend.Snapshot(r.ctx, fs.ID, n.ID, r.groups(name)); err != nil {
			for _, m := range made {
				r.remove(m)
				err = errors.Join(err, r.backend.Destroy(r.ctx, m.ID))
			}
			return r.backendFailed("cannot create snapshot '"+name+"'", err)
		}
		r.insert(n)
		made = append(made, n)
	}
	s, err := r.measure(r.ctx) // only now has the backend charged what was written before
	if err != nil {
		return r.backendFailed("cannot create snapshots ", err)
	}
	for _, n := range made {
		fs := r.byName[filesystem(n.Name)]
		n.Referenced = fs.Base + s.charged[fs.ID]
	}
	return 0
}

// rollback is zfs_do_rollback and zfs_rollback.
func (r *run) rollback(args []string) int {
	set, _, rest, ok := r.options(args, "rRf")
	if !ok {
		return 2
	}
	switch {
	case len(rest) < 1:
		return r.usage("missing dataset argument")
	case len(rest) > 1:
		return r.usage("too many arguments")
	}
	snap, ok := r.open(rest[0], typeSnapshot)
	if !ok {
		return 1
	}
	fs := r.byName[filesystem(snap.Name)]
	newer := slices.DeleteFunc(r.snapshots(fs), func(s *node) bool { return s.TXG <= snap.TXG })
	if !set['R'] && !r.rollbackAllowed(snap, newer, set['r']) {
		return 1
	}
	d := &destruction{run: r, recurse: true, clones: true, force: set['f']}
	for _, s := range newer {
		for _, dep := range append(r.dependents(s), s) {
			if !d.one(dep) {
				return 1
			}
		}
	}
	if err := r.backend.Rollback(r.ctx, fs.ID, snap.ID); err != nil {
		return r.backendFailed("cannot rollback '"+fs.Name+"'", err)
	}
	return 0
}

// rollbackAllowed is rollback_check: it lists what is newer than the snapshot.
func (r *run) rollbackAllowed(snap *node, newer []*node, recurse bool) bool {
	first := true
	for _, s := range newer {
		if !recurse {
			if first {
				r.inv.Errf("cannot rollback to '%s': more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following snapshots and bookmarks:\n", snap.Name)
			}
			r.inv.Errf("%s\n", s.Name)
			first = false
			continue
		}
		for _, dep := range r.dependents(s) {
			if first {
				r.inv.Errf("cannot rollback to '%s': clones of previous snapshots exist\nuse '-R' to force deletion of the following clones and dependents:\n", snap.Name)
			}
			r.inv.Errf("%s\n", dep.Name)
			first = false
		}
	}
	return first
}

// hold is zfs_do_hold and zfs_do_release.
func (r *run) hold(args []string) int {
	holding := r.cmd == "hold"
	spec := "r"
	if holding {
		spec = "rt"
	}
	set, _, rest, ok := r.options(args, spec)
	if !ok {
		return 2
	}
	if len(rest) < 2 {
		return r.usage("")
	}
	tag := rest[0]
	if holding && strings.HasPrefix(tag, ".") {
		return r.usage("tag may not start with '.'")
	}
	failed := 0
	for _, arg := range rest[1:] {
		fs, short, is := strings.Cut(arg, "@")
		if !is {
			r.inv.Errf("'%s' is not a snapshot\n", arg)
			failed = 1
			continue
		}
		n, ok := r.open(fs, typeFilesystem)
		if !ok {
			failed = 1
			continue
		}
		roots := []*node{n}
		if set['r'] {
			roots = r.tree(n)
		}
		var snaps []*node
		for _, root := range roots {
			if s := r.byName[root.Name+"@"+short]; s != nil {
				snaps = append(snaps, s)
			}
		}
		if holding {
			failed |= r.holdAll(arg, snaps, tag)
		} else {
			failed |= r.releaseAll(arg, snaps, tag)
		}
	}
	return failed
}

func (r *run) holdAll(arg string, snaps []*node, tag string) int {
	if len(snaps) == 0 {
		return r.fail("cannot hold snapshot '"+arg+"'", "dataset does not exist")
	}
	bad := 0
	for _, s := range snaps {
		if _, is := s.Holds[tag]; is {
			bad = r.fail("cannot hold snapshot '"+s.Name+"'", "tag already exists on this dataset")
		}
		if len(tag) >= 256 {
			bad = r.fail("cannot hold snapshot '"+s.Name+"'", "tag too long")
		}
	}
	if bad != 0 {
		return bad
	}
	for _, s := range snaps {
		if s.Holds == nil {
			s.Holds = map[string]int64{}
		}
		s.Holds[tag] = r.now().Unix()
	}
	return 0
}

func (r *run) releaseAll(arg string, snaps []*node, tag string) int {
	action := "cannot release hold from snapshot '" + arg + "'"
	if len(snaps) == 0 {
		return r.fail(action, "dataset does not exist")
	}
	found := false
	for _, s := range snaps {
		if _, is := s.Holds[tag]; is {
			found = true
			delete(s.Holds, tag)
			if !(&destruction{run: r}).collect(s) {
				return 1
			}
		}
	}
	if !found {
		return r.fail(action, "no such tag on this dataset")
	}
	return 0
}

// holds is zfs_do_holds.
func (r *run) holds(args []string) int {
	set, _, rest, ok := r.options(args, "rH")
	if !ok {
		return 2
	}
	if len(rest) < 1 {
		return r.usage("")
	}
	failed := 0
	looked := 0
	var rows [][3]string
	for _, arg := range rest {
		fs, short, is := strings.Cut(arg, "@")
		if !is {
			r.inv.Errf("'%s' is not a snapshot\n", arg)
			failed = 1
			continue
		}
		var snaps []*node
		if !set['r'] {
			s, ok := r.open(arg, typeSnapshot)
			if !ok {
				failed = 1
				continue
			}
			snaps = append(snaps, s)
		} else if n, ok := r.open(fs, typeFilesystem); ok {
			for _, root := range r.tree(n) {
				if s := r.byName[root.Name+"@"+short]; s != nil {
					snaps = append(snaps, s)
				}
			}
		} else {
			failed = 1
		}
		looked += len(snaps)
		for _, s := range snaps {
			for _, tag := range slices.Sorted(maps.Keys(s.Holds)) {
				rows = append(rows, [3]string{s.Name, tag, dateText(s.Holds[tag])})
			}
		}
	}
	r.printHolds(rows, set['H'])
	if looked == 0 {
		r.inv.Outf("no datasets available\n")
	}
	return failed
}

// printHolds is print_holds.
func (r *run) printHolds(rows [][3]string, scripted bool) {
	if scripted {
		for _, row := range rows {
			r.inv.Outf("%s\t%s\t%s\n", row[0], row[1], row[2])
		}
		return
	}
	name, tag := 0, 0
	for _, row := range rows {
		name, tag = max(name, len(row[0])), max(tag, len(row[1]))
	}
	r.inv.Outf("%-*s  %-*s  %s\n", name, "NAME", tag, "TAG", "TIMESTAMP")
	for _, row := range rows {
		r.inv.Outf("%-*s  %-*s  %s\n", name, row[0], tag, row[1], row[2])
	}
}
