package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const ginkgoReport = `[{"SpecReports": [
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should run [NodeConformance]", "State": "passed", "RunTime": 2500000000},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should fail [NodeConformance]", "State": "failed", "RunTime": 1000000000,
 "Failure": {"Message": "expected\n *a* | b", "Location": {"FileName": "/x/k8s.io/kubernetes@v1/test/e2e/common/node/pods.go", "LineNumber": 7}}},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "needs Linux [Conformance]", "State": "failed",
 "Failure": {"Message": "no /proc/sys"}},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "of another batch [NodeConformance]", "State": "skipped"}
]}]`

var (
	other  = test{"[sig-node] Pods of another batch [NodeConformance]", false}
	fails  = test{"[sig-node] Pods should fail [NodeConformance]", false}
	linux  = test{"[sig-node] Pods needs Linux [Conformance]", false}
	passes = test{"[sig-node] Pods should run [NodeConformance]", false}
)

// recorded are the results of the report, read back from their file.
func recorded(t *testing.T, batch []test, interrupted bool) *results {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "report.json"), filepath.Join(dir, "results.json")
	if err := os.WriteFile(in, []byte(ginkgoReport), 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := readReport(in)
	if err != nil {
		t.Fatal(err)
	}
	have, err := load(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := have.record(options{results: out, commit: "abc1234"}, batch, reports, interrupted, "dir"); err != nil {
		t.Fatal(err)
	}
	if have, err = load(out); err != nil {
		t.Fatal(err)
	}
	return have
}

func TestRecordAndPage(t *testing.T) {
	tests := []test{linux, other, fails, passes}
	have := recorded(t, tests, false)
	if len(have.Tests) != 3 || have.Tests[passes.Name].Commit != "abc1234" {
		t.Fatalf("%+v", have.Tests)
	}
	known := []cause{
		{tests: regexp.MustCompile("Linux"), why: "No such kernel."},
		{tests: regexp.MustCompile("fail"), why: "A fault of ours.", plan: "Mend it."},
	}
	got := page(tests, have, known)
	for _, want := range []string{
		"| all | 4 | 1 | 25 % | 33 % | 1 | 1 | 0 | 1 |\n",
		"| [NodeConformance] | 3 | 1 | 33 % | 33 % | 1 | 0 | 0 | 1 |\n",
		"| [sig-node] | 4 | 1 | 25 % | 33 % | 1 | 1 | 0 | 1 |\n",
		"## Not run yet: 1\n",
		"- " + other.Name + "\n",
		"- " + passes.Name + "\n",
		"**Why:** A fault of ours. **Plan:** Mend it.\n\n- " + fails.Name + "  \n  failed: expected \\*a\\* | b (test/e2e/common/node/pods.go:7)\n",
		"## Impossible: 1\n\n**Why:** No such kernel.\n\n- " + linux.Name + "  \n  failed: no /proc/sys\n",
		"abc1234 on ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	resize := test{"[sig-node] " + podResize + " PLR no restart resizing cpu [NodeConformance]", false}
	if rest, want := page([]test{passes, resize}, have, nil), "own resources | 1 | 1 | 100 % | 100 % |"; !strings.Contains(rest, want) {
		t.Errorf("no %q in\n%s", want, rest)
	}
	if unknown := page(tests, have, nil); !strings.Contains(unknown, "## Failed: 2\n\n**Why:** not looked into yet.") {
		t.Errorf("failures without a cause are missing in\n%s", unknown)
	}
}

// A test that passes is no failure, whatever was known about it.
func TestKnownCauseDoesNotHideAPass(t *testing.T) {
	tests := []test{passes}
	known := []cause{{tests: regexp.MustCompile("."), why: "Cannot be."}}
	if got := page(tests, recorded(t, tests, false), known); !strings.Contains(got, "| all | 1 | 1 | 100 % | 100 % | 0 | 0 | 0 | 0 |\n") {
		t.Error(got)
	}
}

// What a run that was cut short could not finish runs again.
func TestInterruptedTestsHaveNoResult(t *testing.T) {
	have := recorded(t, []test{fails, passes}, true)
	if r := have.Tests[passes.Name]; r.State != "passed" || len(have.Tests) != 1 {
		t.Errorf("%+v", have.Tests)
	}
}

func TestSample(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sample.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := []test{linux, other, fails, passes}
	write("# pods\n\n" + passes.Name + "\n" + fails.Name + "\n" + other.Name + "\n")
	due, err := readSample(file, all)
	if err != nil || len(due) != 3 || due[0] != passes {
		t.Fatalf("%v, %v", due, err)
	}
	have := recorded(t, all, false)
	err = have.unlessPassed(due)
	if err == nil || strings.Contains(err.Error(), passes.Name) ||
		!strings.Contains(err.Error(), "failed: "+fails.Name) || !strings.Contains(err.Error(), "not run: "+other.Name) {
		t.Errorf("%v", err)
	}
	if err := have.unlessPassed(due[:1]); err != nil {
		t.Error(err)
	}
	// A renamed test must not leave the sample unnoticed.
	write("[sig-node] Pods gone [NodeConformance]\n")
	if _, err := readSample(file, all); err == nil || !strings.Contains(err.Error(), "has no test") {
		t.Errorf("%v", err)
	}
	write("# nothing\n")
	if _, err := readSample(file, all); err == nil {
		t.Error("an empty sample passes")
	}
}

// A test that wants two nodes is kept for when there are two.
func TestByNodes(t *testing.T) {
	rollback := test{"[sig-apps] Daemon set should rollback without unnecessary restarts [Conformance] [Serial]", true}
	if got := byNodes([]test{rollback, passes}); len(got[0]) != 1 || got[0][0] != passes || len(got[1]) != 1 || got[1][0] != rollback {
		t.Errorf("%v", got)
	}
}
