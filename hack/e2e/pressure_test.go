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
	h, err := bed.AddHost(t.Context(), node, testbed.HostOptions{Memory: "512M"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", node) })
	t.Cleanup(func() { h.StopAgent() })
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
	disrupted := false
	for _, c := range p.Status.Conditions {
		disrupted = disrupted || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet
	}
	if !disrupted {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	err = bed.Eventually(t.Context(), time.Minute, "the node's condition", func(ctx context.Context) error {
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
