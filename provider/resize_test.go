package provider

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/globalzone"
)

// sized gives a container requests and limits alike.
func sized(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

func sizedPod(cpu, memory string, edit ...func(*corev1.Pod)) *corev1.Pod {
	return testPod(append([]func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.Containers[0].Resources = sized(cpu, memory) }}, edit...)...)
}

// resizeTo is kubectl patch --subresource resize, and what virtual-kubelet
// makes of it.
func (w *world) resizeTo(cpu, memory string) {
	w.t.Helper()
	pod, err := w.api.get("default", "web")
	if err != nil {
		w.t.Fatal(err)
	}
	pod.Spec.Containers[0].Resources = sized(cpu, memory)
	pod.Generation++
	if err := w.p.UpdatePod(w.t.Context(), w.api.put(pod)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) limits() zones.Limits {
	w.t.Helper()
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	return w.host.zones[translate.ZoneName(testUID)].limits
}

func (w *world) condition(kind corev1.PodConditionType) *corev1.PodCondition {
	for _, c := range w.status().Conditions {
		if c.Type == kind {
			return &c
		}
	}
	return nil
}

func TestResizeInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(sizedPod("1", "100Mi"))
		settle(5 * time.Second)
		w.mustRun()
		if l := w.limits(); l.CPUCap != 100 || l.Memory.Swap != 100<<20 {
			t.Fatalf("limits at the start: %+v", l)
		}
		began := w.status().ContainerStatuses[0].ContainerID
		w.resizeTo("1500m", "200Mi")
		settle(5 * time.Second)
		if l := w.limits(); l.CPUCap != 150 || l.CPUShares != 150 || l.Memory.Physical != 200<<20 || l.Memory.Swap != 200<<20 {
			t.Errorf("limits after the resize: %+v", l)
		}
		c := w.status().ContainerStatuses[0]
		if c.AllocatedResources.Cpu().String() != "1500m" || c.Resources.Limits.Memory().String() != "200Mi" {
			t.Errorf("status: allocated %v, resources %+v", c.AllocatedResources, c.Resources)
		}
		if c.ContainerID != began || c.RestartCount != 0 {
			t.Errorf("the container was restarted: %+v", c)
		}
		if p, r := w.condition(corev1.PodResizePending), w.condition(corev1.PodResizeInProgress); p != nil || r != nil {
			t.Errorf("conditions left: %v %v", p, r)
		}
		events := strings.Join(w.reasons(), "\n")
		if !strings.Contains(events, "ResizeStarted: Pod resize started") || !strings.Contains(events, "ResizeCompleted: Pod resize completed") {
			t.Errorf("events:\n%s", events)
		}

		// A new agent finds it done, and a zone that comes back is configured anew.
		w.killAgent()
		w.startAgent()
		settle(10 * time.Second)
		if n := w.times("prctl"); n != 1 {
			t.Errorf("%d resizes, want 1", n)
		}
		w.host.crashZone(translate.ZoneName(testUID))
		settle(time.Minute)
		w.mustRun()
		if l := w.limits(); l.CPUCap != 150 || l.Memory.Swap != 200<<20 {
			t.Errorf("limits of the next boot: %+v", l)
		}
	})
}

// TestResizeWithoutRoom: what no node like this could give is refused, and what
// it cannot give now is given when another pod has left.
// TestResizeOfThePod: virtual-kubelet tells nobody of such a change.
func TestResizeOfThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		whole := func(cpu, memory string) *corev1.ResourceRequirements { r := sized(cpu, memory); return &r }
		old := w.create(testPod(func(p *corev1.Pod) { p.Spec.Resources = whole("100m", "128Mi") }))
		w.p.PodSeen(old)
		settle(5 * time.Second)
		before := w.limits()
		pod := old.DeepCopy()
		pod.Status = w.status()
		pod.Spec.Resources, pod.Generation = whole("300m", "256Mi"), old.Generation+1
		pod = w.api.put(pod)
		w.p.PodSeen(pod)
		settle(5 * time.Second)
		if now := w.limits(); now.Memory.Physical != 256<<20 || now.CPUShares <= before.CPUShares {
			t.Errorf("limits were %+v, and are %+v", before, now)
		}
		if s := w.status(); s.Resources == nil || s.Resources.Limits.Memory().String() != "256Mi" || s.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("the status is %+v", s)
		}

		// What the library was about to say meanwhile is of before.
		if err := w.p.UpdatePod(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		settle(5 * time.Second)
		if now := w.limits(); now.Memory.Physical != 256<<20 {
			t.Errorf("limits went back to %+v", now)
		}
		// A change while no agent runs is seen by the next one.
		w.killAgent()
		pod = pod.DeepCopy()
		pod.Spec.Resources, pod.Generation = whole("300m", "512Mi"), pod.Generation+1
		pod = w.api.put(pod)
		w.startAgent()
		w.p.PodSeen(pod)
		settle(5 * time.Second)
		if now := w.limits(); now.Memory.Physical != 512<<20 {
			t.Errorf("after the agent's restart limits are %+v", now)
		}
	})
}

func TestResizeWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.killAgent()
		w.capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi")}
		w.startAgent()
		w.create(sizedPod("1", "100Mi"))
		other := sizedPod("2", "100Mi", func(p *corev1.Pod) { p.Name, p.UID = "other", "1b7f1f8e-6f5c-4b8e-9a53-0d0f6a1c2b3d" })
		w.create(other)
		settle(5 * time.Second)
		w.mustRun()

		w.resizeTo("8", "100Mi")
		settle(5 * time.Second)
		p := w.condition(corev1.PodResizePending)
		if p == nil || p.Reason != corev1.PodReasonInfeasible || p.Message != "Node didn't have enough capacity: cpu, requested: 8000, capacity: 4000" || p.ObservedGeneration != 2 {
			t.Fatalf("pending: %+v", p)
		}
		if c := w.status().ContainerStatuses[0]; c.AllocatedResources.Cpu().String() != "1" || c.Resources.Limits.Cpu().String() != "1" {
			t.Errorf("status says what is not so: %+v", c)
		}

		w.resizeTo("3", "100Mi")
		settle(5 * time.Second)
		p = w.condition(corev1.PodResizePending)
		if p == nil || p.Reason != corev1.PodReasonDeferred || p.Message != "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000" {
			t.Fatalf("pending: %+v", p)
		}
		// The wish outlives the agent.
		w.killAgent()
		w.startAgent()
		settle(5 * time.Second)
		if l := w.limits(); l.CPUCap != 100 {
			t.Errorf("limits without room: %+v", l)
		}
		live, err := w.api.get("default", "other")
		if err != nil {
			t.Fatal(err)
		}
		w.delete(live, 1)
		settle(30 * time.Second)
		if p := w.condition(corev1.PodResizePending); p != nil || w.limits().CPUCap != 300 {
			t.Errorf("after the other has left: %+v, limits %+v", p, w.limits())
		}
	})
}

// TestResizeBelowUsage: memory that is in use is not taken away.
func TestResizeBelowUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(sizedPod("1", "200Mi"))
		settle(5 * time.Second)
		w.mustRun()
		w.host.use(func(u *fakeUse) { u.zones[1] = globalzone.ZoneUsage{Swap: 150 << 20} })
		w.resizeTo("1", "100Mi")
		settle(10 * time.Second)
		r := w.condition(corev1.PodResizeInProgress)
		if r == nil || r.Reason != corev1.PodReasonError || !strings.Contains(r.Message, "below current usage") {
			t.Fatalf("in progress: %+v", r)
		}
		if c := w.status().ContainerStatuses[0]; c.AllocatedResources.Memory().String() != "100Mi" || c.Resources.Limits.Memory().String() != "200Mi" {
			t.Errorf("status: allocated %v, resources %+v", c.AllocatedResources, c.Resources)
		}
		w.host.use(func(u *fakeUse) { u.zones[1] = globalzone.ZoneUsage{Swap: 50 << 20} })
		settle(time.Minute)
		if r := w.condition(corev1.PodResizeInProgress); r != nil || w.limits().Memory.Swap != 100<<20 {
			t.Errorf("when it uses less: %+v, limits %+v", r, w.limits())
		}
	})
}

// TestResizeRestartsWhoAsksForIt: resizePolicy RestartContainer.
func TestResizeRestartsWhoAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: time.Second} })
		w.create(sizedPod("1", "100Mi", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
				{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired},
				{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer},
			}
		}))
		settle(5 * time.Second)
		w.mustRun()
		w.resizeTo("2", "100Mi")
		settle(10 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 0 || w.limits().CPUCap != 200 {
			t.Fatalf("after more processor time: %+v, limits %+v", c, w.limits())
		}
		w.resizeTo("2", "200Mi")
		settle(time.Minute)
		w.mustRun()
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 1 || c.Resources.Limits.Memory().String() != "200Mi" {
			t.Errorf("after more memory: %+v", c)
		}
		if events := strings.Join(w.reasons(), "\n"); !strings.Contains(events, "Killing: Container web resize requires restart") {
			t.Errorf("events:\n%s", events)
		}
	})
}

// TestMemoryLimitReached: a container that fails after its zone ran out of the
// memory that it may have says so, and one that fails otherwise does not.
func TestMemoryLimitReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(_ string, n int) behaviour {
			return behaviour{runs: []time.Duration{time.Minute, time.Minute, 0}[min(n, 2)], code: 1}
		})
		w.create(sizedPod("1", "100Mi"))
		settle(30 * time.Second)
		w.mustRun()
		w.host.use(func(u *fakeUse) { u.zones[1] = globalzone.ZoneUsage{Refused: 3} })
		settle(time.Minute)
		last := w.status().ContainerStatuses[0].LastTerminationState.Terminated
		if last == nil || last.Reason != translate.ReasonMemoryLimit || last.Message != "The pod reached its memory limit of 100 MiB: 3 allocations failed with ENOMEM" {
			t.Fatalf("first end: %+v", last)
		}
		settle(3 * time.Minute)
		last = w.status().ContainerStatuses[0].LastTerminationState.Terminated
		if w.status().ContainerStatuses[0].RestartCount != 2 || last.Reason != translate.ReasonError || last.Message != "" {
			t.Errorf("second end, without another failed allocation: %+v", last)
		}
	})
}
