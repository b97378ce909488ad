package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

// wantTwo are the tests that refuse a cluster of one node.
var wantTwo = regexp.MustCompile(`Daemon set should rollback without unnecessary restarts`)

// taint keeps pods that know nothing of us away from our nodes. The tests'
// pods know nothing of us.
const taint = "virtual-kubelet.io/provider"

// runAll starts the cluster, unless there is one, and runs tests on it.
func runAll(ctx context.Context, o options, due []test, have *results) (err error) {
	if o.cluster != "" {
		return runTests(ctx, o, o.cluster, due, have)
	}
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout, RegistryFlags: images(o.suite)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	var nodes []func() // each stops what runs for one
	defer func() {
		for _, stop := range nodes {
			stop()
		}
	}()
	var errs []error
	for n, tests := range byNodes(due) {
		if len(tests) == 0 {
			continue
		}
		for len(nodes) <= n {
			stop, err := addNode(ctx, o, bed, fmt.Sprintf("conformance%d", len(nodes)+1))
			if err != nil {
				return errors.Join(append(errs, err)...)
			}
			nodes = append(nodes, stop)
			if len(nodes) > 1 {
				continue
			}
			if err := bed.StartDNS(ctx, "cluster.local"); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		errs = append(errs, runTests(ctx, o, bed.Kubeconfig(), tests, have))
	}
	return errors.Join(errs...)
}

// byNodes separates the tests for a cluster of one node from those that want two.
func byNodes(due []test) (tests [2][]test) {
	for _, t := range due {
		n := 0
		if wantTwo.MatchString(t.Name) {
			n = 1
		}
		tests[n] = append(tests[n], t)
	}
	return tests
}

// addNode brings up a host with what the tests expect of a node, until stop is
// called.
func addNode(ctx context.Context, o options, bed *testbed.Bed, name string) (stop func(), err error) {
	host, err := bed.AddHost(ctx, name, testbed.HostOptions{
		CPUs: 8, Memory: "16G",
		AgentFlags: []string{
			"--registry-mirror", "docker.io=" + testbed.Registry,
			"--registry-mirror", "registry.k8s.io=" + testbed.Registry,
			// The page says what these are for.
			"--host-path", "/tmp",
			"--allow-privileged",
			"--node-labels", "kubernetes.io/os=linux",
		},
	})
	if err != nil {
		return nil, err
	}
	if _, err := bed.Kubectl(ctx, "taint", "node", name, taint+"-"); err != nil {
		return nil, err
	}
	if err := routePods(ctx, bed, host); err != nil {
		return nil, err
	}
	if err := awaitRegistry(ctx, bed); err != nil {
		return nil, err
	}
	return startServices(ctx, o, bed, host)
}

// startServices runs the controller of Services on the host until stop is
// called. If it ends before, tests of Services say so.
func startServices(ctx context.Context, o options, bed *testbed.Bed, host *testbed.Host) (stop func(), err error) {
	log, err := os.Create(filepath.Join(o.work, host.Name+"-clusterip.log"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, bed.Program("host"), "run", host.Name, "--",
		bed.Program("clusterip"), "--kubeconfig", bed.Kubeconfig(), "--node-name", host.Name, "--uplink", "net0")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, errors.Join(err, log.Close())
	}
	return func() {
		cancel()
		cmd.Wait() //nolint:errcheck // it was told to end
		log.Close()
	}, nil
}

// awaitRegistry waits until the images are there: building them takes a while,
// and some tests take a pull that is tried again for a failure.
func awaitRegistry(ctx context.Context, bed *testbed.Bed) error {
	return bed.Eventually(ctx, 5*time.Minute, "the registry to answer", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+testbed.Registry+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", resp.Status)
		}
		return nil
	})
}

// routePods lets the API server reach the pods, whose HTTP servers many tests
// ask through it. It runs on no node, so nobody else sees to that.
func routePods(ctx context.Context, bed *testbed.Bed, host *testbed.Host) error {
	prefix, err := bed.Kubectl(ctx, "get", "node", host.Name, "-o", "jsonpath={.spec.podCIDR}")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "ip", "route", "replace", prefix, "via", host.IP).CombinedOutput(); err != nil {
		return fmt.Errorf("route to the pods %s: %w: %s", prefix, err, out)
	}
	return nil
}

// images serve what the tests want under the names that version v1.37 of them
// has. Other images they want do not exist here, and tests of those fail.
func images(suite string) []string {
	in := func(name string) string { return filepath.Join(suite, name) }
	flags := []string{"--agnhost", in("agnhost"), "--nnp", in("nnp"), "--sources", in("images"), "--tools", in("tools")}
	for _, tag := range []string{
		"e2e-test-images/agnhost:2.66.1=agnhost",
		"e2e-test-images/agnhost:2.55=agnhost",
		"e2e-test-images/busybox:1.37.0-2=busybox-bash",
		"e2e-test-images/glibc-dns-testing:2.1.1=glibc",
		"e2e-test-images/kitten:1.8=kitten",
		"e2e-test-images/nginx:1.27.0-2=nginx",
		"e2e-test-images/nginx:1.28.0-2=nginx",
		"e2e-test-images/nonewprivs:1.4=nonewprivs",
		"e2e-test-images/nonroot:1.5=nonroot",
		"pause:3.10.2=idle",
		"library/busybox:latest=busybox-bash",
	} {
		flags = append(flags, "--tag", tag)
	}
	return flags
}
