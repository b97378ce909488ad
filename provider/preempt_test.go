package provider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

// fullWorld is a world with room for four processors and three pods that have one
// each, of which one is critical.
func fullWorld(t *testing.T) *world {
	w := newWorld(t)
	w.killAgent()
	w.capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")}
	w.startAgent()
	synctest.Wait()
	w.create(asking("web1", 1, "1", nil))
	w.create(asking("web2", 2, "1", nil))
	w.create(asking("dns", 3, "1", new(int32(2_000_000_000))))
	settle(time.Second)
	w.mustBe("web1 Running, web2 Running, dns Running")
	return w
}

func asking(name string, n int, cpu string, priority *int32) *corev1.Pod {
	return testPod(func(p *corev1.Pod) {
		p.Name, p.UID, p.Spec.Priority = name, types.UID(fmt.Sprintf("%d%s", n, testUID[1:])), priority
		p.Status.QOSClass = corev1.PodQOSBurstable
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	})
}

func proxy(cpu string) *corev1.Pod { return asking("proxy", 7, cpu, new(int32(2_000_001_000))) }

// zoneOf is the name of the zone of the nth pod.
func zoneOf(n int) string { return translate.ZoneName(fmt.Sprintf("%d%s", n, testUID[1:])) }

// mustBe compares the phases that the API server has.
func (w *world) mustBe(want string) {
	w.t.Helper()
	var got []string
	for _, item := range strings.Split(want, ", ") {
		name, _, _ := strings.Cut(item, " ")
		p, err := w.api.get("default", name)
		if err != nil {
			w.t.Fatal(err)
		}
		text := name + " " + string(p.Status.Phase)
		if p.Status.Reason != "" {
			text += " " + p.Status.Reason
		}
		got = append(got, text)
	}
	if g := strings.Join(got, ", "); g != want {
		w.t.Errorf("the pods are %s, want %s", g, want)
	}
}

// TestPreemption lets a critical pod come to a full node: one pod goes for it,
// and it does not start before that one's zone is down.
func TestPreemption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		w.host.behave(func(container string, attempt int) behaviour { return behaviour{stopAfter: 5 * time.Second} })
		w.create(asking("web4", 4, "1", nil))
		settle(time.Second)
		w.create(proxy("1"))
		settle(4 * time.Second)
		w.mustBe("web1 Running, web2 Running, dns Running, web4 Running, proxy Pending")
		p, err := w.api.get("default", "proxy")
		if err != nil {
			t.Fatal(err)
		}
		if s := p.Status; s.StartTime != nil || s.ContainerStatuses[0].State.Waiting == nil || s.ContainerStatuses[0].State.Waiting.Reason != "Preempting" ||
			!strings.Contains(s.ContainerStatuses[0].State.Waiting.Message, "cpu, requested: 1000, used: 4000, capacity: 4000") {
			t.Errorf("it waits as %+v", s)
		}
		w.create(asking("late", 8, "1", nil)) // which must not take the room
		settle(5 * time.Second)
		w.mustBe("late Failed OutOfcpu, dns Running, proxy Running")
		gone := 0
		for i, name := range map[int]string{1: "web1", 2: "web2", 4: "web4"} {
			p, err := w.api.get("default", name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Status.Phase == corev1.PodRunning {
				continue
			}
			gone++
			s := p.Status
			if s.Phase != corev1.PodFailed || s.Reason != "Preempting" || s.Message != "Preempted in order to admit critical pod" {
				t.Errorf("status %s, %s: %s", s.Phase, s.Reason, s.Message)
			}
			if !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "TerminationByKubelet" &&
					c.Message == "Pod was preempted by Kubelet to accommodate a critical pod."
			}) {
				t.Errorf("conditions %+v", s.Conditions)
			}
			if active(w.host.state(zoneOf(i))) {
				t.Errorf("its zone is %s", w.host.state(zoneOf(i)))
			}
			if e := s.ContainerStatuses[0].State.Terminated; e == nil || e.ExitCode != 143 {
				t.Errorf("it was not asked to stop: %+v", s.ContainerStatuses[0].State)
			}
		}
		if gone != 1 {
			t.Errorf("%d pods went, want 1", gone)
		}
		if !w.events.has("Preempting: Preempted in order to admit critical pod") {
			t.Errorf("events %v", w.events.reasons)
		}
	})
}

// TestPreemptionForNothing refuses critical pods that no eviction would help:
// all others run on.
func TestPreemptionForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		const stay = "web1 Running, web2 Running, dns Running, "
		w.create(proxy("3500m")) // 2 could be had, and 1 is free
		settle(time.Minute)
		w.mustBe(stay + "proxy Failed OutOfcpu")
		w.create(asking("modest", 5, "2", new(int32(1_999_999_999)))) // not critical
		settle(time.Minute)
		w.mustBe(stay + "modest Failed OutOfcpu")
		holds := func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}
		edge := asking("edge", 6, "1", nil)
		holds(edge)
		w.create(edge)
		port := asking("port", 8, "1", new(int32(2_000_000_000)))
		holds(port)
		w.create(port)
		settle(time.Minute)
		w.mustBe(stay + "edge Running, port Failed NodePorts")
		odd := asking("odd", 9, "1", new(int32(2_000_000_000)))
		odd.Spec.HostIPC = true
		w.create(odd)
		settle(time.Minute)
		w.mustBe(stay + "edge Running, odd Failed UnsupportedByNode")
	})
}

// TestPreemptionOfTwo kills the agent after the first of two evictions is on
// disk, and again while zones hang: the same two go, no third, and the critical
// pod does not start before both zones are down.
func TestPreemptionOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		w.create(asking("web4", 4, "900m", nil))
		settle(time.Second)
		w.host.failBy(func(command string) error {
			if command == "halt" {
				return errors.New("unable to unmount")
			}
			return nil
		})
		record := filepath.Join(w.data, "pods", fmt.Sprintf("4%s", testUID[1:]))
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		move(record, record+".away")
		w.create(proxy("2"))
		settle(time.Second)
		w.mustBe("dns Running, web2 Running, web4 Running, proxy Pending, web1 Failed Preempting")
		w.killAgent()
		move(record+".away", record)
		for range 3 {
			w.startAgent()
			w.relist()
			settle(10 * time.Second)
			w.mustBe("dns Running, web2 Running, proxy Pending, web1 Failed Preempting, web4 Failed Preempting")
			w.killAgent()
		}
		w.startAgent()
		w.relist()
		synctest.Wait()
		if s := w.host.state(zoneOf(7)); s != zones.Absent {
			t.Errorf("the critical pod's zone is %s while others hang", s)
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		w.mustBe("dns Running, web2 Running, proxy Running, web1 Failed Preempting, web4 Failed Preempting")
	})
}

// TestPreemptionIsWithdrawn deletes the critical pod while it waits, and in
// another round what it waits for.
func TestPreemptionIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: 10 * time.Second} })
		going := w.create(asking("web4", 4, "1", nil))
		settle(time.Second)
		w.delete(going, 30)
		pod := w.create(proxy("1")) // what web4 has is enough, and it goes anyway
		settle(5 * time.Second)
		w.mustBe("web1 Running, web2 Running, dns Running, proxy Pending")
		w.delete(pod, 30)
		settle(time.Second)
		if _, err := w.api.get("default", "proxy"); err == nil {
			t.Error("a pod that waited for room is not deleted")
		}
		pod = proxy("1")
		pod.UID = "8" + pod.UID[1:]
		w.create(pod)
		settle(time.Minute)
		w.mustBe("web1 Running, web2 Running, dns Running, proxy Running")
	})
}

// TestTwoPreemptions lets two critical pods come at once: each gets its room.
func TestTwoPreemptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		w.create(asking("web4", 4, "1", nil))
		settle(time.Second)
		w.create(proxy("1"))
		w.create(asking("store", 8, "2", new(int32(2_000_000_000))))
		settle(time.Minute)
		w.mustBe("dns Running, proxy Running, store Running, web1 Failed Preempting, web2 Failed Preempting, web4 Failed Preempting")
	})
}
