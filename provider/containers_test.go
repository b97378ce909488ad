package provider

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestPodEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy corev1.RestartPolicy
		codes  []int // of the attempts
		phase  corev1.PodPhase
		count  int32
	}{
		{"success", corev1.RestartPolicyNever, []int{0}, corev1.PodSucceeded, 0},
		{"failure", corev1.RestartPolicyNever, []int{5}, corev1.PodFailed, 0},
		{"success after failure", corev1.RestartPolicyOnFailure, []int{5, 5, 0}, corev1.PodSucceeded, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.behave(func(_ string, attempt int) behaviour {
					return behaviour{runs: time.Second, code: tt.codes[attempt]}
				})
				pod := w.create(testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = tt.policy }))
				settle(time.Minute)
				s := w.status()
				if s.Phase != tt.phase || s.ContainerStatuses[0].RestartCount != tt.count {
					t.Errorf("phase %s after %d restarts", s.Phase, s.ContainerStatuses[0].RestartCount)
				}
				last := int32(tt.codes[len(tt.codes)-1])
				if e := s.ContainerStatuses[0].State.Terminated; e == nil || e.ExitCode != last {
					t.Errorf("state is %+v", s.ContainerStatuses[0].State)
				}
				w.mustBeLetGo(testUID)
				if !w.p.worker(testUID).observed().State.Acknowledged {
					t.Error("the end is not recorded as acknowledged")
				}
				w.delete(pod, 30)
				settle(time.Second)
				w.mustBeGone()
			})
		})
	}
}

func TestInitContainersComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(name string, attempt int) behaviour {
			switch {
			case name == "first" && attempt == 0:
				return behaviour{runs: time.Second, code: 1}
			case name != "web":
				return behaviour{runs: time.Second}
			}
			return behaviour{}
		})
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "web:1"}, {Name: "second", Image: "web:1"}}
		}))
		settle(500 * time.Millisecond)
		if s := w.status(); s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Errorf("at first: %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		settle(5 * time.Second)
		w.mustRun()
		starts := slices.DeleteFunc(slices.Clone(w.host.ran()), func(c string) bool { return !strings.HasPrefix(c, "start ") })
		if got := fmt.Sprint(starts); got != "[start first start second start web]" {
			t.Errorf("started %s", got)
		}
		if s := w.status().InitContainerStatuses; s[0].RestartCount != 1 || s[1].RestartCount != 0 || !s[1].Ready {
			t.Errorf("init containers are %+v", s)
		}
	})
}

func TestZoneThatDiedIsBootedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.host.crashZone(testZone)
		settle(10 * time.Second)
		w.mustRun()
		c := w.status().ContainerStatuses[0]
		if c.RestartCount != 1 || c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.ExitCode != 137 {
			t.Errorf("container is %+v", c)
		}
		if !slices.ContainsFunc(w.events.reasons, func(s string) bool { return strings.HasPrefix(s, "SandboxChanged") }) {
			t.Errorf("no SandboxChanged in %q", w.events.reasons)
		}
	})
}

func TestAgentRestartChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		before, commands := w.status(), len(w.host.ran())
		writes := len(w.api.statuses)
		for range 3 {
			w.killAgent()
			settle(time.Minute)
			w.startAgent()
			settle(20 * time.Minute)
		}
		w.mustRun()
		if got := w.host.ran()[commands:]; len(got) > 0 {
			t.Errorf("the host was changed by %v", got)
		}
		if got := w.api.statuses[writes:]; len(got) > 0 {
			t.Errorf("the status was written again: %+v", got)
		}
		if after := w.status(); after.ContainerStatuses[0].RestartCount != before.ContainerStatuses[0].RestartCount {
			t.Error("the restart count changed")
		}
		if w.host.nextID != 1 {
			t.Errorf("the zone was booted %d times", w.host.nextID)
		}
		if n := len(w.pool.Owners()); n != 1 {
			t.Errorf("%d addresses are taken, want 1", n)
		}
	})
}

func TestHostRebootBringsPodsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.killAgent()
		w.host.crashZone(testZone)
		clear(w.host.vnics) // temporary links do not survive
		w.startAgent()
		settle(10 * time.Second)
		w.mustRun()
		if s := w.status(); s.ContainerStatuses[0].RestartCount != 1 || s.PodIP != "10.244.1.2" {
			t.Errorf("restarts %d, address %s", s.ContainerStatuses[0].RestartCount, s.PodIP)
		}
	})
}

// TestFinishedBeforeAnybodyLooked has the agent die while the zone boots, the
// container finish, and the host reboot: the container has run, and must not
// run again.
func TestFinishedBeforeAnybodyLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second, code: 4} })
		kill := w.kill
		w.host.failBy(func(command string) error {
			if command == "boot" {
				kill()
			}
			return nil
		})
		w.create(testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		settle(time.Minute)
		w.killAgent()
		w.host.failBy(func(string) error { return nil })
		w.host.crashZone(testZone)
		w.startAgent()
		settle(time.Minute)
		if s := w.status(); s.Phase != corev1.PodFailed || s.ContainerStatuses[0].State.Terminated.ExitCode != 4 {
			t.Errorf("status is %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		if w.host.nextID != 1 {
			t.Errorf("the zone was booted %d times", w.host.nextID)
		}
	})
}

// TestContainerThatCannotBeMadeReady waits with the reason, is tried again, and
// has not been restarted when it runs at last.
func TestContainerThatCannotBeMadeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const why = "failed to prepare subPath"
		w.host.unready = map[string]string{"web": why}
		w.create(testPod())
		settle(2 * time.Minute)
		for range 2 {
			s := w.status()
			if x := s.ContainerStatuses[0].State.Waiting; s.Phase != corev1.PodPending || x == nil || x.Reason != "CreateContainerConfigError" || x.Message != why {
				t.Fatalf("phase %s, %+v", s.Phase, s.ContainerStatuses[0])
			}
			if !w.hasEvent("Failed: Error: " + why) {
				t.Errorf("events are %q", w.events.reasons)
			}
			w.killAgent() // the next one finds the container waiting in the zone
			w.startAgent()
			settle(2 * time.Minute)
		}
		w.host.mu.Lock()
		w.host.unready = nil
		w.host.mu.Unlock()
		settle(2 * time.Minute)
		w.mustRun()
		if s := w.status().ContainerStatuses[0]; s.RestartCount != 0 || s.State.Running == nil {
			t.Errorf("at last: %+v", s)
		}
		// A later attempt may meet the same.
		w.host.mu.Lock()
		w.host.unready = map[string]string{"web": why}
		w.host.mu.Unlock()
		w.host.podinit(testZone).exits["web"](1, 0)
		settle(time.Minute)
		if s := w.status().ContainerStatuses[0]; s.State.Waiting == nil || s.State.Waiting.Reason != "CreateContainerConfigError" || s.RestartCount != 1 {
			t.Errorf("after an exit: %+v", s)
		}
	})
}

// TestEnvironmentFromAFile that the container before it has written.
func TestEnvironmentFromAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(name string, _ int) behaviour {
			if name == "writer" {
				return behaviour{runs: 5 * time.Second}
			}
			return behaviour{}
		})
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "conf", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			p.Spec.InitContainers = []corev1.Container{{Name: "writer", Image: "web:1"}}
			p.Spec.Containers[0].Env = []corev1.EnvVar{
				{Name: "WHO", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "conf", Path: "env", Key: "who"}}},
				{Name: "GREETING", Value: "hello $(WHO)"},
			}
			p.Spec.Containers[0].Args = []string{"--who=$(WHO)"}
		}))
		settle(time.Minute)
		if s := w.status().ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "CreateContainerConfigError" || !strings.Contains(s.Message, "couldn't read env file") {
			t.Errorf("without the file: %+v", w.status().ContainerStatuses[0].State)
		}
		w.host.mu.Lock()
		w.host.files = map[string]string{"conf/env": "who='world'\n"}
		w.host.mu.Unlock()
		settle(time.Minute)
		w.mustRun()
		got := w.host.podinit(testZone).started["web"]
		if !slices.Contains(got.Env, "GREETING=hello world") || got.Args[1] != "--who=world" {
			t.Errorf("podinit was told %q, %q", got.Env, got.Args)
		}
		w.host.crashZone(testZone)
		settle(time.Minute)
		w.mustRun()
	})
}
