package zones

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
)

// entry is one line of zoneadm list.
type entry struct {
	id     int // -1: not active
	name   string
	state  state
	path   string
	uuid   string
	brand  string
	ipType string
	debug  string
}

// globalEntry is the line of the global zone.
func (m *Model) globalEntry() entry {
	e := entry{id: 0, name: "global", state: stateRunning, path: "/", brand: m.distro.globalBrand(), ipType: "shared"}
	if !m.distro.gate() {
		e.debug = "0"
	}
	return e
}

func (z *zone) entry() entry {
	e := entry{id: -1, name: z.name, state: z.current(), path: z.config.path(), uuid: z.uuid, brand: z.config.Root["brand"]}
	cfg := z.config
	if z.kernel != nil {
		e.id = z.kernel.id
		if z.kernel.state == stateRunning {
			cfg = z.kernel.config
		}
	}
	e.ipType = "shared"
	if cfg.ipType() == "exclusive" {
		e.ipType = "excl"
	}
	if z.config.DebugID != 0 {
		e.debug = strconv.Itoa(z.config.DebugID)
	}
	return e
}

// entries returns all zones: the active ones by their ids, then the others in
// the order of the index. SmartOS has the order of the index throughout.
func (m *Model) entries() []entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []entry{m.globalEntry()}
	for _, name := range m.order {
		all = append(all, m.zones[name].entry())
	}
	if m.distro != SmartOS {
		slices.SortStableFunc(all, func(a, b entry) int {
			switch {
			case a.id >= 0 && b.id >= 0:
				return cmp.Compare(a.id, b.id)
			case a.id >= 0:
				return -1
			case b.id >= 0:
				return 1
			}
			return 0
		})
	}
	return all
}

// list implements zoneadm list.
func (a *admin) list(context.Context) int {
	spec := "?cinpv"
	if a.zone != "" {
		spec = "?pv"
	}
	o := &options{args: a.args, spec: spec, inv: a.inv}
	least, noGlobal, parsable, verbose := stateRunning, false, false, false
	for c := o.next(); c != 0; c = o.next() {
		switch c {
		case 'c':
			least = stateConfigured
		case 'i':
			least = min(least, stateInstalled)
		case 'n':
			noGlobal = true
		case 'p':
			parsable = true
		case 'v':
			verbose = true
		default:
			a.subUsage("list")
			if o.bad == '?' {
				return exitOK
			}
			return exitUsage
		}
	}
	if parsable && verbose {
		a.zerror("list -p and -v are mutually exclusive.")
		return exitErr
	}
	if a.zone != "" && len(o.rest()) > 0 {
		return a.subUsage("list")
	}
	first := true
	for _, e := range a.m.entries() {
		switch {
		case a.zone != "":
			if e.name != a.zone {
				continue
			}
		case e.id == 0 && noGlobal, e.id < 0 && e.state < least:
			continue
		}
		a.print(e, parsable, verbose, first)
		first = false
	}
	return exitOK
}

func (a *admin) print(e entry, parsable, verbose, first bool) {
	id := "-"
	if e.id >= 0 {
		id = strconv.Itoa(e.id)
	}
	switch {
	case verbose:
		if first {
			a.inv.Outf("%4s %-16s %-10s %-30s %-8s %-6s\n", "ID", "NAME", "STATUS", "PATH", "BRAND", "IP")
		}
		a.inv.Outf("%4s %-16s %-10s %-30s %-8s %-6s\n", id, e.name, e.state, e.path, e.brand, e.ipType)
	case parsable:
		fields := []string{id, e.name, e.state.String(), strings.ReplaceAll(e.path, ":", `\:`), e.uuid, e.brand, e.ipType}
		if !a.m.distro.gate() {
			fields = append(fields, e.debug)
		}
		a.inv.Outf("%s\n", strings.Join(fields, ":"))
	default:
		a.inv.Outf("%s\n", e.name)
	}
}
