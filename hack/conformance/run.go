package main

import (
	"context"
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

// testLimit ends a test that does not end by itself. The longest one waits for
// a back-off to reach its cap, which takes 27 minutes by design.
const testLimit = 45 * time.Minute

// runTests runs tests in parallel, and those that must be alone at the end. It
// begins with the slow ones: at the end nothing would run beside them.
func runTests(ctx context.Context, o options, kubeconfig string, due []test, have *results) error {
	began := time.Now()
	var errs []error
	for _, serial := range []bool{false, true} {
		var these []test
		for _, t := range due {
			if t.Serial == serial {
				these = append(these, t)
			}
		}
		slow, fast := split(these)
		these = append(slow, fast...)
		workers := o.parallel
		if serial {
			workers = 1
		}
		over := func() bool { return ctx.Err() != nil || o.limit > 0 && time.Since(began) > o.limit }
		errs = append(errs, inParallel(workers, slices.Collect(slices.Chunk(these, o.batch)), over, func(batch []test) error {
			return runBatch(ctx, o, kubeconfig, batch, have)
		}))
	}
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// split separates the tests that the suite calls slow from the others.
func split(tests []test) (slow, fast []test) {
	for _, t := range tests {
		if strings.Contains(t.Name, "[Slow]") {
			slow = append(slow, t)
		} else {
			fast = append(fast, t)
		}
	}
	return slow, fast
}

// inParallel calls do for each batch, begins none when it is over, and waits for
// those that have begun.
func inParallel(workers int, batches [][]test, over func() bool, do func([]test) error) error {
	work := make(chan []test)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for batch := range work {
				errs[i] = errors.Join(errs[i], do(batch))
			}
		})
	}
	for _, batch := range batches {
		if over() {
			break
		}
		work <- batch
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}

// runBatch runs tests in one process and records what came of them.
func runBatch(ctx context.Context, o options, kubeconfig string, batch []test, have *results) error {
	var focus []string
	for _, t := range batch {
		focus = append(focus, regexp.QuoteMeta(t.Name))
	}
	dir, err := os.MkdirTemp(o.work, time.Now().UTC().Format("150405-"))
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
		"--ginkgo.json-report="+file, "--ginkgo.timeout="+(testLimit*time.Duration(len(batch))).String(), "--ginkgo.poll-progress-after=10m",
		"--delete-namespace-on-failure=true", "--dump-logs-on-failure=false")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	ran := cmd.Run()
	if ctx.Err() != nil {
		ran = context.Cause(ctx)
	}
	reports, err := readReport(file)
	if err != nil {
		return fmt.Errorf("%s: %w (see %s)", batch[0].Name, errors.Join(ran, err), log.Name())
	}
	return have.record(o, batch, reports, ctx.Err() != nil, filepath.Base(dir))
}
