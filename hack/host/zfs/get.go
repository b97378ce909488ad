package zfs

import (
	"fmt"
	"slices"
	"strings"
)

// getting is one run of zfs get.
type getting struct {
	sel               selection
	columns           []string
	sources           int
	scripted, literal bool
}

var allColumns = [...]string{"name", "property", "value", "received", "source"}

// getCommand is zfs_do_get.
func (r *run) getCommand(args []string) int {
	set, opts, rest, ok := r.options(args, ":d:o:s:rt:Hp")
	if !ok {
		return 2
	}
	g := getting{
		sel:     selection{types: typeDataset | typeBookmark, recurse: set['r'], depth: -1, paths: true},
		columns: []string{"name", "property", "value", "source"}, sources: sourceAny,
		scripted: set['H'], literal: set['p'],
	}
	for _, o := range opts {
		switch o.flag {
		case 'd':
			g.sel.depth, ok = r.depthOption(o.value)
			g.sel.recurse = true
		case 'o':
			g.columns, ok = r.getColumns(o.value)
		case 's':
			g.sources, ok = r.sourcesOption(o.value)
		case 't':
			g.sel.types, ok = r.typesOption(o.value, false)
		}
		if !ok {
			return 2
		}
	}
	if len(rest) < 1 {
		return r.usage("missing property argument")
	}
	names, ok := r.columns(rest[0])
	if !ok {
		return 2
	}
	all, code := r.choose(rest[1:], g.sel)
	s, err := r.spaceFor(names)
	if err != nil {
		return r.backendFailed("cannot iterate filesystems", err)
	}
	r.printGet(g, r.rows(g, all, names, s))
	return code
}

func (r *run) getColumns(list string) ([]string, bool) {
	var columns []string
	for c := range strings.SplitSeq(list, ",") {
		switch {
		case len(columns) == len(allColumns):
			r.usage("too many fields given to -o option")
			return nil, false
		case c == "all" && len(columns) > 0:
			r.usage("\"all\" conflicts with specific fields given to -o option")
			return nil, false
		case c == "all":
			columns = slices.Clone(allColumns[:])
		case slices.Contains(allColumns[:], c):
			columns = append(columns, c)
		default:
			r.usage("invalid column name '" + c + "'")
			return nil, false
		}
	}
	return columns, true
}

func (r *run) sourcesOption(list string) (int, bool) {
	names := map[string]int{
		"local": sourceLocal, "default": sourceDefault, "inherited": sourceInherited,
		"received": sourceReceived, "temporary": sourceTemporary, "none": sourceNone,
	}
	sources := 0
	for s := range strings.SplitSeq(list, ",") {
		bit, ok := names[s]
		if !ok {
			r.usage("invalid source '" + s + "'")
			return 0, false
		}
		sources |= bit
	}
	return sources, true
}

// rows are the lines of zfs get, by column name. names is nil for all.
func (r *run) rows(g getting, all []*node, names []string, s space) []map[string]string {
	var rows []map[string]string
	for _, n := range all {
		wanted := names
		if names == nil {
			for _, p := range properties() {
				wanted = append(wanted, p.name)
			}
			wanted = append(wanted, r.userProperties(n)...)
		}
		for _, name := range wanted {
			v := r.get(n, name, s)
			if names == nil && !v.ok || v.source&g.sources == 0 {
				continue
			}
			rows = append(rows, map[string]string{
				"name": n.Name, "property": name, "value": v.string(g.literal), "received": "-", "source": v.sourceText(),
			})
		}
	}
	return rows
}

// printGet is zprop_print_one_property for every row.
func (r *run) printGet(g getting, rows []map[string]string) {
	if !g.scripted && len(rows) > 0 {
		header := map[string]string{}
		for _, c := range allColumns {
			header[c] = strings.ToUpper(c)
		}
		rows = slices.Insert(rows, 0, header)
	}
	width := map[string]int{}
	for _, row := range rows {
		for c, cell := range row {
			width[c] = max(width[c], len(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range g.columns {
			switch {
			case i == len(g.columns)-1:
				b.WriteString(row[c])
			case g.scripted:
				b.WriteString(row[c] + "\t")
			default:
				fmt.Fprintf(&b, "%-*s  ", width[c], row[c])
			}
		}
		r.inv.Outf("%s\n", b.String())
	}
}
