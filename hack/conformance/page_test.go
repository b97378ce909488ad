package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ginkgoReport = `[{"SpecReports": [
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should run [NodeConformance]", "State": "passed", "RunTime": 2500000000},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should fail [NodeConformance]", "State": "failed", "RunTime": 1000000000,
 "Failure": {"Message": "expected\n a | b", "Location": {"FileName": "/x/k8s.io/kubernetes@v1/test/e2e/common/node/pods.go", "LineNumber": 7}}},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "of another batch [NodeConformance]", "State": "skipped"}
]}]`

func TestRecordAndPage(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "report.json"), filepath.Join(dir, "results.json")
	if err := os.WriteFile(in, []byte(ginkgoReport), 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := readReport(in)
	if err != nil {
		t.Fatal(err)
	}
	tests := []test{
		{"[sig-node] Pods of another batch [NodeConformance]", false},
		{"[sig-node] Pods should fail [NodeConformance]", false},
		{"[sig-node] Pods should run [NodeConformance]", false},
	}
	have, err := load(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := have.record(out, tests, reports, false, "batch0-1"); err != nil {
		t.Fatal(err)
	}
	if have, err = load(out); err != nil || len(have.Tests) != 2 {
		t.Fatalf("%+v, %v", have, err)
	}
	got := page(tests, have)
	for _, want := range []string{
		"| all | 3 | 2 | 1 | 1 | 0 | 1 |\n",
		"| [sig-node] | 3 | 2 | 1 | 1 | 0 | 1 |\n",
		"| not run | [sig-node] Pods of another batch [NodeConformance] |  |\n",
		"| passed | [sig-node] Pods should run [NodeConformance] |  |\n",
		`| failed | [sig-node] Pods should fail [NodeConformance] | expected a \| b (test/e2e/common/node/pods.go:7) |`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// What a run that was cut short could not finish runs again.
func TestInterruptedTestsHaveNoResult(t *testing.T) {
	in := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(in, []byte(ginkgoReport), 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := readReport(in)
	if err != nil {
		t.Fatal(err)
	}
	have := &results{Tests: map[string]result{}}
	batch := []test{{"[sig-node] Pods should fail [NodeConformance]", false}, {"[sig-node] Pods should run [NodeConformance]", false}}
	if err := have.record(in+".out", batch, reports, true, "x"); err != nil {
		t.Fatal(err)
	}
	if r := have.Tests[batch[1].Name]; r.State != "passed" || len(have.Tests) != 1 {
		t.Errorf("%+v", have.Tests)
	}
}
