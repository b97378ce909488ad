package ipf

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// FilterRule is one quick rule of ipf. Rules without quick, whose last match
// wins, are refused.
type FilterRule struct {
	Block            bool
	Return           string // "rst", "icmp" or ""
	In               bool
	Interface        string // "" is all
	TCP, UDP         bool
	Proto            int // 0 is any, or tcp/udp
	Src, Dst         Net
	SrcPort, DstPort PortMatch
}

// tunable is what ipf -T can name.
type tunable struct {
	name     string
	low, max uint32
	value    uint32 // the kernel's default
	idle     bool   // can be set only while the filter is off
}

// tunables are the simulated ones. None has an effect here: the simulation's
// tables have no bounds.
var tunables = []tunable{
	{"fr_defnatage", 1, 0x7fffffff, 1200, true},
	{"fr_defnatipage", 1, 0x7fffffff, 120, true},
	{"fr_defnaticmpage", 1, 0x7fffffff, 6, true},
	{"ipf_nattable_max", 1, 0x7fffffff, 30000, false},
	{"ipf_nattable_sz", 1, 0x7fffffff, 2047, true},
	{"ipf_natrules_sz", 1, 0x7fffffff, 127, true},
	{"ipf_rdrrules_sz", 1, 0x7fffffff, 127, true},
	{"ipf_hostmap_sz", 1, 0x7fffffff, 2047, true},
	{"nat_flush_lvl_hi", 1, 100, 95, false},
	{"nat_flush_lvl_lo", 1, 100, 75, false},
}

const ipfUsage = "usage: ipf [-6AdDEGInoPrRsvVyzZ] [-l block|pass|nomatch|state|nat] [-cc] [-F i|o|a|s|S|u] [-f filename] [-T <tuneopts>] [zonename]\n\n"

// ipf is ipf(8), whose options take effect in their order.
func (m *Model) ipf(ctx context.Context, inv *program.Invocation) int {
	args := inv.Args()
	if len(args) == 0 || len(args[0]) < 2 || args[0][0] != '-' {
		inv.Errf("%s", ipfUsage)
		return 1
	}
	remove := false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		cluster := args[0][1:]
		args = args[1:]
		for i := 0; i < len(cluster); i++ {
			c, value := cluster[i], ""
			if strings.IndexByte("cfFlT", c) >= 0 {
				if value = cluster[i+1:]; value == "" {
					if len(args) == 0 {
						inv.Errf("%s", ipfUsage)
						return 1
					}
					value, args = args[0], args[1:]
				}
				i = len(cluster)
			}
			if c == 'r' {
				remove = !remove
				continue
			}
			if code := m.ipfOption(ctx, inv, c, value, remove); code != 0 {
				return code
			}
		}
	}
	if len(args) > 0 {
		inv.Errf("%sfilters of zones are not simulated\n", simulated)
		return 1
	}
	return 0
}

func (m *Model) ipfOption(ctx context.Context, inv *program.Invocation, c byte, value string, remove bool) int {
	switch c {
	case 'E':
		if m.enabled {
			inv.Errf("IP FIlter: already initialized\n")
		}
		m.enabled = true
	case 'D':
		if err := m.disable(ctx); err != nil {
			inv.Errf("%s%v\n", simulated, err)
			return 1
		}
	case 'V':
		running := "no"
		if m.enabled {
			running = "yes"
		}
		inv.Outf("ipf: IP Filter: v4.1.9 (592)\nKernel: IP Filter: v4.1.9                \nRunning: %s\n", running)
		inv.Outf("Log Flags: 0 = none set\nDefault: pass all, Logging: available\nActive list: 0\nFeature mask: 0x107\n")
	case 'T':
		return m.tune(inv, value)
	case 'F':
		return m.flushFilter(ctx, inv, value)
	case 'f':
		return m.loadFilter(ctx, inv, value, remove)
	case 'A', 'R', 'o':
	default:
		inv.Errf("%sipf -%c is not simulated\n", simulated, c)
		return 1
	}
	return 0
}

// tune is ipf_dotuning of libipf: it shows and sets tunables until one fails,
// and the exit code is 0 all the same.
func (m *Model) tune(inv *program.Invocation, words string) int {
	for word := range strings.SplitSeq(words, ",") {
		if name, text, set := strings.Cut(word, "="); set {
			value, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				inv.Errf("invalid value '%s'\n", name)
				return 0
			}
			if fault := m.setTunable(name, value); fault != "" {
				inv.Errf("ioctl(SIOCIPFSET): %s\n", fault)
				return 0
			}
			inv.Errf("%s%s has no effect\n", simulated, name)
			continue
		}
		found := false
		for _, t := range tunables {
			if word == "list" || word == t.name {
				found = true
				inv.Outf("%s\tmin %#x\tmax %#x\tcurrent %d\n", t.name, t.low, t.max, m.tunable(t))
			}
		}
		if !found {
			inv.Errf("ioctl(SIOCIPFGET): No such process\n")
			return 0
		}
	}
	return 0
}

func (m *Model) tunable(t tunable) uint32 {
	if v, ok := m.tuned[t.name]; ok {
		return v
	}
	return t.value
}

// setTunable is fr_ipftune's SIOCIPFSET. What it has set lasts until the host
// reboots, also while the filter is off.
func (m *Model) setTunable(name string, value uint64) (fault string) {
	i := slices.IndexFunc(tunables, func(t tunable) bool { return t.name == name })
	switch {
	case i < 0:
		return "No such process"
	case tunables[i].idle && m.enabled:
		return "Device busy"
	case value < uint64(tunables[i].low) || value > uint64(tunables[i].max):
		return "Invalid argument"
	}
	if m.tuned == nil {
		m.tuned = map[string]uint32{}
	}
	m.tuned[name] = uint32(value)
	return ""
}

func (m *Model) flushFilter(ctx context.Context, inv *program.Invocation, what string) int {
	if strings.ContainsAny(what, "sSu") {
		inv.Errf("%sipf -F %s is not simulated\n", simulated, what)
		return 1
	}
	if !m.enabled {
		inv.Errf("ioctl(SIOCIPFFL): I/O error\n")
		return 1
	}
	all, in, out := strings.ContainsAny(what, "aA"), strings.ContainsAny(what, "iI"), strings.ContainsAny(what, "oO")
	rest := slices.DeleteFunc(slices.Clone(m.filter), func(r FilterRule) bool { return all || r.In && in || !r.In && out })
	if err := m.backend.Load(ctx, m.nat, rest); err != nil {
		inv.Errf("%s%v\n", simulated, err)
		return 1
	}
	m.filter = rest
	return 0
}

func (m *Model) loadFilter(ctx context.Context, inv *program.Invocation, file string, remove bool) int {
	r := &ipnatRun{Invocation: inv, m: m, file: file}
	text, err := r.read()
	if err != nil {
		inv.Errf("fopen(%s) failed: %s\n", file, errnoText(err))
		return 0
	}
	rules := slices.Clone(m.filter)
	parseErr := parseFilter(text, func(rule FilterRule, line int) {
		i := slices.Index(rules, rule)
		switch {
		case !m.enabled:
			inv.Errf("%d:ioctl(add/insert rule): I/O error\n", line)
		case remove && i < 0:
			inv.Errf("%d:ioctl(delete rule): No such process\n", line)
		case remove:
			rules = slices.Delete(rules, i, i+1)
		case i >= 0:
			inv.Errf("%d:ioctl(add/insert rule): File exists\n", line)
		default:
			rules = append(rules, rule)
		}
	})
	if err := m.backend.Load(ctx, m.nat, rules); err != nil {
		inv.Errf("%s%v\n", simulated, err)
		return 1
	}
	m.filter = rules
	if parseErr != nil {
		inv.Errf("%v\n", parseErr)
		return 1
	}
	return 0
}

// parseFilter reads the simulated part of ipf's grammar:
//
//	block|pass [return-rst|return-icmp] in|out quick [on IF] [proto P] all | from A [port] to B [port]
func parseFilter(text string, add func(FilterRule, int)) (err error) {
	p := &parser{lex: newLexer(text)}
	defer func() {
		if e := recover(); e != nil {
			stop, ok := e.(*SyntaxError)
			if !ok {
				panic(e)
			}
			err = stop
		}
	}()
	p.advance()
	for p.tok.kind != tokenEOF {
		if p.tok.kind == tokenComment {
			p.advance()
			continue
		}
		rule, err := p.filterRule()
		if err != nil {
			return err
		}
		add(rule, p.tok.line)
	}
	return nil
}

// plain takes a word that is a keyword of ipf only.
func (p *parser) plain(text string) bool {
	if p.tok.kind != tokenWord || p.tok.text != text {
		return false
	}
	p.advance()
	return true
}

func (p *parser) filterRule() (FilterRule, error) {
	p.version = 0
	var r FilterRule
	switch {
	case p.plain("block"):
		r.Block = true
		if p.plain("return-rst") {
			r.Return = "rst"
		} else if p.plain("return-icmp") {
			r.Return = "icmp"
		}
	case p.plain("pass"):
	default:
		p.syntax()
	}
	r.In = p.plain("in")
	if !r.In && !p.plain("out") {
		p.syntax()
	}
	if !p.plain("quick") {
		return r, fmt.Errorf("%sonly quick rules are simulated, line %d", simulated, p.tok.line)
	}
	if p.plain("on") {
		r.Interface = p.interfaceName()
	}
	if p.plain("proto") {
		nat := Rule{}
		p.protocol(&nat)
		r.TCP, r.UDP, r.Proto = nat.TCP, nat.UDP, nat.Proto
	}
	if p.plain("all") {
		return r, nil
	}
	p.expect("from")
	r.Src, r.SrcPort, _ = p.object()
	p.expect("to")
	r.Dst, r.DstPort, _ = p.object()
	if p.version == 6 {
		return r, fmt.Errorf("%sfilter rules for IPv6 are not simulated", simulated)
	}
	if r.Return == "rst" && (!r.TCP || r.UDP) {
		p.fail("TCP protocol not specified")
	}
	if r.Src.Bits() < 0 || r.Dst.Bits() < 0 {
		return r, fmt.Errorf("%smasks with holes are not simulated in filter rules", simulated)
	}
	return r, nil
}
