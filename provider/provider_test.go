package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

var testZone = translate.ZoneName(testUID)

func TestPodRunsAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.mustRun()
		s := w.status()
		if s.PodIP != "10.244.1.2" || s.HostIP != "198.51.100.11" {
			t.Errorf("addresses are %q and %q", s.PodIP, s.HostIP)
		}
		token := filepath.Join(w.host.dir, "pods", testUID, "volumes", "token", "token")
		if text, err := os.ReadFile(token); err != nil || string(text) != "token-text" {
			t.Errorf("token is %q, %v", text, err)
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestFastPathCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		want := "[pull dataset clone vnic configure install boot]"
		if got := fmt.Sprint(w.host.ran()); got != want {
			t.Errorf("commands are %s, want %s", got, want)
		}
	})
}

// countCommands runs f in a world of its own and returns how many commands the
// host was given.
func countCommands(t *testing.T, f func(w *world)) int {
	n := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(w)
		n = len(w.host.ran())
	})
	return n
}

// killAt makes the agent die at the nth command from now, before or after it.
func (w *world) killAt(n int, after bool) {
	kill := w.kill
	count := 0
	w.host.failBy(func(string) error {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		count++
		if count != n+1 {
			return nil
		}
		kill()
		if after {
			return nil
		}
		return errKilled
	})
}

func TestAgentKilledAtEveryCommand(t *testing.T) {
	whole := func(w *world) {
		pod := w.create(testPod())
		settle(time.Second)
		w.delete(pod, 30)
		settle(time.Second)
	}
	n := countCommands(t, whole)
	if n < 12 {
		t.Fatalf("a pod's life is only %d commands", n)
	}
	creating := countCommands(t, func(w *world) { w.create(testPod()); settle(time.Second) })
	for i := range n {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", i, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.killAt(i, after)
					pod := w.create(testPod())
					settle(time.Second)
					if i < creating {
						w.killAgent()
						w.startAgent()
						settle(10 * time.Second)
						w.mustRun()
					}
					w.delete(pod, 30)
					settle(time.Second)
					if i >= creating {
						w.killAgent()
						w.startAgent()
						settle(45 * time.Second)
					}
					w.mustBeGone()
				})
			})
		}
	}
}

// TestDeletionAtEveryCommand deletes the pod while each of the commands that
// create it runs.
func TestDeletionAtEveryCommand(t *testing.T) {
	n := countCommands(t, func(w *world) { w.create(testPod()); settle(time.Second) })
	for i := range n {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				count := 0
				w.host.failBy(func(string) error {
					if count++; count == i+1 {
						time.Sleep(time.Minute) // until the deletion is there
					}
					return nil
				})
				pod := w.create(testPod())
				settle(time.Second)
				w.delete(pod, 30)
				settle(2 * time.Minute)
				w.mustBeGone()
			})
		})
	}
}

func TestDeletionInterruptsAPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "missing:1" }))
		settle(time.Second)
		if s := w.status().ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ErrImagePull" {
			t.Fatalf("state is %+v", w.status().ContainerStatuses[0].State)
		}
		settle(6 * time.Second)
		if s := w.status().ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ImagePullBackOff" {
			t.Fatalf("state is %+v", w.status().ContainerStatuses[0].State)
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestPullHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		image := w.host.images["web:1"]
		delete(w.host.images, "web:1")
		w.create(testPod())
		settle(25 * time.Minute)
		if n := len(w.host.ran()); n < 8 || n > 12 {
			t.Errorf("tried %d times in 25 minutes; the delays should double up to 5 minutes", n)
		}
		w.host.mu.Lock()
		w.host.images["web:1"] = image
		w.host.mu.Unlock()
		settle(6 * time.Minute)
		w.mustRun()
	})
}

func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second, code: 3} })
		w.create(testPod())
		// Attempts at 0, 1 (no delay after the first exit), 2+10, 13+20, 34+40.
		settle(1500 * time.Millisecond)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil {
			t.Errorf("after 1.5 s: %+v", c)
		}
		settle(time.Second)
		c := w.status().ContainerStatuses[0]
		if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.RestartCount != 1 {
			t.Errorf("after 2.5 s: %+v", c)
		}
		if last := c.LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
			t.Errorf("last state is %+v", c.LastTerminationState)
		}
		if want := "back-off 10s restarting failed container=web pod=web_default(" + testUID + ")"; c.State.Waiting != nil && c.State.Waiting.Message != want {
			t.Errorf("message is %q, want %q", c.State.Waiting.Message, want)
		}
		settle(20 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 2 {
			t.Errorf("after 22.5 s: %d restarts", c.RestartCount)
		}
		settle(100 * time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 4 {
			t.Errorf("after 2 min: %d restarts", c.RestartCount)
		}
		if n := w.host.resets["web"]; n != 4 {
			t.Errorf("root was reset %d times, want 4", n)
		}
		w.killAgent()
		w.startAgent()
		settle(time.Second)
		if c := w.status().ContainerStatuses[0]; c.RestartCount != 4 || c.State.Waiting == nil {
			t.Errorf("a new agent forgot the backoff: %+v", c)
		}
	})
}

func TestBackoffIsForgottenAfterALongRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(_ string, attempt int) behaviour {
			if attempt == 3 {
				return behaviour{runs: 11 * time.Minute, code: 1}
			}
			return behaviour{runs: time.Second, code: 1}
		})
		w.create(testPod())
		settle(36 * time.Second) // into attempt 3
		settle(11 * time.Minute)
		if c := w.status().ContainerStatuses[0]; c.RestartCount < 4 {
			t.Errorf("after a long run the restart waits: %+v", c)
		}
	})
}

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
				if z := w.host.state(testZone); z != zones.Installed {
					t.Errorf("zone is %s; it should be halted and kept for its logs", z)
				}
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

func TestGrace(t *testing.T) {
	for _, tt := range []struct {
		name     string
		b        behaviour
		takes    time.Duration // at least, and not a second more
		exitCode int32
	}{
		{"obeys", behaviour{stopAfter: 3 * time.Second}, 3 * time.Second, 143},
		{"stubborn", behaviour{stubborn: true}, 20 * time.Second, 137},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.behave(func(string, int) behaviour { return tt.b })
				pod := w.create(testPod())
				settle(time.Second)
				w.delete(pod, 20)
				settle(tt.takes - 100*time.Millisecond)
				if z := w.host.state(testZone); z != zones.Running {
					t.Errorf("zone is %s before its time", z)
				}
				if _, err := w.api.get("default", "web"); err != nil {
					t.Errorf("the pod left the API server before its zone: %v", err)
				}
				settle(time.Second)
				w.mustBeGone()
				final := w.api.statuses[len(w.api.statuses)-1]
				if e := final.ContainerStatuses[0].State.Terminated; e == nil || e.ExitCode != tt.exitCode {
					t.Errorf("last state is %+v", final.ContainerStatuses[0].State)
				}
			})
		})
	}
}

// TestStuckZoneBlocksNobody has a zone whose halt fails for a long time.
func TestStuckZoneBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.host.failBy(func(command string) error {
			if command == "halt" {
				return errors.New("unable to unmount")
			}
			return nil
		})
		w.delete(pod, 1)
		settle(time.Minute)
		if owners := w.pool.Owners(); len(owners) != 1 {
			t.Errorf("the address was given back under a running zone: %v", owners)
		}
		other := testPod(func(p *corev1.Pod) { p.Name, p.UID = "other", "b0000000-0000-4000-8000-000000000000" })
		w.create(other)
		settle(time.Second)
		if p, err := w.api.get("default", "other"); err != nil || p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "10.244.1.2" {
			t.Errorf("the other pod is %+v, %v", p, err)
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		if _, err := w.api.get("default", "web"); !apierrors.IsNotFound(err) {
			t.Errorf("the pod is still there: %v", err)
		}
	})
}

func TestForcedRemovalIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: 5 * time.Second} })
		pod := w.create(testPod())
		settle(time.Second)
		client := w.p.PodsGetter().Pods("default")
		options := *metav1.NewDeleteOptions(0)
		options.Preconditions = metav1.NewUIDPreconditions(testUID)
		if err := client.Delete(t.Context(), pod.Name, options); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if _, err := w.api.get("default", "web"); err != nil {
			t.Errorf("the pod left the API server before its zone: %v", err)
		}
		settle(10 * time.Second)
		w.mustBeGone()
		// A pod that the provider does not know is removed as asked.
		w.api.put(testPod())
		if err := client.Delete(t.Context(), pod.Name, options); err != nil {
			t.Fatal(err)
		}
		w.mustBeGone()
	})
}

func TestAPIServerAwayDuringRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.delete(pod, 5)
		w.api.mu.Lock()
		w.api.down = errors.New("connection refused")
		w.api.mu.Unlock()
		settle(time.Minute)
		if left := w.host.leftovers(); len(left) > 0 {
			t.Errorf("the host is not cleaned up without the API server: %v", left)
		}
		w.killAgent()
		w.startAgent()
		settle(time.Minute)
		w.api.mu.Lock()
		w.api.down = nil
		w.api.mu.Unlock()
		settle(time.Minute)
		w.mustBeGone()
	})
}

// TestNamesake has a StatefulSet's pod come back under its name while the old
// one is still there.
func TestNamesake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: 10 * time.Second} })
		w.create(testPod())
		settle(time.Second)
		next := w.api.put(testPod(func(p *corev1.Pod) { p.UID = "b0000000-0000-4000-8000-000000000000" }))
		if _, err := w.p.GetPod(t.Context(), "default", "web"); !errdefs.IsNotFound(err) {
			t.Errorf("the old pod is taken for the new one: %v", err)
		}
		if err := w.p.CreatePod(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if p, err := w.p.GetPod(t.Context(), "default", "web"); err != nil || p.UID != next.UID {
			t.Errorf("GetPod = %v, %v", p, err)
		}
		settle(time.Minute)
		w.mustRun()
		if p, _ := w.api.get("default", "web"); p.UID != next.UID || w.host.state(testZone) != zones.Absent {
			t.Errorf("the new pod is gone (%s), or the old zone is not (%s)", p.UID, w.host.state(testZone))
		}
	})
}

func TestDanglingDeletionIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		if err := w.p.DeletePod(t.Context(), pod); err == nil {
			t.Error("a pod that the API server has was removed as dangling")
		}
		w.api.mu.Lock()
		w.api.down = errors.New("connection refused")
		w.api.mu.Unlock()
		if err := w.p.DeletePod(t.Context(), pod); err == nil {
			t.Error("a pod was removed as dangling though nobody can tell")
		}
		w.api.mu.Lock()
		w.api.down = nil
		delete(w.api.pods, "default/web")
		w.api.mu.Unlock()
		if err := w.p.DeletePod(t.Context(), pod); err != nil {
			t.Error(err)
		}
		settle(time.Minute)
		w.mustBeGone()
	})
}

func TestRefusedPodFailsWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}))
		settle(time.Second)
		s := w.status()
		if s.Phase != corev1.PodFailed || s.Reason != translate.ReasonUnsupported ||
			!strings.Contains(s.Message, "hostNetwork") || !strings.Contains(s.Message, `volume "disk": type hostPath`) {
			t.Errorf("status is %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		if len(w.host.ran()) > 0 {
			t.Errorf("the host was changed by %v", w.host.ran())
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestForeignConditionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := corev1.PodConditionType("example.org/gate")
		w.create(testPod(func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} }))
		settle(time.Second)
		ready := func() corev1.ConditionStatus {
			for _, c := range w.status().Conditions {
				if c.Type == corev1.PodReady {
					return c.Status
				}
			}
			return "missing"
		}
		if ready() != corev1.ConditionFalse {
			t.Errorf("ready is %s before the gate opens", ready())
		}
		p, _ := w.api.get("default", "web")
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: gate, Status: corev1.ConditionTrue})
		w.api.put(p)
		settle(time.Minute)
		if ready() != corev1.ConditionTrue {
			t.Errorf("ready is %s after the gate opened", ready())
		}
		if !slices.ContainsFunc(w.status().Conditions, func(c corev1.PodCondition) bool { return c.Type == gate }) {
			t.Error("the gate's condition was overwritten")
		}
	})
}

func TestOrphanZoneIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.killAgent()
		if err := os.RemoveAll(filepath.Join(w.data, "pods", testUID)); err != nil {
			t.Fatal(err)
		}
		w.startAgent()
		settle(30 * time.Minute)
		if z := w.host.state(testZone); z != zones.Running {
			t.Fatalf("the zone of a pod that the API server has is %s", z)
		}
		if len(w.pool.Owners()) != 1 {
			t.Error("the address of a zone without a record may be given away")
		}
		w.api.mu.Lock()
		delete(w.api.pods, "default/web")
		w.api.mu.Unlock()
		settle(5 * time.Minute)
		w.mustBeGone()
	})
}

func TestManyPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const n = 50
		ips := map[string]bool{}
		for i := range n {
			w.create(testPod(func(p *corev1.Pod) {
				p.Name = fmt.Sprintf("web-%d", i)
				p.UID = types.UID(fmt.Sprintf("c0000000-0000-4000-8000-%012d", i))
			}))
		}
		settle(5 * time.Second)
		for i := range n {
			p, err := w.api.get("default", fmt.Sprintf("web-%d", i))
			if err != nil || p.Status.Phase != corev1.PodRunning {
				t.Fatalf("pod %d: %v, %v", i, p.Status.Phase, err)
			}
			ips[p.Status.PodIP] = true
		}
		if len(ips) != n {
			t.Errorf("%d addresses for %d pods", len(ips), n)
		}
	})
}

func TestUnwritableRecordHoldsThePodBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pods := filepath.Join(w.data, "pods")
		if err := os.RemoveAll(pods); err != nil {
			t.Fatal(err)
		}
		w.create(testPod())
		settle(time.Minute)
		if len(w.host.ran()) > 0 {
			t.Errorf("the host was changed for a pod without a record: %v", w.host.ran())
		}
		if err := os.Mkdir(pods, 0o700); err != nil {
			t.Fatal(err)
		}
		settle(5 * time.Second)
		w.mustRun()
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.killAgent() // and waits for Run
		if err := w.p.CreatePod(context.Background(), testPod(func(p *corev1.Pod) { p.UID, p.Name = "d0000000-0000-4000-8000-000000000000", "late" })); err != nil {
			t.Error(err)
		}
	})
}
