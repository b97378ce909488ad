package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// writePage writes the table of all tests in scope.
func writePage(file string, tests []test, have *results) error {
	return os.WriteFile(file, []byte(page(tests, have)), 0o644)
}

func page(tests []test, have *results) string {
	var b strings.Builder
	b.WriteString(`# Kubernetes' own end-to-end tests

What the tests of Kubernetes v1.37.2 tagged [NodeConformance] or [Conformance] say of a node that is a simulated illumos
host: every test of sig-node, sig-storage, sig-apps and sig-network is in the list, run or not. ` + "`make conformance`" + ` writes this page
and goes on where it was stopped; ` + "`make conformance FOCUS='sig-node.*Pods'`" + ` runs a part.

| | in scope | run | passed | failed | skipped by the suite | not run yet |
|---|---|---|---|---|---|---|
`)
	row := func(name string, want func(string) bool) {
		var total, passed, failed, skipped int
		for _, t := range tests {
			if !want(t.Name) {
				continue
			}
			total++
			switch r, ok := have.Tests[t.Name]; {
			case !ok:
			case r.State == "passed":
				passed++
			case r.State == "skipped":
				skipped++
			default:
				failed++
			}
		}
		run := passed + failed + skipped
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", name, total, run, passed, failed, skipped, total-run) //nolint:errcheck // a Builder does not fail
	}
	row("all", func(string) bool { return true })
	row("[NodeConformance]", func(s string) bool { return strings.Contains(s, "[NodeConformance]") })
	row("[Conformance]", func(s string) bool { return strings.Contains(s, "[Conformance]") })
	for _, group := range groups(tests) {
		row(group, func(s string) bool { return strings.HasPrefix(s, group+" ") })
	}
	b.WriteString("\n## Tests\n\n| result | test | why |\n|---|---|---|\n")
	for _, t := range tests {
		r, ok := have.Tests[t.Name]
		if !ok {
			r.State = "not run"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.State, cell(t.Name, 300), why(t.Name, r)) //nolint:errcheck // as above
	}
	return b.String()
}

// known says what is behind failures that have been looked into, by a part of
// the test's name.
var known = []struct{ test, why string }{
	{"if pod uses host network", "Refused: a pod zone has its own network stack and the host's is not offered."},
	{"[sig-node] ConfigMap should be consumable as environment variable names", dashedNames},
	{"[sig-node] ConfigMap should be consumable via the environment", dashedNames},
}

const dashedNames = "Not the agent: the shell of Debian's busybox 1.35 drops variables whose names have a dash. Plan: a newer busybox."

func groups(tests []test) []string {
	var all []string
	for _, t := range tests {
		g, _, _ := strings.Cut(t.Name, " ")
		all = append(all, g)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func why(name string, r result) string {
	if r.State == "passed" || r.Message == "" {
		return ""
	}
	text := cell(r.Message, 240)
	if r.Where != "" {
		text += " (" + r.Where + ")"
	}
	for _, k := range known {
		if strings.Contains(name, k.test) && r.State != "skipped" {
			text = "**" + k.why + "** " + text
		}
	}
	return text
}

// cell makes s fit into a cell of a table.
func cell(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "`", "'", "*", `\*`).Replace(s)
}
