package nat

import (
	"strings"

	"reddwarf.io/reddwarf/hack/host/ipf"
)

// compileFilter writes the filter's chains. What goes out is either from the
// host or forwarded.
func (f family) compileFilter(chains map[string]string, rules []ipf.FilterRule) {
	var in, cross, out strings.Builder
	for _, r := range rules {
		if r.In {
			in.WriteString(f.filterRule("iifname", r))
			continue
		}
		line := f.filterRule("oifname", r)
		out.WriteString(line)
		cross.WriteString(line)
	}
	chains["filter_in"], chains["filter_cross"], chains["filter_out"] = in.String(), cross.String(), out.String()
}

func (f family) filterRule(direction string, r ipf.FilterRule) string {
	m := f.match(direction, ipf.Rule{Kind: ipf.Map, Interface: orStar(r.Interface), Filter: true, Src: r.Src, Dst: r.Dst,
		SrcPort: r.SrcPort, DstPort: r.DstPort, TCP: r.TCP, UDP: r.UDP, Proto: r.Proto})
	verdict := "accept"
	if r.Block {
		verdict = "drop"
		switch r.Return {
		case "rst":
			verdict = "reject with tcp reset"
		case "icmp":
			verdict = "reject with icmp type host-unreachable"
		}
	}
	return strings.TrimSpace(m+" "+verdict) + "\n"
}

func orStar(name string) string {
	if name == "" {
		return "*"
	}
	return name
}
