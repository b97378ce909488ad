package zfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// zpoolUsage holds the usage of the subcommands of zpool(8) that are
// simulated; the others are known and refused.
var zpoolUsage = map[string]string{
	"list":   "\tlist [-gHLpPv] [-o property[,...]] [-T d|u] [pool] ... [interval [count]]\n",
	"get":    "\tget [-Hp] [-o \"all\" | field[,...]] <\"all\" | property[,...]> <pool> ...\n",
	"status": "\tstatus [-DgLPvx] [-T d|u] [pool] ... [interval [count]]\n",
	"sync":   "\tsync [pool] ...\n",
}

var zpoolOthers = [...]string{
	"create", "destroy", "add", "remove", "labelclear", "checkpoint", "iostat", "online", "offline", "clear", "reopen",
	"attach", "detach", "replace", "split", "initialize", "resilver", "scrub", "import", "export", "upgrade", "reguid", "history", "set",
}

// zpool is the program zpool(8).
func (m *Model) zpool(ctx context.Context, inv *program.Invocation) int {
	z := &zpoolRun{run{Model: m, ctx: ctx, inv: inv}}
	args := inv.Args()
	if len(args) == 0 {
		return z.usage("", "missing command")
	}
	name, args := args[0], args[1:]
	if slices.Contains(zpoolOthers[:], name) {
		return z.refuse("zpool %s is not simulated", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch name {
	case "list":
		return z.list(args)
	case "get":
		return z.get(args)
	case "status":
		return z.status(args)
	case "sync":
		return 0
	}
	return z.usage("", fmt.Sprintf("unrecognized command '%s'", name))
}

// zpoolRun is one invocation of zpool.
type zpoolRun struct{ run }

// usage prints a complaint and the usage, and returns the exit code for it.
func (z *zpoolRun) usage(cmd, complaint string) int {
	if complaint != "" {
		z.inv.Errf("%s\n", complaint)
	}
	if text, ok := zpoolUsage[cmd]; ok {
		z.inv.Errf("usage:\n%s", text)
	} else {
		z.inv.Errf("usage: zpool command args ...\nwhere 'command' is one of the following:\n\n%s%s%s%s",
			zpoolUsage["list"], zpoolUsage["status"], zpoolUsage["get"], zpoolUsage["sync"])
	}
	return 2
}

// flags reads the options of a subcommand.
func (z *zpoolRun) flags(cmd string, args []string, spec string) (set map[byte]bool, opts []option, rest []string, code int) {
	opts, rest, bad := getopt(args, spec)
	if bad != nil {
		if bad.missing {
			return nil, nil, nil, z.usage(cmd, "missing argument for '"+string(bad.flag)+"' option")
		}
		return nil, nil, nil, z.usage(cmd, "invalid option '"+string(bad.flag)+"'")
	}
	set = map[byte]bool{}
	for _, o := range opts {
		set[o.flag] = true
	}
	return set, opts, rest, 0
}

// pools complains of every pool that there is not.
func (z *zpoolRun) pools(names []string) (here bool, code int) {
	here = len(names) == 0
	for _, name := range names {
		if name == z.cfg.Pool {
			here = true
			continue
		}
		code = z.fail("cannot open '"+name+"'", "no such pool")
	}
	return here, code
}

// poolProperty is a property of the pool: what zpool list prints, what -p
// prints, and where it comes from.
type poolProperty struct {
	name, column, text, exact, source string
	right                             bool
}

// values returns every property in the order of `zpool get all`.
func (z *zpoolRun) values() ([]poolProperty, error) {
	s, err := z.measure(z.ctx)
	if err != nil {
		return nil, err
	}
	var used uint64
	for _, n := range s.charged {
		used += n
	}
	used = min(used, s.size)
	size := func(name, column string, n uint64) poolProperty {
		return poolProperty{name, column, niceNumber(n), fmt.Sprint(n), "-", true}
	}
	word := func(name, column, value, source string) poolProperty {
		return poolProperty{name, column, value, value, source, false}
	}
	percent := used * 100 / max(s.size, 1)
	guid := z.byName[z.cfg.Pool].GUID ^ 0x5ca1ab1e
	return []poolProperty{
		word("name", "NAME", z.cfg.Pool, "-"),
		size("size", "SIZE", s.size),
		{"capacity", "CAP", fmt.Sprintf("%d%%", percent), fmt.Sprint(percent), "-", true},
		word("altroot", "ALTROOT", "-", "default"),
		word("health", "HEALTH", "ONLINE", "-"),
		{"guid", "GUID", fmt.Sprint(guid), fmt.Sprint(guid), "default", true},
		{"version", "VERSION", "-", "-", "default", true},
		word("bootfs", "BOOTFS", "-", "default"),
		word("delegation", "DELEGATION", "on", "default"),
		word("autoreplace", "REPLACE", "off", "default"),
		word("cachefile", "CACHEFILE", "-", "default"),
		word("failmode", "FAILMODE", "wait", "default"),
		word("listsnapshots", "LISTSNAPS", "off", "default"),
		word("autoexpand", "EXPAND", "off", "default"),
		{"dedupditto", "DEDUPDITTO", "0", "0", "default", true},
		{"dedupratio", "DEDUP", "1.00x", "1.00x", "-", true},
		size("free", "FREE", s.size-used),
		size("allocated", "ALLOC", used),
		word("readonly", "RDONLY", "off", "-"),
		word("comment", "COMMENT", "-", "default"),
		{"expandsize", "EXPANDSZ", "-", "-", "-", true},
		{"freeing", "FREEING", "0", "0", "default", true},
		{"fragmentation", "FRAG", "0%", "0", "-", true},
		{"leaked", "LEAKED", "0", "0", "default", true},
		{"checkpoint", "CKPOINT", "-", "-", "-", true},
	}, nil
}

// pick finds properties by their names, or complains as zprop_get_list does.
func (z *zpoolRun) pick(cmd, list string) ([]poolProperty, int) {
	all, err := z.values()
	if err != nil {
		return nil, z.backendFailed("cannot open '"+z.cfg.Pool+"'", err)
	}
	if list == "all" {
		return all[1:], 0
	}
	var picked []poolProperty
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(p poolProperty) bool { return p.name == name || strings.ToLower(p.column) == name })
		if i < 0 {
			z.inv.Errf("bad property list: invalid property '%s'\n", name)
			return nil, z.usage(cmd, "")
		}
		picked = append(picked, all[i])
	}
	return picked, 0
}

// list is zpool_do_list, without vdevs and intervals.
func (z *zpoolRun) list(args []string) int {
	set, opts, rest, code := z.flags("list", args, ":gHLo:pPT:v")
	if code != 0 {
		return code
	}
	if set['v'] || set['T'] {
		return z.refuse("zpool list -v and -T are not simulated")
	}
	fields := "name,size,allocated,free,checkpoint,expandsize,fragmentation,capacity,dedupratio,health,altroot"
	for _, o := range opts {
		if o.flag == 'o' {
			fields = o.value
		}
	}
	picked, code := z.pick("list", fields)
	if code != 0 {
		return code
	}
	here, code := z.pools(rest)
	if !here {
		return code
	}
	var head, row []string
	for i, p := range picked {
		value := p.text
		if set['p'] {
			value = p.exact
		}
		if set['H'] {
			row = append(row, value)
			continue
		}
		width := max(len(p.column), len(value))
		if p.right {
			width = max(width, 5)
		}
		switch {
		case p.right:
			head, row = append(head, fmt.Sprintf("%*s", width, p.column)), append(row, fmt.Sprintf("%*s", width, value))
		case i < len(picked)-1:
			head, row = append(head, fmt.Sprintf("%-*s", width, p.column)), append(row, fmt.Sprintf("%-*s", width, value))
		default:
			head, row = append(head, p.column), append(row, value)
		}
	}
	if set['H'] {
		z.inv.Outf("%s\n", strings.Join(row, "\t"))
		return code
	}
	z.inv.Outf("%s\n%s\n", strings.Join(head, "  "), strings.Join(row, "  "))
	return code
}

// get is zpool_do_get.
func (z *zpoolRun) get(args []string) int {
	set, opts, rest, code := z.flags("get", args, ":Hpo:")
	if code != 0 {
		return code
	}
	g := getting{columns: []string{"name", "property", "value", "source"}, scripted: set['H']}
	for _, o := range opts {
		if o.flag != 'o' {
			continue
		}
		if o.value == "all" {
			continue
		}
		g.columns = strings.Split(o.value, ",")
		for _, c := range g.columns {
			if !slices.Contains([]string{"name", "property", "value", "source"}, c) {
				return z.usage("get", "invalid column name '"+c+"'")
			}
		}
	}
	if len(rest) < 1 {
		return z.usage("get", "missing property argument")
	}
	picked, code := z.pick("get", rest[0])
	if code != 0 {
		return code
	}
	here, code := z.pools(rest[1:])
	if !here {
		return code
	}
	var rows []map[string]string
	for _, p := range picked {
		value := p.text
		if set['p'] {
			value = p.exact
		}
		rows = append(rows, map[string]string{"name": z.cfg.Pool, "property": p.name, "value": value, "source": p.source})
	}
	z.printGet(g, rows)
	return code
}

// status is zpool_do_status of a pool on one disk that is well.
func (z *zpoolRun) status(args []string) int {
	set, _, rest, code := z.flags("status", args, "DgLPvxT:")
	if code != 0 {
		return code
	}
	here, code := z.pools(rest)
	switch {
	case !here:
	case set['x'] && len(rest) == 0:
		z.inv.Outf("all pools are healthy\n")
	case set['x']:
		z.inv.Outf("pool '%s' is healthy\n", z.cfg.Pool)
	default:
		z.inv.Outf("  pool: %s\n state: ONLINE\n  scan: none requested\nconfig:\n\n", z.cfg.Pool)
		width := max(len(z.cfg.Pool), len("  c1t0d0"), len("NAME"))
		z.inv.Outf("\t%-*s  %-8s %5s %5s %5s\n", width, "NAME", "STATE", "READ", "WRITE", "CKSUM")
		for _, name := range []string{z.cfg.Pool, "  c1t0d0"} {
			z.inv.Outf("\t%-*s  %-8s %5s %5s %5s\n", width, name, "ONLINE", "0", "0", "0")
		}
		z.inv.Outf("\nerrors: No known data errors\n")
	}
	return code
}
