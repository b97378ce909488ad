package ipnat_test

import (
	"testing"

	"reddwarf.io/reddwarf/hack/host/ipf/trace"
	"reddwarf.io/reddwarf/network/ipnat"
)

// newTracer follows packets through rules as ipnat understands their text.
func newTracer(t testing.TB, n ipnat.Node, rules ipnat.Rules) *trace.Tracer {
	t.Helper()
	host := trace.Node{Gateway: n.Gateway, Uplink: n.Uplink}
	for _, w := range []*ipnat.Networks{n.IPv4, n.IPv6} {
		if w != nil {
			host.Networks = append(host.Networks, trace.Network{Pods: w.Pods, Cluster: w.Cluster, Gateway: w.Gateway, Host: w.Host})
		}
	}
	tr, err := trace.New(host, rules.String())
	if err != nil || tr.Rules() != len(rules) {
		t.Fatalf("ipnat reads %d of %d rules: %v", tr.Rules(), len(rules), err)
	}
	return tr
}
