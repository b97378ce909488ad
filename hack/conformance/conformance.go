// Conformance runs Kubernetes' own end-to-end tests against a cluster whose only
// node is a simulated illumos host, and writes what came of each to a page.
// hack/conformance.sh builds what it needs and starts it in a lab.
//
// The count is honest: the page lists every test of the scope, also those that
// were not run, and nothing is skipped because it is known to fail. Results are
// kept in a file after every test, so a run that was cut short goes on where it
// was.
//
// With --sample it runs the tests that a file names and nothing else, keeps no
// result, and fails unless all of them pass.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

type options struct {
	suite   string // directory with e2e.test and the programs of its images
	results string // file
	page    string // file
	work    string // directory for reports and logs
	commit  string // of the agent
	sample  string // file
	cluster string // kubeconfig of a cluster that is there; empty: one in a lab

	focus    *regexp.Regexp
	again    bool
	afresh   bool
	parallel int
	batch    int
	limit    time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	o := options{}
	focus := flag.String("focus", "", "run only tests whose name matches this `regexp`; all are counted")
	flag.StringVar(&o.suite, "suite", "", "`directory` with e2e.test and the programs of its images")
	flag.StringVar(&o.results, "results", "", "`file` that keeps results between runs")
	flag.StringVar(&o.page, "page", "docs/conformance.md", "`file` to write")
	flag.StringVar(&o.work, "work", "", "`directory` for reports and logs")
	flag.StringVar(&o.commit, "commit", "", "`name` of the agent's commit, kept with each result")
	flag.StringVar(&o.sample, "sample", "", "run the tests that this `file` names, and only them; fail unless all pass; keep no result")
	flag.StringVar(&o.cluster, "kubeconfig", "", "run the tests on the cluster of this `file`, which serves their images and has our node only, instead of starting one")
	flag.BoolVar(&o.again, "again", false, "run tests that did not pass, too")
	flag.BoolVar(&o.afresh, "afresh", false, "run all tests, also those that passed")
	flag.IntVar(&o.parallel, "parallel", 4, "processes at the same time")
	flag.IntVar(&o.batch, "batch", 1, "tests for one process")
	flag.DurationVar(&o.limit, "limit", 0, "begin no test after this time; 0 means no limit")
	flag.Parse()
	var err error
	if o.focus, err = regexp.Compile(*focus); err != nil {
		return o, fmt.Errorf("--focus: %w", err)
	}
	if o.suite == "" || o.work == "" || (o.results == "") == (o.sample == "") {
		return o, errors.New("--suite, --work and one of --results and --sample are needed: run this through hack/conformance.sh")
	}
	return o, nil
}

func run(ctx context.Context) error {
	o, err := parse()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	tests, err := list(ctx, o)
	if err != nil {
		return err
	}
	if o.sample != "" {
		return runSample(ctx, o, tests)
	}
	have, err := load(o.results)
	if err != nil {
		return err
	}
	var due []test
	for _, t := range tests {
		r, done := have.Tests[t.Name]
		if o.focus.MatchString(t.Name) && (!done || o.afresh || o.again && r.State != passed) {
			due = append(due, t)
		}
	}
	fmt.Printf("%d tests in scope, %d to run now\n", len(tests), len(due))
	if len(due) > 0 {
		err = runAll(ctx, o, due, have)
	}
	return errors.Join(err, writePage(o.page, tests, have)) // also of a run that was cut short
}

// runSample runs the tests that the sample names.
func runSample(ctx context.Context, o options, tests []test) error {
	due, err := readSample(o.sample, tests)
	if err != nil {
		return err
	}
	fmt.Printf("the sample: %d of %d tests\n", len(due), len(tests))
	have := &results{Tests: map[string]result{}}
	o.results = filepath.Join(o.work, "sample.json")
	return errors.Join(runAll(ctx, o, due, have), have.unlessPassed(due))
}
