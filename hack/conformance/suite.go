package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	file := filepath.Join(o.work, "list.json")
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

// runBatches runs tests in parallel, and those that must be alone at the end.
func runBatches(ctx context.Context, o options, kubeconfig string, due []test, have *results) error {
	began := time.Now()
	var parallel, serial [][]test
	for _, group := range []bool{false, true} {
		var these []test
		for _, t := range due {
			if t.Serial == group {
				these = append(these, t)
			}
		}
		batches := slices.Collect(slices.Chunk(these, o.batch))
		if group {
			serial = batches
		} else {
			parallel = batches
		}
	}
	work := make(chan []test)
	var wg sync.WaitGroup
	errs := make([]error, o.parallel)
	for i := range errs {
		wg.Go(func() {
			for batch := range work {
				errs[i] = errors.Join(errs[i], runBatch(ctx, o, kubeconfig, fmt.Sprint("batch", i), batch, have))
			}
		})
	}
	over := func() bool { return ctx.Err() != nil || o.limit > 0 && time.Since(began) > o.limit }
	for _, batch := range parallel {
		if over() {
			break
		}
		work <- batch
	}
	close(work)
	wg.Wait()
	for _, batch := range serial {
		if over() {
			break
		}
		errs = append(errs, runBatch(ctx, o, kubeconfig, "serial", batch, have))
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// runBatch runs tests in one process and records what came of them.
func runBatch(ctx context.Context, o options, kubeconfig, name string, batch []test, have *results) error {
	var focus []string
	for _, t := range batch {
		focus = append(focus, regexp.QuoteMeta(t.Name))
	}
	dir, err := os.MkdirTemp(o.work, name+"-")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "report.json")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // what matters is in the report
	cmd := exec.CommandContext(ctx, filepath.Join(o.suite, "e2e.test"),
		"--kubeconfig="+kubeconfig, "--provider=skeleton", "--num-nodes=1",
		"--ginkgo.focus=("+strings.Join(focus, "|")+")$", "--ginkgo.silence-skips", "--ginkgo.no-color",
		"--ginkgo.json-report="+file, "--ginkgo.timeout=2h", "--ginkgo.poll-progress-after=10m",
		"--delete-namespace-on-failure=true", "--dump-logs-on-failure=false")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	ran := cmd.Run()
	reports, err := readReport(file)
	if err != nil {
		return fmt.Errorf("%s: %w (see %s)", name, errors.Join(ran, err), log.Name())
	}
	return have.record(o.results, batch, reports, ctx.Err() != nil, filepath.Base(dir))
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
