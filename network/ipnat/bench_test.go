package ipnat_test

import (
	"testing"

	"reddwarf.io/reddwarf/network/ipnat"
)

// The size of a large cluster: 10 000 Services with 5 endpoints each.
const manyServices = 10_000

// BenchmarkCompile compiles all of it and writes the text for ipnat.
func BenchmarkCompile(b *testing.B) {
	in := ipnat.Input{Node: v4Node(), Services: bigCluster(manyServices)}
	for b.Loop() {
		rules, _, err := ipnat.Compile(in)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(rules)), "rules")
		b.ReportMetric(float64(len(rules.String())), "bytes")
	}
}

// BenchmarkOneEndpoint changes one endpoint of one Service among all of them.
func BenchmarkOneEndpoint(b *testing.B) {
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		b.Fatal(err)
	}
	all := bigCluster(manyServices)
	for _, s := range all {
		table.Set(s)
	}
	s := all[manyServices/2]
	ends := []ipnat.Endpoint{s.Ports[0].Endpoints[3], on("n4", "10.244.4.251:8080")}
	n := 0
	for i := 1; b.Loop(); i++ {
		s.Ports[0].Endpoints[3] = ends[i%2]
		d := table.Set(s)
		n = len(d.Add) + len(d.Remove)
		_ = d.Add.String() + d.Remove.String()
	}
	b.ReportMetric(float64(n), "rules/op")
}

// BenchmarkParseList reads all of it back.
func BenchmarkParseList(b *testing.B) {
	rules, _, err := ipnat.Compile(ipnat.Input{Node: v4Node(), Services: bigCluster(manyServices)})
	if err != nil {
		b.Fatal(err)
	}
	out := "List of active MAP/Redirect filters:\n" + rules.String() + "\n"
	b.SetBytes(int64(len(out)))
	for b.Loop() {
		l, err := ipnat.ParseList(out)
		if err != nil || len(l.Ours) != len(rules) {
			b.Fatalf("%d rules: %v", len(l.Ours), err)
		}
	}
}
