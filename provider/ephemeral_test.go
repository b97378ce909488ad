package provider

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// debug adds ephemeral containers to the pod, as kubectl debug does.
func (w *world) debug(pod *corev1.Pod, containers ...corev1.EphemeralContainerCommon) *corev1.Pod {
	w.t.Helper()
	pod = pod.DeepCopy()
	pod.Status = w.status()
	for _, c := range containers {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: c, TargetContainerName: "web",
		})
	}
	pod = w.api.put(pod)
	if err := w.p.UpdatePod(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
	return pod
}

func debugger(name string) corev1.EphemeralContainerCommon {
	return corev1.EphemeralContainerCommon{Name: name, Image: "tools:1", Stdin: true, TTY: true}
}

// podinit returns the process 1 of a running zone.
func (h *fakeHost) podinit(zone string) *fakePodinit {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.zones[zone].init
}

// hasTools gives the registry an image that no other container has.
func (h *fakeHost) hasTools() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images["tools:1"] = oci.Image{
		Ref: "tools:1", ID: "sha256:cc", Digest: "registry.example/tools@sha256:dd", Dataset: "tools1", OS: "linux", Arch: "amd64",
		Config: oci.ImageConfig{Entrypoint: []string{"/bin/sh"}},
	}
}

func TestEphemeralContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		w.host.behave(func(name string, _ int) behaviour {
			if name == "first" {
				return behaviour{runs: time.Minute, code: 5}
			}
			return behaviour{}
		})
		pod := w.create(testPod())
		settle(5 * time.Second)
		pod = w.debug(pod, debugger("first"))
		settle(5 * time.Second)
		w.mustRun()
		s := w.status().EphemeralContainerStatuses
		if len(s) != 1 || s[0].State.Running == nil || s[0].Ready || s[0].Started != nil || s[0].ImageID != "registry.example/tools@sha256:dd" {
			t.Fatalf("statuses are %+v", s)
		}
		started := w.host.podinit(testZone).started["first"]
		if started.Spare != 1 || !started.TTY || !started.Stdin || started.Args[0] != "/bin/sh" {
			t.Errorf("podinit was told %+v", started)
		}

		// It ends, is not started again, and leaves the pod as it was.
		pod = w.debug(pod, debugger("second"))
		settle(20 * time.Minute)
		w.mustRun()
		s = w.status().EphemeralContainerStatuses
		if e := s[0].State.Terminated; e == nil || e.ExitCode != 5 || s[0].RestartCount != 0 {
			t.Errorf("the first is %+v", s[0])
		}
		if s[1].State.Running == nil || w.host.podinit(testZone).started["second"].Spare != 2 {
			t.Errorf("the second is %+v", s[1])
		}
		if n := countPrefix(w.host.ran(), "start first"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
		if c, err := containerNamed(w.p.worker(testUID).object(), "second"); err != nil || c != "second" {
			t.Errorf("exec and logs find %q, %v", c, err)
		}

		// A new agent goes on from there.
		w.killAgent()
		w.startAgent()
		settle(5 * time.Second)
		if again := w.status().EphemeralContainerStatuses; again[1].State.Running == nil || again[0].State.Terminated == nil {
			t.Errorf("after the agent's restart: %+v", again)
		}
		// So does a new boot of the zone, without them.
		w.host.crashZone(testZone)
		settle(time.Minute)
		w.mustRun()
		if e := w.status().EphemeralContainerStatuses[1].State.Terminated; e == nil || e.ExitCode != 137 {
			t.Errorf("after the zone's restart: %+v", w.status().EphemeralContainerStatuses[1])
		}
		if n := countPrefix(w.host.ran(), "start "); n != 2 {
			t.Errorf("%d containers were started over the channel", n)
		}
		w.delete(pod, 30)
		settle(time.Minute)
		w.mustBeGone()
	})
}

func countPrefix(list []string, prefix string) int {
	n := 0
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// TestEphemeralContainerDuringInit: a pod whose init container hangs is what
// one wants to debug.
func TestEphemeralContainerDuringInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "stuck", Image: "web:1"}}
		}))
		settle(5 * time.Second)
		w.debug(pod, debugger("tool"))
		settle(5 * time.Second)
		s := w.status()
		if s.EphemeralContainerStatuses[0].State.Running == nil {
			t.Errorf("it is %+v", s.EphemeralContainerStatuses[0].State)
		}
		if s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("the pod is %s: %+v", s.Phase, s.ContainerStatuses[0].State)
		}
	})
}

// TestEphemeralContainerThatFails holds up nothing.
func TestEphemeralContainerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		settle(5 * time.Second)
		pod = w.debug(pod, debugger("tool"))
		settle(time.Second)
		if why := w.status().EphemeralContainerStatuses[0].State.Waiting; why == nil || why.Reason != translate.ReasonErrImagePull {
			t.Errorf("it is %+v", w.status().EphemeralContainerStatuses[0].State)
		}
		w.host.hasTools() // the pull heals
		w.host.failBy(func(command string) error {
			if command == "spare" {
				return errors.New("out of space")
			}
			return nil
		})
		settle(time.Minute)
		if why := w.status().EphemeralContainerStatuses[0].State.Waiting; why == nil || why.Reason != translate.ReasonCreateError {
			t.Errorf("it is %+v", w.status().EphemeralContainerStatuses[0].State)
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		if w.status().EphemeralContainerStatuses[0].State.Running == nil {
			t.Errorf("it is %+v", w.status().EphemeralContainerStatuses[0].State)
		}
		// The pod ends with its own containers, whatever this one does.
		w.host.podinit(testZone).exits["web"](0, 0)
		settle(time.Minute)
		if s := w.status(); s.Phase != corev1.PodSucceeded || s.EphemeralContainerStatuses[0].State.Terminated == nil {
			t.Errorf("the pod is %s, the container %+v", s.Phase, s.EphemeralContainerStatuses[0].State)
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestEphemeralContainersThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		pod := w.create(testPod())
		settle(5 * time.Second)
		yes := true
		privileged := debugger("privileged")
		privileged.SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		list := []corev1.EphemeralContainerCommon{privileged}
		for n := range storage.Spares {
			list = append(list, debugger("tool"+strconv.Itoa(n)))
		}
		w.debug(pod, list...)
		settle(time.Minute)
		w.mustRun()
		for i, s := range w.status().EphemeralContainerStatuses {
			refused := i == 0 || i == storage.Spares
			if why := s.State.Waiting; refused && (why == nil || why.Reason != translate.ReasonUnsupported) {
				t.Errorf("container %d is %+v", i, s.State)
			}
			if !refused && s.State.Running == nil {
				t.Errorf("container %d is %+v", i, s.State)
			}
		}
		if n := countPrefix(w.events.reasons, "Failed: Error: "); n != 2 {
			t.Errorf("%d events in %q", n, w.events.reasons)
		}
		if !slices.ContainsFunc(w.events.reasons, func(s string) bool { return strings.Contains(s, "securityContext.privileged") }) {
			t.Errorf("nothing says why: %q", w.events.reasons)
		}
	})
}

// TestAgentKilledWhileDebugging: before or after each command that brings an
// ephemeral container, the next agent goes on, and the container runs once.
func TestAgentKilledWhileDebugging(t *testing.T) {
	for i := range 3 { // pull, clone, start
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", i, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.host.hasTools()
					pod := w.create(testPod())
					settle(5 * time.Second)
					before := len(w.host.ran())
					w.killAt(i, after)
					pod = w.debug(pod, debugger("tool"))
					settle(5 * time.Second)
					w.killAgent()
					if n := len(w.host.ran()) - before; n > i+1 {
						t.Fatalf("the agent lived on for %d commands", n)
					}
					w.startAgent()
					settle(time.Minute)
					w.mustRun()
					if s := w.status().EphemeralContainerStatuses; len(s) != 1 || s[0].State.Running == nil {
						t.Errorf("it is %+v", s)
					}
					if p := w.host.podinit(testZone); p.started["tool"].Spare != 1 {
						t.Errorf("podinit was told %+v", p.started["tool"])
					}
					w.delete(pod, 30)
					settle(time.Minute)
					w.mustBeGone()
				})
			})
		}
	}
}
