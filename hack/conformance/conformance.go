// Conformance runs Kubernetes' own end-to-end tests against a cluster whose only
// node is a simulated illumos host, and writes what came of each to a page.
// hack/conformance.sh builds what it needs and starts it in a lab.
//
// The count is honest: the page lists every test of the scope, also those that
// were not run, and nothing is skipped because it is known to fail. Results are
// kept in a file after every batch, so a run that was cut short goes on where
// it was.
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

	"reddwarf.io/reddwarf/hack/testbed"
)

// node is the name of the host under test.
const node = "conformance1"

// taint keeps pods that know nothing of us away from our nodes. The tests'
// pods know nothing of us.
const taint = "virtual-kubelet.io/provider"

type options struct {
	suite   string // directory with e2e.test, agnhost and nnp
	results string // file
	page    string // file
	work    string // directory for reports and logs

	focus    *regexp.Regexp
	again    bool
	parallel int
	batch    int
	limit    time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err) //nolint:errcheck // nowhere else to say it
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := options{}
	focus := flag.String("focus", "", "run only tests whose name matches this `regexp`; all are counted")
	flag.StringVar(&o.suite, "suite", "", "`directory` with e2e.test, agnhost and nnp")
	flag.StringVar(&o.results, "results", "", "`file` that keeps results between runs")
	flag.StringVar(&o.page, "page", "docs/conformance.md", "`file` to write")
	flag.StringVar(&o.work, "work", "", "`directory` for reports and logs")
	flag.BoolVar(&o.again, "again", false, "run tests that have a result, too")
	flag.IntVar(&o.parallel, "parallel", 4, "batches at the same time")
	flag.IntVar(&o.batch, "batch", 8, "tests in a batch")
	flag.DurationVar(&o.limit, "limit", 0, "begin no batch after this time; 0 means no limit")
	flag.Parse()
	var err error
	if o.focus, err = regexp.Compile(*focus); err != nil {
		return err
	}
	if o.suite == "" || o.results == "" || o.work == "" {
		return errors.New("--suite, --results and --work are needed: run this through hack/conformance.sh")
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	tests, err := list(ctx, o)
	if err != nil {
		return err
	}
	have, err := load(o.results)
	if err != nil {
		return err
	}
	var due []test
	for _, t := range tests {
		if _, done := have.Tests[t.Name]; o.focus.MatchString(t.Name) && (o.again || !done) {
			due = append(due, t)
		}
	}
	fmt.Printf("%d tests in scope, %d to run now\n", len(tests), len(due))
	if len(due) > 0 {
		err = runAll(ctx, o, due, have)
	}
	return errors.Join(err, writePage(o.page, tests, have)) // also of a run that was cut short
}

// runAll starts the cluster and runs tests on it.
func runAll(ctx context.Context, o options, due []test, have *results) (err error) {
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout, RegistryFlags: images(o.suite)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	_, err = bed.AddHost(ctx, node, testbed.HostOptions{
		CPUs: 8, Memory: "16G",
		AgentFlags: []string{
			"--registry-mirror", "docker.io=" + testbed.Registry,
			"--registry-mirror", "registry.k8s.io=" + testbed.Registry,
		},
	})
	if err != nil {
		return err
	}
	if _, err := bed.Kubectl(ctx, "taint", "node", node, taint+"-"); err != nil {
		return err
	}
	return runBatches(ctx, o, bed.Kubeconfig(), due, have)
}

// images serve what the tests want under the names that version v1.37 of them
// has. Other images they want do not exist here, and tests of those fail.
func images(suite string) []string {
	flags := []string{"--agnhost", filepath.Join(suite, "agnhost"), "--nnp", filepath.Join(suite, "nnp")}
	for _, tag := range []string{
		"e2e-test-images/agnhost:2.66.1=agnhost",
		"e2e-test-images/agnhost:2.55=agnhost",
		"e2e-test-images/busybox:1.37.0-2=busybox",
		"e2e-test-images/nonewprivs:1.4=nonewprivs",
		"e2e-test-images/nonroot:1.5=nonroot",
		"pause:3.10.2=idle",
		"library/busybox:latest=busybox",
	} {
		flags = append(flags, "--tag", tag)
	}
	return flags
}
