package zfs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// selection is what list, get and inherit are to visit: zfs_for_each.
type selection struct {
	types    int
	recurse  bool
	depth    int // -1: no limit
	paths    bool
	implicit bool // types were not given: snapshots only where named
}

// choose finds the datasets of a selection. Every name that cannot be opened
// is complained about and makes the second result 1.
func (r *run) choose(names []string, sel selection) ([]*node, int) {
	failed := 0
	picked := map[uint64]*node{}
	add := func(n *node) {
		kind := typeFilesystem
		if n.Snapshot {
			kind = typeSnapshot
		}
		if sel.types&kind != 0 {
			picked[n.ID] = n
		}
	}
	if len(names) == 0 {
		names, sel.recurse = []string{r.cfg.Pool}, true
	}
	for _, name := range names {
		if sel.paths && (strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./")) {
			found, ok := r.datasetOf(name)
			if !ok {
				failed = 1
				continue
			}
			name = found
		}
		types := sel.types
		if sel.recurse {
			types |= typeFilesystem
		}
		if sel.implicit {
			types |= typeSnapshot
		}
		n, ok := r.open(name, types)
		if !ok {
			failed = 1
			continue
		}
		add(n)
		if sel.implicit && n.Snapshot {
			picked[n.ID] = n
		}
		if !sel.recurse || n.Snapshot {
			continue
		}
		for _, c := range r.byID {
			if sel.reaches(n, c) {
				add(c)
			}
		}
	}
	var all []*node
	for _, n := range picked {
		all = append(all, n)
	}
	slices.SortFunc(all, byName)
	return all, failed
}

// reaches says whether a recursion from n comes to c. Snapshots are passed over
// where types were not given, as the pool's listsnapshots is off.
func (sel selection) reaches(n, c *node) bool {
	level := depth(c.Name) - depth(n.Name)
	if c.Snapshot {
		level++
	}
	return c != n && (below(c.Name, n.Name) || filesystem(c.Name) == n.Name) &&
		(sel.depth < 0 || level <= sel.depth) && !(c.Snapshot && sel.implicit)
}

// datasetOf is zfs_path_to_zhandle: the dataset mounted at or above a path.
func (r *run) datasetOf(path string) (string, bool) {
	if _, err := r.inv.Files.Lstat(path); err != nil {
		r.inv.Errf("cannot open '%s': No such file or directory\n", path)
		return "", false
	}
	best := ""
	name := ""
	for _, n := range r.byID {
		if n.Mounted != "" && len(n.Mounted) > len(best) && (path == n.Mounted || strings.HasPrefix(path, strings.TrimSuffix(n.Mounted, "/")+"/")) {
			best, name = n.Mounted, n.Name
		}
	}
	if name == "" {
		r.inv.Errf("'%s': not a ZFS filesystem\n", path)
		return "", false
	}
	return name, true
}

// typesOption reads -t.
func (r *run) typesOption(s string, snap bool) (int, bool) {
	types := 0
	for t := range strings.SplitSeq(s, ",") {
		switch {
		case t == "filesystem":
			types |= typeFilesystem
		case t == "volume":
			types |= typeVolume
		case t == "snapshot", t == "snap" && snap:
			types |= typeSnapshot
		case t == "bookmark":
			types |= typeBookmark
		case t == "all":
			types = typeDataset | typeBookmark
		default:
			r.usage("invalid type '" + t + "'")
			return 0, false
		}
	}
	return types, true
}

// columns reads a list of properties; "all" is nil.
func (r *run) columns(list string) ([]string, bool) {
	if list == "all" {
		return nil, true
	}
	bad := func(why string) ([]string, bool) {
		r.inv.Errf("bad property list: %s\n", why)
		r.usage("")
		return nil, false
	}
	if list == "" {
		return bad("no properties specified")
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSuffix(list, ","), ",") {
		p, native := findProperty(name)
		switch {
		case name == "":
			return bad("empty property name")
		case name == "space":
			names = append(names, "name", "available", "used", "usedbysnapshots", "usedbydataset", "usedbyrefreservation", "usedbychildren")
		case native:
			names = append(names, p.name)
		case userProperty(name), quotaProperty(name), strings.HasPrefix(name, "written@"):
			names = append(names, name)
		default:
			return bad("invalid property '" + name + "'")
		}
	}
	return names, true
}

// sortKey is one -s or -S.
type sortKey struct {
	name    string
	reverse bool
}

// list is zfs_do_list.
func (r *run) list(args []string) int {
	set, opts, rest, ok := r.options(args, "HS:d:o:prs:t:")
	if !ok {
		return 2
	}
	sel := selection{types: typeDataset, recurse: set['r'], depth: -1, paths: true, implicit: true}
	fields := "name,used,available,referenced,mountpoint"
	var keys []sortKey
	for _, o := range opts {
		switch o.flag {
		case 'o':
			fields = o.value
		case 'd':
			if sel.depth, ok = r.depthOption(o.value); !ok {
				return 2
			}
			sel.recurse = true
		case 's', 'S':
			p, native := findProperty(o.value)
			if !native && !userProperty(o.value) {
				return r.usage("invalid property '" + o.value + "'")
			}
			name := o.value
			if native {
				name = p.name
			}
			keys = append(keys, sortKey{name, o.flag == 'S'})
		case 't':
			if sel.types, ok = r.typesOption(o.value, true); !ok {
				return 2
			}
			sel.implicit = false
		}
	}
	if sel.implicit {
		sel.types = typeFilesystem | typeVolume
	}
	columns, ok := r.columns(fields)
	if !ok {
		return 2
	}
	if columns == nil {
		columns = []string{"name"}
		for _, p := range properties() {
			columns = append(columns, p.name)
		}
	}
	all, code := r.choose(rest, sel)
	return max(code, r.printList(all, columns, keys, set['H'], set['p']))
}

func (r *run) printList(all []*node, columns []string, keys []sortKey, scripted, literal bool) int {
	s, err := r.spaceFor(append(columns, keyNames(keys)...))
	if err != nil {
		return r.backendFailed("cannot iterate filesystems", err)
	}
	slices.SortStableFunc(all, func(a, b *node) int { return r.compare(a, b, keys, s) })
	if len(all) == 0 {
		if !scripted {
			r.inv.Outf("no datasets available\n")
		}
		return 0
	}
	var rows [][]string
	for _, n := range all {
		var row []string
		for _, c := range columns {
			row = append(row, r.get(n, c, s).string(literal))
		}
		rows = append(rows, row)
	}
	if scripted {
		for _, row := range rows {
			r.inv.Outf("%s\n", strings.Join(row, "\t"))
		}
		return 0
	}
	r.printTable(columns, rows)
	return 0
}

// spaceFor measures the pool if one of the properties needs it.
func (r *run) spaceFor(names []string) (space, error) {
	if len(names) != 0 && !slices.ContainsFunc(names, func(name string) bool {
		p, _ := findProperty(name)
		return p.form == isNumber && p.change == readOnly
	}) {
		return space{}, nil
	}
	return r.measure(r.ctx)
}

func keyNames(keys []sortKey) (names []string) {
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

// compare is zfs_sort: datasets without the property go last.
func (r *run) compare(a, b *node, keys []sortKey, s space) int {
	for _, k := range keys {
		va, vb := r.get(a, k.name, s), r.get(b, k.name, s)
		switch {
		case !va.ok && !vb.ok:
			continue
		case !va.ok:
			return 1
		case !vb.ok:
			return -1
		}
		c := cmp.Compare(va.exact, vb.exact)
		if p, _ := findProperty(k.name); p.form == isNumber {
			na, _ := strconv.ParseUint(va.exact, 10, 64)
			nb, _ := strconv.ParseUint(vb.exact, 10, 64)
			c = cmp.Compare(na, nb)
		}
		if k.reverse {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return byName(a, b)
}

// printTable aligns columns as print_header and print_dataset do: numbers to
// the right, the last column without padding.
func (r *run) printTable(columns []string, rows [][]string) {
	var header []string
	right := make([]bool, len(columns))
	width := make([]int, len(columns))
	for i, c := range columns {
		p, native := findProperty(c)
		title := strings.ToUpper(c)
		if native {
			title = p.column
			right[i] = p.form == isNumber
		}
		header = append(header, title)
		width[i] = max(len(title), minWidth(p))
	}
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			switch {
			case right[i]:
				cell = fmt.Sprintf("%*s", width[i], cell)
			case i < len(row)-1:
				cell = fmt.Sprintf("%-*s", width[i], cell)
			}
			if i > 0 {
				cell = "  " + cell
			}
			r.inv.Outf("%s", cell)
		}
		r.inv.Outf("\n")
	}
}

// minWidth is zprop_width: a size is printed in five characters, a date in
// twenty.
func minWidth(p property) int {
	switch {
	case p.name == "creation":
		return 20
	case p.form == isNumber:
		return 5
	}
	return 0
}
