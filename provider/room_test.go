package provider

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/translate"
)

// TestNoRoom places more pods on a node than it has processors for, all at once:
// as many as there is room for run, the others fail with a kubelet's reason, and
// a later one has the room of one that has gone.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.killAgent()
		w.capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")}
		w.startAgent()
		synctest.Wait()
		shape := func(i int) *corev1.Pod {
			return testPod(func(p *corev1.Pod) {
				p.Name, p.UID = fmt.Sprintf("web%d", i), types.UID(fmt.Sprintf("%d%s", i, testUID[1:]))
				p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}
			})
		}
		var group sync.WaitGroup
		for i := range 5 {
			pod := w.api.put(shape(i))
			group.Go(func() {
				if err := w.p.CreatePod(t.Context(), pod); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		settle(10 * time.Second)
		var runs []*corev1.Pod
		for i := range 5 {
			p, err := w.api.get("default", fmt.Sprintf("web%d", i))
			if err != nil {
				t.Fatal(err)
			}
			s := p.Status
			switch s.Phase {
			case corev1.PodRunning:
				runs = append(runs, p)
			case corev1.PodFailed:
				if s.Reason != "OutOfcpu" || !strings.Contains(s.Message, "requested: 1500, used: 3000, capacity: 4000") || len(s.ContainerStatuses) > 0 {
					t.Errorf("status is %+v", s)
				}
			default:
				t.Errorf("pod %s is %s", p.Name, s.Phase)
			}
		}
		if len(runs) != 2 {
			t.Fatalf("%d pods run, want 2", len(runs))
		}
		w.killAgent() // a new agent goes on with what the old one let in
		w.startAgent()
		settle(time.Minute)
		w.delete(runs[0], 1)
		settle(time.Minute)
		w.create(shape(7))
		settle(10 * time.Second)
		for _, name := range []string{runs[1].Name, "web7"} {
			if p, err := w.api.get("default", name); err != nil || p.Status.Phase != corev1.PodRunning {
				t.Errorf("pod %s is %+v, %v", name, p, err)
			}
		}
	})
}

// TestDeletedWhilePending deletes a pod whose image cannot be had: its last status
// says that it has failed, and that nothing is known of its container.
func TestDeletedWhilePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "missing:1" }))
		settle(time.Minute)
		if s := w.status(); s.Phase != corev1.PodPending {
			t.Fatalf("the pod is %s", s.Phase)
		}
		w.delete(pod, 30)
		settle(time.Minute)
		w.mustBeGone()
		w.api.mu.Lock()
		defer w.api.mu.Unlock()
		last := w.api.statuses[len(w.api.statuses)-1]
		if last.Phase != corev1.PodFailed || len(last.ContainerStatuses) != 1 {
			t.Fatalf("the last status is %+v", last)
		}
		if end := last.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != translate.ReasonStatusUnknown || end.ExitCode != 137 {
			t.Errorf("the container is %+v", last.ContainerStatuses[0].State)
		}
	})
}
