package system

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

const kstatUsage = `Usage:
kstat [ -Cjlpq ] [ -T d|u ] [ -c class ]
      [ -m module ] [ -i instance ] [ -n name ] [ -s statistic ]
      [ interval [ count ] ]
kstat [ -Cjlpq ] [ -T d|u ] [ -c class ]
      [ module[:instance[:name[:statistic]]] ... ]
      [ interval [ count ] ]
`

// selector picks statistics: module, instance, name and statistic, each a
// pattern of gmatch(3GEN) or a regular expression between slashes.
type selector [4]matcher

// matcher says whether a part fits; nil fits all.
type matcher func(string) bool

// newMatcher reads one part of a selector.
func newMatcher(pattern string) (matcher, error) {
	switch {
	case pattern == "":
		return nil, nil
	case len(pattern) > 1 && pattern[0] == '/' && strings.HasSuffix(pattern, "/"):
		re, err := regexp.CompilePOSIX(pattern[1 : len(pattern)-1])
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	// Names of kstats may hold a slash, which path.Match treats apart.
	hide := strings.NewReplacer("/", "\x00")
	pattern = hide.Replace(pattern)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, err
	}
	return func(s string) bool {
		ok, _ := path.Match(pattern, hide.Replace(s))
		return ok
	}, nil
}

func (m matcher) fits(s string) bool { return m == nil || m(s) }

// kstatRun is one invocation of kstat(8).
type kstatRun struct {
	inv                                    *program.Invocation
	selectors                              []selector
	class                                  matcher
	parseable, colon, list, quiet, jsonOut bool
	now                                    time.Duration // since boot
	matched                                bool
	objects                                int // printed as JSON
}

func (m *Model) kstat(ctx context.Context, inv *program.Invocation) int {
	k := &kstatRun{inv: inv, now: m.now().Sub(m.bootTime())}
	if code, done := k.parse(); done {
		return code
	}
	all, err := m.kstats(ctx)
	if err != nil {
		inv.Errf("kstat_open: I/O error\n")
		return 3
	}
	if k.jsonOut {
		inv.Outf("[")
	}
	for _, s := range k.selectors {
		for _, ks := range all {
			k.print(s, ks)
		}
	}
	if k.jsonOut {
		inv.Outf("]\n")
	}
	if !k.matched {
		return 1
	}
	return 0
}

// parse reads the command line. done says that there is nothing more to do.
func (k *kstatRun) parse() (code int, done bool) {
	wrong := func(complaint string) (int, bool) {
		k.inv.Errf("%s%s", complaint, kstatUsage)
		return 2, true
	}
	set, rest, bad := options(k.inv.Args(), "h?CqjlpT:m:i:n:s:c:")
	if bad != 0 || has(set, 'h') || has(set, '?') {
		k.inv.Errf("%s", kstatUsage) // exit 0, as the host's own: it cannot tell a wrong option from -?
		return 0, true
	}
	if has(set, 'T') {
		return refuse(k.inv, "kstat -T is not simulated"), true
	}
	k.colon, k.list, k.quiet, k.jsonOut = has(set, 'C'), has(set, 'l'), has(set, 'q'), has(set, 'j')
	k.parseable = has(set, 'p') || k.colon || k.list
	if k.quiet && (k.jsonOut || k.parseable) {
		return wrong("-q and -lpj are mutually exclusive\n")
	}
	var err error
	if k.class, err = newMatcher(last(set, 'c')); err != nil {
		return wrong("kstat: " + err.Error() + "\n")
	}
	var named [4]string
	given := false
	for i, flag := range []byte("mins") {
		named[i] = last(set, flag)
		given = given || has(set, flag)
	}
	for _, arg := range rest {
		if _, err := strconv.ParseUint(arg, 10, 64); err == nil {
			return refuse(k.inv, "kstat with an interval is not simulated"), true
		}
		parts := strings.Split(arg, ":")
		if len(parts) > 4 {
			return wrong("")
		}
		var p [4]string
		copy(p[:], parts)
		if !k.add(p) {
			return wrong("kstat: bad pattern\n")
		}
	}
	if len(rest) > 0 && given {
		return wrong("[module[:instance[:name[:statistic]]]] and -m -i -n -s are mutually exclusive")
	}
	if len(rest) == 0 && !k.add(named) {
		return wrong("kstat: bad pattern\n")
	}
	return 0, false
}

func (k *kstatRun) add(parts [4]string) bool {
	var s selector
	for i, p := range parts {
		m, err := newMatcher(p)
		if err != nil {
			return false
		}
		s[i] = m
	}
	k.selectors = append(k.selectors, s)
	return true
}

// statistics are those of a kstat that are printed, by name: its own and the
// ones that kstat(8) adds.
func (k *kstatRun) statistics(ks kstat, m matcher) []statistic {
	all := append(slices.Clone(ks.statistics), statistic{"crtime", seconds(ks.created), false}, statistic{"snaptime", seconds(k.now), false})
	if k.parseable {
		all = append(all, text("class", ks.class))
	}
	slices.SortStableFunc(all, func(a, b statistic) int { return cmp.Compare(a.name, b.name) })
	return slices.DeleteFunc(all, func(s statistic) bool { return !m.fits(s.name) })
}

// seconds prints a time as the kernel's high resolution times are.
func seconds(d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.9f", d.Seconds())
}

func (k *kstatRun) print(s selector, ks kstat) {
	if !s[0].fits(ks.module) || !s[1].fits(strconv.Itoa(ks.instance)) || !s[2].fits(ks.name) || !k.class.fits(ks.class) {
		return
	}
	stats := k.statistics(ks, s[3])
	if len(stats) == 0 {
		return
	}
	k.matched = true
	switch {
	case k.quiet:
	case k.jsonOut:
		k.printJSON(ks, stats)
	case k.parseable:
		separator := "\t"
		if k.colon {
			separator = ":"
		}
		for _, st := range stats {
			k.inv.Outf("%s:%d:%s:%s", ks.module, ks.instance, ks.name, st.name)
			if !k.list {
				k.inv.Outf("%s%s", separator, st.value)
			}
			k.inv.Outf("\n")
		}
	default:
		k.inv.Outf("module: %-30.30s  instance: %-6d\nname:   %-30.30s  class:    %-.30s\n", ks.module, ks.instance, ks.name, ks.class)
		for _, st := range stats {
			k.inv.Outf("\t%-30s  %s\n", st.name, st.value)
		}
		k.inv.Outf("\n")
	}
}

func (k *kstatRun) printJSON(ks kstat, stats []statistic) {
	if k.objects++; k.objects > 1 {
		k.inv.Outf(", ")
	}
	k.inv.Outf("{\n\t\"module\": %s,\n\t\"instance\": %d,\n\t\"name\": %s,\n\t\"class\": %s,\n\t\"type\": 1,\n\t\"snaptime\": %s,\n\t\"data\": {\n",
		jsonString(ks.module), ks.instance, jsonString(ks.name), jsonString(ks.class), seconds(k.now))
	for i, st := range stats {
		value := st.value
		if st.text {
			value = jsonString(value)
		}
		comma := ","
		if i == len(stats)-1 {
			comma = ""
		}
		k.inv.Outf("\t\t%s: %s%s\n", jsonString(st.name), value, comma)
	}
	k.inv.Outf("\t}\n}")
}

// jsonString is ks_print_json_string of kstat.c, which escapes a question mark
// too, against the standard.
func jsonString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"', c == '?', c == '\\':
			b.WriteString("\\" + string(c))
		case c == '\n':
			b.WriteString("\\n")
		case c == '\t':
			b.WriteString("\\t")
		case c < 0x20 || c > 0x7e:
			fmt.Fprintf(&b, "\\u%04x", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
