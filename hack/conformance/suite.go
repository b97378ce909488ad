package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// inScope are the tests that count: those that Kubernetes itself expects of
// every node or every cluster, of the groups that are about pods.
var (
	scopeTag   = regexp.MustCompile(`\[(NodeConformance|Conformance)\]`)
	scopeGroup = regexp.MustCompile(`^\[sig-(node|storage|apps|network)\]`)
)

// test is one test of the suite.
type test struct {
	Name   string
	Serial bool // it must run alone
}

// report is as much of Ginkgo's JSON report as is needed here.
type report struct {
	SpecReports []struct {
		ContainerHierarchyTexts []string
		LeafNodeType            string
		LeafNodeText            string
		State                   string
		RunTime                 time.Duration
		Failure                 struct {
			Message        string
			ForwardedPanic string
			Location       struct {
				FileName   string
				LineNumber int
			}
		}
	}
}

// list asks the suite for its tests and returns those of the scope in order.
func list(ctx context.Context, o options) ([]test, error) {
	dir, err := os.MkdirTemp(o.work, "list-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is of no use to anybody
	file := filepath.Join(dir, "list.json")
	cmd := exec.CommandContext(ctx, filepath.Join(o.suite, "e2e.test"), "--ginkgo.dry-run", "--ginkgo.silence-skips", "--ginkgo.json-report="+file, "--provider=skeleton")
	cmd.Dir = o.work
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("list tests: %w: %s", err, tail(string(out), 800))
	}
	reports, err := readReport(file)
	if err != nil {
		return nil, err
	}
	var all []test
	for _, r := range reports {
		for _, s := range r.SpecReports {
			name := strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
			if s.LeafNodeType == "It" && scopeTag.MatchString(name) && scopeGroup.MatchString(name) {
				all = append(all, test{name, strings.Contains(name, "[Serial]")})
			}
		}
	}
	slices.SortFunc(all, func(a, b test) int { return strings.Compare(a.Name, b.Name) })
	all = slices.Compact(all)
	if len(all) < 100 {
		return nil, fmt.Errorf("list tests: only %d tests are in scope: the suite has other names for them now", len(all))
	}
	return all, nil
}

func readReport(file string) ([]report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []report
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("report %s: %w", file, err)
	}
	return all, nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
