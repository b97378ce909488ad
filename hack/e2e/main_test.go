// Package e2e tests a whole installation through its public surfaces only:
// kubectl and the API on one side, the commands of the simulated illumos host
// on the other. hack/e2e.sh runs it in a lab.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

// bed and host are the installation that all tests share: starting one for
// each would cost a minute each.
var (
	bed  *testbed.Bed
	host *testbed.Host
)

func TestMain(m *testing.M) {
	if code, ok := socketProgram(); ok {
		os.Exit(code)
	}
	if os.Getenv("REDDWARF_BED") == "" {
		fmt.Println("hack/e2e: not in a lab, so nothing is tested here; run hack/e2e.sh")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	bed, err = testbed.Start(ctx, testbed.Options{
		Progress: os.Stdout, RegistryFlags: hostImage(),
		FeatureGates: "ContainerStopSignals=true", // or no pod can name a stop signal
	})
	if err != nil {
		fmt.Println("e2e:", err)
		return 1
	}
	defer func() {
		if err := bed.Close(); err != nil {
			fmt.Println("e2e: close:", err)
		}
	}()
	host, err = bed.AddHost(ctx, "e2e1", testbed.HostOptions{AgentFlags: []string{
		"--host-pod-namespaces", hostNamespace, "--host-path", sharedDir, "--host-path", fixedDir + ":ro",
	}})
	if err != nil {
		fmt.Println("e2e:", err)
		return 1
	}
	if selected("TestTokenRotation") {
		if err := startAging(ctx); err != nil {
			fmt.Println("e2e:", err)
			return 1
		}
	}
	return m.Run()
}

// hostImage has the registry serve the Helm chart's image. The simulated host
// runs Linux' programs where illumos would run its own.
func hostImage() []string {
	bin := os.Getenv("REDDWARF_BIN")
	return []string{"--clusterip", filepath.Join(bin, "clusterip"), "--reddwarf", filepath.Join(bin, "reddwarf"), "--tag", "reddwarf/host:dev=host",
		"--tag", "reddwarf/nonroot:1=nonroot"}
}

// onNode is what a pod needs to be placed on an illumos host.
const onNode = `
  tolerations: [{key: virtual-kubelet.io/provider, operator: Equal, value: reddwarf, effect: NoSchedule}]
  nodeSelector: {kubernetes.io/os: illumos}`

// pod returns the manifest of a pod with one container, given as YAML of the
// container's fields after its name and image.
func pod(name, image, spec, container string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:%s\n%s  containers:\n  - name: main\n    image: %s\n%s",
		name, onNode, indent(spec, "  "), image, indent(container, "    "))
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		b.WriteString(by + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

func image(name string) string { return testbed.Registry + "/" + name }

var (
	webImage     = image("reddwarf/web:1")
	busyboxImage = image("busybox:1")
)

// apply creates what manifest says and removes it after the test.
func apply(t *testing.T, manifest string) {
	t.Helper()
	if _, err := bed.KubectlIn(t.Context(), manifest, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := bed.KubectlIn(ctx, manifest, "delete", "--ignore-not-found", "--wait=true", "-f", "-"); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := bed.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kubectlCode runs kubectl and returns its output and exit code.
func kubectlCode(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	out, err := bed.KubectlIn(t.Context(), stdin, args...)
	if err == nil {
		return out, 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out, exit.ExitCode()
}

func onHost(t *testing.T, args ...string) string {
	t.Helper()
	out, err := host.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func getPod(ctx context.Context, name string) (*corev1.Pod, error) {
	out, err := bed.Kubectl(ctx, "get", "pod", name, "-o", "json")
	if err != nil {
		return nil, err
	}
	var p corev1.Pod
	return &p, json.Unmarshal([]byte(out), &p)
}

func getPods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	out, err := bed.Kubectl(ctx, "get", "pods", "-l", selector, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list corev1.PodList
	return list.Items, json.Unmarshal([]byte(out), &list)
}

// waitPod waits until ok is satisfied with the pod, and returns it.
func waitPod(t *testing.T, name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	err := bed.Eventually(t.Context(), time.Minute, what, func(ctx context.Context) error {
		p, err := getPod(ctx, name)
		if err != nil {
			return err
		}
		last = p
		if !ok(p) {
			return fmt.Errorf("pod %s is %s: %s", name, p.Status.Phase, describe(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func describe(p *corev1.Pod) string {
	text, err := json.Marshal(p.Status)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.Status.Phase == corev1.PodRunning
		}
	}
	return false
}

// waitReady waits for count pods of selector to be ready.
func waitReady(t *testing.T, selector string, count int) []corev1.Pod {
	t.Helper()
	var last []corev1.Pod
	err := bed.Eventually(t.Context(), 2*time.Minute, fmt.Sprintf("%d ready pods of %s", count, selector), func(ctx context.Context) error {
		pods, err := getPods(ctx, selector)
		if err != nil {
			return err
		}
		n := 0
		for i := range pods {
			if ready(&pods[i]) {
				n++
			}
		}
		if n != count || len(pods) != count {
			return fmt.Errorf("%d of %d pods are ready", n, len(pods))
		}
		last = pods
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, kubectl(t, "get", "pods,events", "-o", "wide"))
	}
	return last
}

// waitGone waits until the host holds nothing of the pod with that UID.
func waitGone(t *testing.T, p *corev1.Pod) {
	t.Helper()
	uid := string(p.UID)
	err := bed.Eventually(t.Context(), time.Minute, "nothing of pod "+p.Name+" on the host", func(ctx context.Context) error { return left(ctx, uid) })
	if err != nil {
		t.Error(err)
	}
}

// left says what the host still holds of the pod with that UID.
func left(ctx context.Context, uid string) error {
	for _, list := range [][]string{
		{"zoneadm", "list", "-cp"},
		{"zfs", "list", "-H", "-o", "name", "-t", "all"},
		{"ls", "/etc/zones", "/var/lib/reddwarf/pods", "/var/log/pods"},
	} {
		out, err := host.Run(ctx, list...)
		if err != nil {
			return err
		}
		if strings.Contains(out, uid) {
			return fmt.Errorf("%s still shows %s", strings.Join(list, " "), uid)
		}
	}
	return nil
}

// vnics are the links of pods on the host.
func vnics(t *testing.T) []string {
	t.Helper()
	var pods []string
	for line := range strings.Lines(onHost(t, "dladm", "show-vnic", "-p", "-o", "link")) {
		if name := strings.TrimSpace(line); name != "rdwgw0" && name != "" {
			pods = append(pods, name)
		}
	}
	return pods
}

func validIP(s string) bool { return net.ParseIP(s) != nil }
