package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

// TestResize gives running pods other resources, each its own way. API servers
// allow that only on nodes that are labelled as Linux ones, which an illumos host
// is not unless its operator says so.
func TestResize(t *testing.T) {
	h, err := bed.AddHost(t.Context(), "resizable", testbed.HostOptions{AgentFlags: []string{"--node-labels", "kubernetes.io/os=linux"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", h.Name) }) //nolint:errcheck // the lab goes anyway
	t.Cleanup(func() { h.StopAgent() })                                               //nolint:errcheck // as above
	for _, tt := range []struct{ name, spec, container, patch string }{
		{
			"of-container", "",
			"resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 128Mi}}",
			`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"300m"},"limits":{"cpu":"500m","memory":"256Mi"}}}]}}`,
		},
		{
			"of-pod", "resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 128Mi}}\n", "",
			`{"spec":{"resources":{"requests":{"cpu":"300m"},"limits":{"cpu":"500m","memory":"256Mi"}}}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			manifest := pod(tt.name, busyboxImage, "terminationGracePeriodSeconds: 1\n"+tt.spec, "command: [\"sleep\", \"3600\"]\n"+tt.container)
			apply(t, strings.Replace(manifest, "kubernetes.io/os: illumos", "kubernetes.io/hostname: "+h.Name, 1))
			before := waitPod(t, tt.name, "a ready pod", ready)
			kubectl(t, "patch", "pod", tt.name, "--subresource", "resize", "-p", tt.patch)
			after := waitPod(t, tt.name, "the new limits in the status", func(p *corev1.Pod) bool {
				for _, c := range p.Status.Conditions {
					if c.Type == corev1.PodResizeInProgress || c.Type == corev1.PodResizePending {
						return false
					}
				}
				return p.Status.Resources != nil && p.Status.Resources.Limits.Memory().String() == "256Mi"
			})
			if a, b := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || b.RestartCount != 0 {
				t.Errorf("the container was restarted: %+v", b)
			}
			waitEvent(t, tt.name, "ResizeCompleted")
			controls, err := h.Run(t.Context(), "prctl", "-P", "-i", "zone", "rdw-"+string(before.UID))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"zone.cpu-cap privileged 50 ", "zone.cpu-shares privileged 30 ", fmt.Sprintf("zone.max-swap privileged %d ", 256<<20)} {
				if !strings.Contains(controls, want) {
					t.Errorf("the zone lacks %q:\n%s", want, controls)
				}
			}
		})
	}
}
