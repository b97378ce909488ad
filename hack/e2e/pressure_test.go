package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

// TestMemoryPressure lets one pod take nearly all of a small host's memory: it goes
// for the sake of the node, and the other one stays.
func TestMemoryPressure(t *testing.T) {
	const node = "tight"
	ownHost(t, node, testbed.HostOptions{Memory: "512M"})
	spec := "terminationGracePeriodSeconds: 1\nnodeName: " + node
	apply(t, pod("modest", webImage, spec, "resources: {requests: {memory: 100Mi}}"))
	waitPod(t, "modest", "a ready pod", ready)
	// tail keeps the line that has not ended.
	apply(t, pod("greedy", busyboxImage, spec, `command: ["sh", "-c", "(head -c 440m /dev/zero; sleep 1000) | tail"]`))
	p := waitPod(t, "greedy", "an evicted pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: memory. Threshold quantity: 100Mi, available: ") ||
		!strings.Contains(s.Message, "Container main was using ") {
		t.Errorf("it is %s: %s", s.Reason, s.Message)
	}
	mustBeDisrupted(t, p)
	err := bed.Eventually(t.Context(), time.Minute, "the node's condition", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="MemoryPressure")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("MemoryPressure is %s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if p := waitPod(t, "modest", "a ready pod", ready); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the other pod was restarted")
	}
}

// ownHost makes a host for one test.
func ownHost(t *testing.T, node string, o testbed.HostOptions) *testbed.Host {
	t.Helper()
	h, err := bed.AddHost(t.Context(), node, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", node) })
	t.Cleanup(func() { h.StopAgent() })
	return h
}

func mustBeDisrupted(t *testing.T, p *corev1.Pod) {
	t.Helper()
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet {
			return
		}
	}
	t.Errorf("conditions %+v", p.Status.Conditions)
}

// TestPreemption lets a critical pod come to a host whose processors others have
// asked for: one of them goes, and not more.
func TestPreemption(t *testing.T) {
	const node = "full"
	ownHost(t, node, testbed.HostOptions{CPUs: 4})
	spec := "terminationGracePeriodSeconds: 1\nnodeName: " + node
	for name, cpu := range map[string]string{"full-1": "1", "full-2": "2500m"} {
		apply(t, pod(name, webImage, spec, "resources: {requests: {cpu: "+cpu+"}}"))
	}
	for _, name := range []string{"full-1", "full-2"} {
		waitPod(t, name, "a ready pod", ready)
	}
	const asks = "resources: {requests: {cpu: \"1\"}}"
	apply(t, pod("full-ordinary", webImage, spec, asks))
	refused := func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "OutOfcpu" }
	waitPod(t, "full-ordinary", "a refused pod", refused)
	apply(t, pod("full-critical", webImage, spec+"\npriorityClassName: system-cluster-critical", asks))
	waitPod(t, "full-critical", "a ready pod", ready)
	p := waitPod(t, "full-1", "a preempted pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status; s.Reason != "Preempting" || s.Message != "Preempted in order to admit critical pod" {
		t.Errorf("it is %s: %s", s.Reason, s.Message)
	}
	mustBeDisrupted(t, p)
	if p := waitPod(t, "full-2", "a ready pod", ready); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the other pod was restarted")
	}
	apply(t, pod("full-immodest", webImage, spec+"\npriorityClassName: system-node-critical", "resources: {requests: {cpu: \"4\"}}"))
	waitPod(t, "full-immodest", "a refused pod", refused)
	waitPod(t, "full-2", "a ready pod", ready)
}
