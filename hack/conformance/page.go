package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// version of Kubernetes whose tests these are; hack/conformance/suite/go.mod pins it.
const version = "v1.37.2"

// writePage writes what came of all tests in scope.
func writePage(file string, tests []test, have *results) error {
	return os.WriteFile(file, []byte(page(tests, have, causes())), 0o644)
}

// verdict is how the page counts a test.
type verdict int

const (
	verdictPassed verdict = iota
	verdictFailed
	verdictImpossible // it failed, and the known cause says that it has to
	verdictSkipped    // the suite itself skips it on such a cluster
	verdictNotRun
	verdicts
)

func judge(t test, have *results, known []cause) verdict {
	switch r, ok := have.Tests[t.Name]; {
	case !ok:
		return verdictNotRun
	case r.State == passed:
		return verdictPassed
	case r.State == "skipped":
		return verdictSkipped
	default:
		if c := causeOf(known, t.Name); c != nil && c.impossible() {
			return verdictImpossible
		}
		return verdictFailed
	}
}

const pageHead = "# Kubernetes' own end-to-end tests\n" + `
What the tests of Kubernetes ` + version + ` that are tagged [NodeConformance] or [Conformance] say of a node that is a simulated
illumos host: every test of sig-node, sig-storage, sig-apps and sig-network, on a cluster that has no other node, but for the one test
that wants two: it gets a second such host. This page is
written by the program that runs them (` + "`hack/conformance`" + `). No test is left out of the count, and none is skipped because it
is known to fail: what cannot pass is run as well, and listed with the argument.

` + "```" + `
make conformance                              # runs what has no result yet (hours); goes on where it was stopped
make conformance FOCUS='sig-node.*Probing'    # a part of it
make conformance ARGS='--again --limit 1h'    # what did not pass, once more; begins nothing after an hour
hack/test.sh conformance                      # the sample that is part of make test: hack/conformance/sample.txt
` + "```" + `

What the agent is told for these tests, and is not by itself: ` + "`--host-path /tmp`" + `, the folder of the host that they mount;
` + "`--allow-privileged`" + `, which every kubelet allows; and ` + "`--node-labels kubernetes.io/os=linux`" + `, because the images are Linux', some tests look
for such a node, and API servers let resources be resized on no others. The node's taint is removed.

`

func page(tests []test, have *results, known []cause) string {
	var b strings.Builder
	b.WriteString(pageHead)
	counts(&b, tests, have, known)
	by := map[verdict][]test{}
	for _, t := range tests {
		v := judge(t, have, known)
		by[v] = append(by[v], t)
	}
	if n := len(by[verdictFailed]); n > 0 {
		fmt.Fprintf(&b, "\n## Failed: %d\n", n)
		failures(&b, by[verdictFailed], have, known)
	}
	if n := len(by[verdictImpossible]); n > 0 {
		fmt.Fprintf(&b, "\n## Impossible: %d\n", n)
		failures(&b, by[verdictImpossible], have, known)
	}
	if n := len(by[verdictSkipped]); n > 0 {
		fmt.Fprintf(&b, "\n## Skipped by the suite: %d\n\n", n)
		for _, t := range by[verdictSkipped] {
			fmt.Fprintf(&b, "- %s: %s\n", line(t.Name, 400), line(have.Tests[t.Name].Message, 200))
		}
	}
	names(&b, "Not run yet", by[verdictNotRun])
	names(&b, "Passed", by[verdictPassed])
	return b.String()
}

// podResize names the tests of one feature in beta that are a third of
// [NodeConformance], and that read cgroups of the node; see causes.
const podResize = "PLR Pod InPlace Resize"

// counts writes the table of numbers.
func counts(b *strings.Builder, tests []test, have *results, known []cause) {
	b.WriteString("| | in scope | passed | | of the possible | failed | impossible | skipped by the suite | not run yet |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	row := func(name string, want func(string) bool) {
		var n [verdicts]int
		total := 0
		for _, t := range tests {
			if want(t.Name) {
				total++
				n[judge(t, have, known)]++
			}
		}
		fmt.Fprintf(b, "| %s | %d | %d | %s | %s | %d | %d | %d | %d |\n", name, total,
			n[verdictPassed], percent(n[verdictPassed], total), percent(n[verdictPassed], total-n[verdictImpossible]),
			n[verdictFailed], n[verdictImpossible], n[verdictSkipped], n[verdictNotRun])
	}
	row("all", func(string) bool { return true })
	row("[NodeConformance]", func(s string) bool { return strings.Contains(s, "[NodeConformance]") })
	row("[NodeConformance] but for the in-place resize of pods' own resources", func(s string) bool {
		return strings.Contains(s, "[NodeConformance]") && !strings.Contains(s, podResize)
	})
	row("[Conformance]", func(s string) bool { return strings.Contains(s, "[Conformance]") })
	for _, group := range groups(tests) {
		row(group, func(s string) bool { return strings.HasPrefix(s, group+" ") })
	}
	commits := map[string]bool{}
	for _, t := range tests {
		if r, ok := have.Tests[t.Name]; ok && r.Commit != "" {
			commits[r.Commit+" on "+r.Day] = true
		}
	}
	if len(commits) > 0 {
		fmt.Fprintf(b, "\nAgents that the results come from: %s.\n", strings.Join(slices.Sorted(maps.Keys(commits)), ", "))
	}
}

func percent(part, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%d %%", 100*part/of)
}

// failures writes failed tests below what is behind them.
func failures(b *strings.Builder, tests []test, have *results, known []cause) {
	write := func(tests []test) {
		for _, t := range tests {
			r := have.Tests[t.Name]
			fmt.Fprintf(b, "- %s  \n  %s: %s", line(t.Name, 400), r.State, line(r.Message, 240))
			if r.Where != "" {
				fmt.Fprintf(b, " (%s)", r.Where)
			}
			b.WriteString("\n")
		}
	}
	by := map[*cause][]test{}
	for _, t := range tests {
		c := causeOf(known, t.Name)
		by[c] = append(by[c], t)
	}
	for i := range known {
		c := &known[i]
		if len(by[c]) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n**Why:** %s", c.why)
		if !c.impossible() {
			fmt.Fprintf(b, " **Plan:** %s", c.plan)
		}
		b.WriteString("\n\n")
		write(by[c])
	}
	if len(by[nil]) > 0 {
		b.WriteString("\n**Why:** not looked into yet. **Plan:** look into them.\n\n")
		write(by[nil])
	}
}

// names writes a list of tests that folds, for there are hundreds.
func names(b *strings.Builder, title string, tests []test) {
	if len(tests) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s: %d\n", title, len(tests))
	for _, group := range groups(tests) {
		var these []string
		for _, t := range tests {
			if strings.HasPrefix(t.Name, group+" ") {
				these = append(these, "- "+line(t.Name, 400)+"\n")
			}
		}
		fmt.Fprintf(b, "\n<details><summary>%s: %d</summary>\n\n%s\n</details>\n", group, len(these), strings.Join(these, ""))
	}
}

func groups(tests []test) []string {
	var all []string
	for _, t := range tests {
		g, _, _ := strings.Cut(t.Name, " ")
		all = append(all, g)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// noise are tags that say nothing to a reader of the page.
var noise = regexp.MustCompile(` \[(LinuxOnly|Serial|Slow|Disruptive|Beta|FeatureGate:\w+|MinimumKubeletVersion:[\d.]+|Environment:\w+)\]`)

// line makes s a part of one line of Markdown.
func line(s string, limit int) string {
	s = noise.ReplaceAllString(strings.Join(strings.Fields(s), " "), "")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.NewReplacer("<", "&lt;", "`", "'", "*", `\*`).Replace(s)
}
