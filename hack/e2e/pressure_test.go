package e2e

import (
	"context"
	"fmt"
	"strconv"
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

// TestDiskPressure lets one pod fill nearly all the space that the agent may have: it
// goes for the sake of the node, with what it has written and not with what it has
// said, and the other one stays.
func TestDiskPressure(t *testing.T) {
	const node = "brimful"
	h := ownHost(t, node, testbed.HostOptions{PoolSize: "512M"})
	zfs := func(args ...string) string {
		t.Helper()
		out, err := h.Run(t.Context(), append([]string{"zfs"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	zfs("set", "quota=256M", "rpool/reddwarf")
	spec := "terminationGracePeriodSeconds: 1\nnodeName: " + node
	apply(t, pod("frugal", webImage, spec, ""))
	waitPod(t, "frugal", "a ready pod", ready)
	free, err := strconv.Atoi(zfs("get", "-Hp", "-o", "value", "available", "rpool/reddwarf"))
	if err != nil {
		t.Fatal(err)
	}
	// Noise, which no file system makes smaller, and less of it left than a tenth.
	fill := fmt.Sprintf("echo this is much; head -c 100m /dev/urandom >/data/file; head -c %dm /dev/urandom >/file; sleep 1000", free>>20-115)
	apply(t, pod("filler", busyboxImage, spec+"\nvolumes: [{name: data, emptyDir: {}}]",
		"command: [\"sh\", \"-c\", \""+fill+"\"]\nvolumeMounts: [{name: data, mountPath: /data}]"))
	p := waitPod(t, "filler", "an evicted pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: ") ||
		!strings.Contains(s.Message, "Container main was using ") {
		t.Errorf("it is %s: %s", s.Reason, s.Message)
	}
	mustBeDisrupted(t, p)
	err = bed.Eventually(t.Context(), time.Minute, "the space", func(ctx context.Context) error {
		dataset := "rpool/reddwarf/pods/" + string(p.UID)
		out, err := h.Run(ctx, "zfs", "list", "-H", "-o", "name", "-t", "all", "-r", dataset)
		if err == nil && out != dataset+"\n" {
			err = fmt.Errorf("there is still %q", out)
		}
		if err != nil {
			return err
		}
		out, err = h.Run(ctx, "zfs", "get", "-Hp", "-o", "value", "used", dataset)
		if n, perr := strconv.ParseInt(strings.TrimSpace(out), 10, 64); err == nil && (perr != nil || n > 10<<20) {
			err = fmt.Errorf("it still uses %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if out := kubectl(t, "logs", "filler"); out != "this is much\n" {
		t.Errorf("its log is %q", out)
	}
	if out := kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="DiskPressure")].status}`); out != "True" {
		t.Errorf("DiskPressure is %s", out)
	}
	if p := waitPod(t, "frugal", "a ready pod", ready); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the other pod was restarted")
	}
}
