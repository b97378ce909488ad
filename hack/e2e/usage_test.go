package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// podStats asks the node, through the API server as kubectl top's source does.
func podStats(name string) (*statsv1alpha1.PodStats, error) {
	out, err := bed.Kubectl(context.Background(), "get", "--raw", "/api/v1/nodes/e2e1/proxy/stats/summary")
	if err != nil {
		return nil, err
	}
	var s statsv1alpha1.Summary
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, err
	}
	if s.Node.NodeName != "e2e1" || s.Node.CPU == nil || s.Node.Memory == nil || *s.Node.Memory.AvailableBytes == 0 {
		return nil, fmt.Errorf("node: %+v", s.Node)
	}
	for i := range s.Pods {
		if s.Pods[i].PodRef.Name == name {
			return &s.Pods[i], nil
		}
	}
	return nil, fmt.Errorf("no statistics of pod %s", name)
}

// TestUsage: a container that works is told from one that does not.
func TestUsage(t *testing.T) {
	apply(t, `apiVersion: v1
kind: Pod
metadata: {name: usage}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]
  containers:
  - {name: busy, image: `+busyboxImage+`, command: ["sh", "-c", "echo hello; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 3600"]}
  - {name: idle, image: `+busyboxImage+`, command: ["sleep", "3600"]}
`)
	waitPod(t, "usage", "a ready pod", ready)
	err := bed.Eventually(t.Context(), 2*time.Minute, "usage of the busy container", func(context.Context) error {
		p, err := podStats("usage")
		if err != nil {
			return err
		}
		used := map[string]time.Duration{}
		for _, c := range p.Containers {
			used[c.Name] = time.Duration(*c.CPU.UsageCoreNanoSeconds)
			if *c.Memory.WorkingSetBytes == 0 || c.Rootfs == nil || c.Logs == nil {
				return fmt.Errorf("container %s: %+v", c.Name, c)
			}
		}
		whole := time.Duration(*p.CPU.UsageCoreNanoSeconds)
		switch {
		case len(used) != 2 || used["busy"] < 100*time.Millisecond || used["idle"] > used["busy"]/2:
			return fmt.Errorf("containers used %v", used)
		case whole < used["busy"]:
			return fmt.Errorf("the pod used %v, its containers %v", whole, used)
		case p.Network == nil || p.EphemeralStorage == nil || *p.Memory.WorkingSetBytes == 0:
			return fmt.Errorf("pod: %+v", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text := kubectl(t, "get", "--raw", "/api/v1/nodes/e2e1/proxy/metrics/resource")
	for _, want := range []string{
		`container_cpu_usage_seconds_total{container="busy",pod="usage",namespace="default"} `,
		`pod_memory_working_set_bytes{namespace="default",pod="usage"} `, "node_cpu_usage_seconds_total ", "resource_scrape_error 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %q:\n%s", want, text)
		}
	}
}

// TestMemoryLimit: a container that wants more memory than its pod may have
// says why it ended.
func TestMemoryLimit(t *testing.T) {
	apply(t, pod("hungry", busyboxImage, "restartPolicy: Never\nterminationGracePeriodSeconds: 1", `command: ["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]
resources: {limits: {cpu: 500m, memory: 64Mi}}`))
	p := waitPod(t, "hungry", "a failed pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != "MemoryLimitReached" || !strings.Contains(end.Message, "64 MiB") {
		t.Errorf("end: %+v", end)
	}
}

// TestStorageLimit: a pod that writes more than it may is evicted.
func TestStorageLimit(t *testing.T) {
	apply(t, pod("writer", busyboxImage, "restartPolicy: Never\nterminationGracePeriodSeconds: 600", `command: ["sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=24 && exec sleep 3600"]
resources: {limits: {ephemeral-storage: 16Mi}}`))
	p := waitPod(t, "writer", "an evicted pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "Evicted" || !strings.Contains(p.Status.Message, "exceeds the total limit of containers 16Mi") {
		t.Errorf("status: %s %q", p.Status.Reason, p.Status.Message)
	}
}
