package zfs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// destruction is one run of zfs destroy.
type destruction struct {
	*run
	recurse, clones, force, deferred, dry, verbose, parsable bool
}

// destroy is zfs_do_destroy.
func (r *run) destroy(args []string) int {
	set, _, rest, ok := r.options(args, "vpndfrR")
	if !ok {
		return 2
	}
	switch {
	case len(rest) == 0:
		return r.usage("missing dataset argument")
	case len(rest) > 1:
		return r.usage("too many arguments")
	}
	d := &destruction{
		run: r, recurse: set['r'] || set['R'], clones: set['R'], force: set['f'], deferred: set['d'],
		dry: set['n'], verbose: set['v'] || set['p'], parsable: set['p'],
	}
	name := rest[0]
	if fs, spec, is := strings.Cut(name, "@"); is {
		return d.snapshots(fs, spec)
	}
	if strings.Contains(name, "#") {
		return r.fail("cannot open '"+name+"'", "dataset does not exist")
	}
	types := typeDataset
	if d.deferred {
		types = typeSnapshot
	}
	n, ok := r.open(name, types)
	if !ok {
		return 1
	}
	if !d.recurse && parent(n.Name) == "" {
		r.inv.Errf("cannot destroy '%[1]s': operation does not apply to pools\nuse 'zfs destroy -r %[1]s' to destroy all datasets in the pool\nuse 'zpool destroy %[1]s' to destroy the pool itself\n", n.Name)
		return 1
	}
	if !d.clones && !d.checkDependents(n) {
		return 1
	}
	for _, dep := range append(r.dependents(n), n) {
		d.announce(dep)
		if d.dry || parent(dep.Name) == "" && !dep.Snapshot {
			continue
		}
		if !d.one(dep) {
			return 1
		}
	}
	return 0
}

// announce prints what -v and -n are for.
func (d *destruction) announce(n *node) {
	switch {
	case !d.verbose:
	case d.parsable:
		d.inv.Outf("destroy\t%s\n", n.Name)
	case d.dry:
		d.inv.Outf("would destroy %s\n", n.Name)
	default:
		d.inv.Outf("will destroy %s\n", n.Name)
	}
}

// checkDependents is destroy_check_dependent for all of them: it lists what
// would have to be destroyed too and says which option does that.
func (d *destruction) checkDependents(n *node) bool {
	first := true
	for _, dep := range d.dependents(n) {
		descendant := below(dep.Name, n.Name) || strings.HasPrefix(dep.Name, n.Name+"@")
		what, flag := "children", "-r"
		if descendant && d.recurse {
			continue
		}
		if !descendant {
			if !d.recurse && !n.Snapshot {
				continue
			}
			what, flag = "dependent clones", "-R"
		}
		if first {
			d.inv.Errf("cannot destroy '%s': %s has %s\nuse '%s' to destroy the following datasets:\n", n.Name, n.kind(), what, flag)
			first = false
		}
		d.inv.Errf("%s\n", dep.Name)
	}
	return first
}

// one destroys a dataset that nothing depends on.
func (d *destruction) one(n *node) bool {
	if d.byID[n.ID] != n {
		return true // went with the last clone of a deferred snapshot
	}
	if n.Snapshot {
		return d.oneSnapshot(n, false)
	}
	action := "cannot destroy '" + n.Name + "'"
	if err := d.unmountNode(d.ctx, n, d.force); err != nil {
		d.mountFailed(err)
		return false
	}
	if d.usedByZones(n) || d.inUse[n.ID] > 0 || len(d.dependents(n)) > 0 {
		d.fail(action, "dataset is busy")
		return false
	}
	dir, mountable := d.mountable(n)
	_, own := n.Props["mountpoint"]
	if q := n.Props["quota"]; q != "" && q != "0" {
		if err := d.backend.SetQuota(d.ctx, n.ID, 0, []uint64{n.ID}); err != nil {
			d.backendFailed(action, err)
			return false
		}
	}
	if err := d.backend.Destroy(d.ctx, n.ID); err != nil {
		d.backendFailed(action, err)
		return false
	}
	d.remove(n)
	if mountable && !own {
		d.backend.RemoveDir(dir)
	}
	return d.collect(d.byID[n.Origin])
}

// collect destroys a deferred snapshot that nothing keeps any more.
func (d *destruction) collect(s *node) bool {
	if s == nil || !s.Deferred || len(s.Holds) > 0 || len(d.run.clones(s)) > 0 || d.inUse[s.ID] > 0 {
		return true
	}
	return d.oneSnapshot(s, false)
}

// oneSnapshot is lzc_destroy_snaps for one.
func (d *destruction) oneSnapshot(s *node, deferred bool) bool {
	action := "cannot destroy snapshot " + s.Name
	kept := len(s.Holds) > 0 || d.inUse[s.ID] > 0
	cloned := len(d.run.clones(s)) > 0
	if deferred && (kept || cloned) {
		s.Deferred = true
		return true
	}
	switch {
	case kept:
		d.fail(action, "dataset is busy")
		return false
	case cloned:
		d.fail(action, "snapshot is cloned")
		return false
	}
	if err := d.backend.Destroy(d.ctx, s.ID); err != nil {
		d.backendFailed(action, err)
		return false
	}
	d.remove(s)
	return true
}

// snapshots destroys those of fs that spec names: NAME, FROM%TO, and lists.
func (d *destruction) snapshots(name, spec string) int {
	fs, ok := d.open(name, typeFilesystem)
	if !ok {
		return 1
	}
	roots := []*node{fs}
	if d.recurse {
		roots = d.tree(fs)
	}
	var doomed []*node
	for _, root := range roots {
		found, why := d.match(root, spec)
		if why != "" {
			return d.fail("cannot destroy '"+root.Name+"@"+spec+"'", why)
		}
		for _, s := range found {
			if !d.clones && !d.deferred && !d.checkDependents(s) {
				return 1
			}
		}
		doomed = append(doomed, found...)
	}
	if len(doomed) == 0 {
		d.inv.Errf("could not find any snapshots to destroy; check snapshot names.\n")
		return 1
	}
	if !d.reclaim(doomed) {
		return 1
	}
	if d.dry {
		return 0
	}
	return d.destroySnapshots(doomed)
}

// reclaim prints what -v and -n say of snapshots.
func (d *destruction) reclaim(doomed []*node) bool {
	if !d.verbose {
		return true
	}
	s, err := d.measure(d.ctx)
	if err != nil {
		d.backendFailed("cannot destroy snapshots", err)
		return false
	}
	var sum uint64
	for _, n := range doomed {
		d.announce(n)
		sum += s.charged[n.ID]
	}
	switch {
	case d.parsable:
		d.inv.Outf("reclaim\t%d\n", sum)
	case d.dry:
		d.inv.Outf("would reclaim %s\n", niceNumber(sum))
	default:
		d.inv.Outf("will reclaim %s\n", niceNumber(sum))
	}
	return true
}

// destroySnapshots destroys all or none, as the one ioctl of the host does.
func (d *destruction) destroySnapshots(doomed []*node) int {
	if d.clones {
		for _, s := range doomed {
			for _, dep := range d.dependents(s) {
				if !d.one(dep) {
					return 1
				}
			}
		}
	}
	bad := false
	for _, s := range doomed {
		if d.deferred {
			continue
		}
		if len(s.Holds) > 0 || d.inUse[s.ID] > 0 {
			bad = true
			d.fail("cannot destroy snapshot "+s.Name, "dataset is busy")
		} else if len(d.run.clones(s)) > 0 {
			bad = true
			d.fail("cannot destroy snapshot "+s.Name, "snapshot is cloned")
		}
	}
	if bad {
		return 1
	}
	for _, s := range doomed {
		if d.byID[s.ID] == s && !d.oneSnapshot(s, d.deferred) {
			return 1
		}
	}
	return 0
}

// match is zfs_iter_snapspec: names that do not exist are passed over.
func (d *destruction) match(fs *node, spec string) ([]*node, string) {
	all := d.run.snapshots(fs)
	at := func(short string) int {
		return slices.IndexFunc(all, func(s *node) bool { return s.Name == fs.Name+"@"+short })
	}
	picked := map[int]bool{}
	for part := range strings.SplitSeq(spec, ",") {
		from, to, isRange := strings.Cut(part, "%")
		if !isRange {
			if i := at(part); i >= 0 {
				picked[i] = true
			}
			continue
		}
		first, last := 0, len(all)-1
		if from != "" {
			first = at(from)
		}
		if to != "" {
			last = at(to)
		}
		if from != "" && first < 0 || to != "" && last < 0 {
			continue
		}
		for i := first; i <= last; i++ {
			picked[i] = true
		}
	}
	var found []*node
	for _, i := range slices.Sorted(maps.Keys(picked)) {
		found = append(found, all[i])
	}
	return found, ""
}

// depthOption is parse_depth.
func (r *run) depthOption(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 0, 32)
	switch {
	case err != nil:
		r.usage(fmt.Sprintf("%s is not an integer", s))
		return 0, false
	case n < 0:
		r.usage("Depth can not be negative.")
		return 0, false
	}
	return int(n), true
}
