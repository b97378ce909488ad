package zfs

import (
	"slices"
	"strings"
)

// rename is zfs_do_rename.
func (r *run) rename(args []string) int {
	set, _, rest, ok := r.options(args, "prf")
	if !ok {
		return 2
	}
	switch {
	case len(rest) < 1:
		return r.usage("missing source dataset argument")
	case len(rest) < 2:
		return r.usage("missing target dataset argument")
	case len(rest) > 2:
		return r.usage("too many arguments")
	case set['r'] && set['p']:
		return r.usage("-p and -r options are mutually exclusive")
	case set['r'] && !strings.Contains(rest[0], "@"):
		return r.usage("source dataset for recursive rename must be a snapshot")
	}
	types := typeDataset
	if set['p'] {
		types = typeFilesystem | typeVolume
	}
	n, ok := r.open(rest[0], types)
	if !ok {
		return 1
	}
	target := rest[1]
	if set['p'] && checkName(target, typeFilesystem, false) == "" && !r.createAncestors(target) {
		return 1
	}
	switch {
	case n.Name == target:
		return 0
	case n.Snapshot:
		return r.renameSnapshot(n, target, set['r'])
	}
	return r.renameFilesystem(n, target, set['f'])
}

func (r *run) renameSnapshot(n *node, target string, recursive bool) int {
	action := "cannot rename to '" + target + "'"
	fs, old, _ := strings.Cut(n.Name, "@")
	switch at := strings.IndexByte(target, '@'); {
	case at < 0:
		target = fs + "@" + target
	case at == 0:
		target = fs + target
	case target[:at] != fs:
		return r.fail(action, "snapshots must be part of same dataset")
	}
	if why := checkName(target, typeSnapshot, true); why != "" {
		return r.fail(action, why)
	}
	_, short, _ := strings.Cut(target, "@")
	roots := []*node{r.byName[fs]}
	if recursive {
		roots = r.tree(roots[0])
	}
	for _, root := range roots {
		if r.byName[root.Name+"@"+old] == nil || r.byName[root.Name+"@"+short] == nil {
			continue
		}
		why := "dataset already exists"
		if recursive {
			why = "a child dataset already has a snapshot with the new name"
		}
		return r.fail("cannot rename '"+root.Name+"@"+old+"'", why)
	}
	for _, root := range roots {
		if s := r.byName[root.Name+"@"+old]; s != nil {
			delete(r.byName, s.Name)
			s.Name = root.Name + "@" + short
			r.byName[s.Name] = s
		}
	}
	return 0
}

func (r *run) renameFilesystem(n *node, target string, force bool) int {
	action := "cannot rename to '" + target + "'"
	if why := checkName(target, typeFilesystem, true); why != "" {
		return r.fail(action, why)
	}
	if !r.checkParents(target, false) {
		return 1
	}
	if below(target, n.Name) {
		return r.fail(action, "New dataset name cannot be a descendant of current dataset name")
	}
	action = "cannot rename '" + n.Name + "'"
	switch {
	case r.on(n, "zoned"):
		return r.fail(action, "dataset is used in a non-global zone")
	case r.byName[target] != nil:
		return r.fail(action, "dataset already exists")
	case parent(n.Name) == "":
		return r.fail(action, "operation not applicable to datasets of this type")
	}
	affected := r.inheriting(n, "mountpoint")
	for _, c := range affected {
		if r.usedByZones(c) {
			return r.fail(action, "dataset is busy")
		}
	}
	if force {
		for _, c := range affected {
			force = force && c.Mounted == ""
		}
	}
	was, code := r.unmountAll(affected)
	if code != 0 {
		return code
	}
	if err := r.move(n, target); err != nil {
		return r.backendFailed(action, err)
	}
	return r.mountAgain(affected, was)
}

// move gives a file system and all that is below it new names, and the groups
// that follow from them.
func (r *run) move(n *node, target string) error {
	old := n.Name
	var moved []*node
	for _, c := range r.tree(n) {
		moved = append(moved, append(r.snapshots(c), c)...)
	}
	from := map[*node][]uint64{}
	for _, c := range moved {
		from[c] = r.groups(c.Name)
		delete(r.byName, c.Name)
	}
	for _, c := range moved {
		c.Name = target + strings.TrimPrefix(c.Name, old)
		r.byName[c.Name] = c
	}
	for _, c := range moved {
		if to := r.groups(c.Name); !slices.Equal(from[c], to) {
			if err := r.backend.Regroup(r.ctx, c.ID, from[c], to); err != nil {
				return err
			}
		}
	}
	return nil
}
