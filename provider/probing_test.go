package provider

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

func TestReadinessProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(_ *health, c *corev1.Container, _ *corev1.Pod) {
			c.ReadinessProbe = probe("ready", 5, 10, 2, 2)
		})
		h.is(true, false, 0) // one that was not found ready is not
		h.until(5)
		h.is(true, false, 0) // one success of two
		h.until(15)
		h.is(true, true, 0)
		h.finds("ready", 1, nil)
		h.until(25)
		h.is(true, true, 0) // one failure of two
		h.until(35)
		h.is(true, false, 0)
		if n := h.w.count("Unhealthy: Readiness probe failed: ready is ill"); n != 2 {
			t.Errorf("%d events, want 2: %q", n, h.w.reasons())
		}
		h.finds("ready", 0, nil)
		h.until(55)
		h.is(true, true, 0)
		if got, want := h.seen(), "5s ready, 15s ready, 25s ready, 35s ready, 45s ready, 55s ready"; got != want {
			t.Errorf("looked at %s, want %s", got, want)
		}
	})
}

func TestStartupProbeComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.codes["start"] = 1
			c.StartupProbe = probe("start", 0, 3, 1, 5)
			c.LivenessProbe = probe("live", 0, 10, 1, 1)
			c.ReadinessProbe = probe("ready", 8, 10, 1, 1)
		})
		h.is(false, false, 0)
		h.until(5)
		h.is(false, false, 0)
		h.finds("start", 0, nil)
		h.until(6)
		h.is(true, false, 0)
		h.until(8) // the readiness probe's own delay began with the container
		h.is(true, true, 0)
		h.until(20)
		if got, want := h.seen(), "0s start, 3s start, 6s start, 6s live, 8s ready, 16s live, 18s ready"; got != want {
			t.Errorf("looked at %s, want %s", got, want)
		}
	})
}

func TestLivenessProbeRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grace := int64(7)
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.w.host.behave(func(string, int) behaviour { return behaviour{stubborn: true} })
			c.LivenessProbe = probe("live", 5, 10, 1, 3)
			c.LivenessProbe.TerminationGracePeriodSeconds = &grace
		})
		h.is(true, true, 0)
		h.finds("live", 1, nil)
		h.until(24)
		h.is(true, true, 0)
		if h.w.count("Killing: Container web failed liveness probe, will be restarted") != 0 {
			t.Error("killed too early")
		}
		h.until(31)
		h.is(true, false, 0) // it is asked to stop, and has seven seconds
		h.finds("live", 0, nil)
		h.until(33)
		h.is(true, true, 1)
		if e := h.w.status().ContainerStatuses[0].LastTerminationState.Terminated; e == nil || e.ExitCode != 137 {
			t.Errorf("last state %+v", e)
		}
		for event, want := range map[string]int{
			"Unhealthy: Liveness probe failed: live is ill":                   3,
			"Killing: Container web failed liveness probe, will be restarted": 1,
		} {
			if n := h.w.count(event); n != want {
				t.Errorf("%d times %q, want %d, in %q", n, event, want, h.w.reasons())
			}
		}
		h.until(50)
		if got, want := h.seen(), "5s live, 15s live, 25s live, 37s live, 47s live"; got != want {
			t.Errorf("looked at %s, want %s", got, want)
		}
		if h.w.host.nextID != 1 {
			t.Error("the zone was booted again")
		}
	})
}

func TestStartupProbeRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.codes["start"] = 1
			c.StartupProbe = probe("start", 0, 10, 1, 2)
		})
		h.until(11)
		h.is(false, false, 1)
		if h.w.count("Killing: Container web failed startup probe, will be restarted") != 1 {
			t.Errorf("events %q", h.w.reasons())
		}
		h.until(21) // the second attempt fails as well, and the third waits
		if s := h.w.status().ContainerStatuses[0]; s.State.Waiting == nil || s.State.Waiting.Reason != translate.ReasonCrashLoopBackOff {
			t.Errorf("state %+v", s.State)
		}
	})
}

func TestLivenessProbeEndsPodThatNeverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, p *corev1.Pod) {
			h.codes["live"] = 1
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			c.LivenessProbe = probe("live", 0, 10, 1, 1)
		})
		h.until(1)
		if s := h.w.status(); s.Phase != corev1.PodFailed || s.ContainerStatuses[0].State.Terminated.ExitCode != 143 {
			t.Errorf("phase %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		if h.w.count("Killing: Container web failed liveness probe") != 1 {
			t.Errorf("events %q", h.w.reasons())
		}
	})
}

// TestFailingProberIsNoFailingProbe: a program that cannot be started says
// nothing about the container.
func TestFailingProberIsNoFailingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := &podinit.Error{Reason: podinit.ReasonStart, Message: "no such program", Code: 127}
		h := probed(t, func(_ *health, c *corev1.Container, _ *corev1.Pod) {
			c.LivenessProbe = probe("live", 1, 10, 1, 1)
			c.ReadinessProbe = probe("ready", 1, 10, 1, 1)
		})
		h.until(1)
		h.is(true, true, 0)
		h.finds("live", 0, missing)
		h.finds("ready", 0, missing)
		h.until(600)
		h.is(true, true, 0)
		if h.w.count("Unhealthy: Liveness probe errored and resulted in unknown state: podinit: no such program") == 0 {
			t.Errorf("events %q", h.w.reasons())
		}
		h.finds("ready", 1, nil)
		h.until(611)
		h.is(true, false, 0)
	})
}

// TestProbesOfAnEndedContainer: nobody is asked, and nothing concluded, while
// a container does not run.
func TestProbesOfAnEndedContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.w.host.behave(func(string, int) behaviour { return behaviour{runs: 5 * time.Second, code: 1} })
			c.LivenessProbe = probe("live", 0, 3, 1, 1)
			c.ReadinessProbe = probe("ready", 1, 3, 1, 1)
		})
		h.until(14) // the second attempt ended at 10 s, the third starts at 20 s
		h.is(false, false, 1)
		h.until(21)
		if got, want := h.seen(), "0s live, 1s ready, 3s live, 4s ready, 5s live, 6s ready, 8s live, 9s ready, 20s live, 21s ready"; got != want {
			t.Errorf("looked at %s, want %s", got, want)
		}
		if slices.ContainsFunc(h.w.reasons(), func(e string) bool { return strings.HasPrefix(e, "Unhealthy") }) {
			t.Errorf("events %q", h.w.reasons())
		}
	})
}

// TestProbesOverAnAgentRestart: what was concluded stays until a new agent has
// concluded something else, and nobody sees a pod flap.
func TestProbesOverAnAgentRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(_ *health, c *corev1.Container, _ *corev1.Pod) {
			c.StartupProbe = probe("start", 2, 10, 1, 3)
			c.LivenessProbe = probe("live", 30, 10, 1, 3)
			c.ReadinessProbe = probe("ready", 5, 10, 2, 2)
		})
		h.until(40)
		h.is(true, true, 0)
		writes := len(h.w.api.statuses)
		h.w.killAgent()
		h.until(100)
		h.seen()
		h.w.startAgent()
		h.until(129)
		h.is(true, true, 0)
		if n := len(h.w.api.statuses); n != writes {
			t.Errorf("the status was written %d times: %+v", n-writes, h.w.api.statuses[writes:])
		}
		looks := h.seen()
		if strings.Contains(looks, "start") || !strings.Contains(looks, "live") || !strings.Contains(looks, "ready") {
			t.Errorf("looked at %s", looks)
		}
		// A new agent's first failures count from none.
		h.w.killAgent()
		h.finds("ready", 1, nil)
		h.w.startAgent()
		for range 100 {
			settle(time.Second)
			if n := h.w.count("Unhealthy: Readiness probe failed: ready is ill"); n == 1 {
				h.is(true, true, 0)
			} else if n == 2 {
				h.is(true, false, 0)
				return
			}
		}
		t.Error("the new agent concluded nothing")
	})
}

// TestAgentDiesWhileAnIllContainerStops: the next agent goes on with it, and
// the container is restarted once.
func TestAgentDiesWhileAnIllContainerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.w.host.behave(func(string, int) behaviour { return behaviour{stubborn: true} })
			h.codes["live"] = 1
			c.LivenessProbe = probe("live", 5, 1000, 1, 1)
		})
		h.until(6)
		h.is(true, false, 0)
		h.w.killAgent()
		h.finds("live", 0, nil)
		h.until(10)
		h.w.startAgent()
		h.until(34)
		h.is(true, false, 0)
		h.until(37) // the grace period of 30 s is from when the verdict fell
		h.is(true, true, 1)
		h.until(2000)
		h.is(true, true, 1)
	})
}

// TestProbesOfAPodThatGoes: it is not restarted any more, but its users still
// learn whether it is ready; and no probe outlives it.
func TestProbesOfAPodThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, p *corev1.Pod) {
			h.w.host.behave(func(string, int) behaviour { return behaviour{stubborn: true} })
			c.LivenessProbe = probe("live", 0, 5, 1, 1)
			c.ReadinessProbe = probe("ready", 0, 5, 1, 1)
		})
		h.until(2)
		h.is(true, true, 0)
		pod, err := h.w.api.get("default", "web")
		if err != nil {
			t.Fatal(err)
		}
		h.w.delete(pod, 30)
		h.finds("live", 1, nil)
		h.finds("ready", 1, nil)
		h.until(6)
		h.is(true, false, 0)
		for _, e := range h.w.reasons() {
			if strings.Contains(e, "iveness") {
				t.Errorf("event %q", e)
			}
		}
		h.until(40)
		h.w.mustBeGone()
	})
}

// TestProbeThatHangs: the time limit is the probe's own, and a pod that goes
// does not wait for it.
func TestProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, _ *corev1.Pod) {
			h.w.host.mu.Lock()
			h.w.host.check = func(ctx context.Context, _ string, _ int, _ string) (int, string, error) {
				<-ctx.Done()
				return 0, "", context.Cause(ctx)
			}
			h.w.host.mu.Unlock()
			c.ReadinessProbe = probe("ready", 0, 100, 1, 1)
			c.ReadinessProbe.TimeoutSeconds = 7
		})
		h.until(6)
		if len(h.w.reasons()) == 0 || h.w.count(`Unhealthy: Readiness probe failed: command timed out: "ready" timed out after 7s`) != 0 {
			t.Errorf("events %q", h.w.reasons())
		}
		h.until(7)
		if h.w.count(`Unhealthy: Readiness probe failed: command timed out: "ready" timed out after 7s`) != 1 {
			t.Errorf("events %q", h.w.reasons())
		}
		h.until(101)
		pod, err := h.w.api.get("default", "web")
		if err != nil {
			t.Fatal(err)
		}
		h.w.delete(pod, 1)
		h.until(103)
		h.w.mustBeGone()
	})
}

// TestVerdictThatCannotBeRecorded: it is drawn again from the next check.
func TestVerdictThatCannotBeRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(_ *health, c *corev1.Container, _ *corev1.Pod) {
			c.LivenessProbe = probe("live", 1, 10, 1, 1)
		})
		h.finds("live", 1, nil)
		w := h.w.p.worker(testUID)
		w.mu.Lock()
		uid := w.st.UID
		w.st.UID = "no/such" // which the ledger refuses
		w.mu.Unlock()
		h.until(2)
		h.is(true, true, 0)
		w.mu.Lock()
		w.st.UID = uid
		w.mu.Unlock()
		h.until(11)
		h.finds("live", 0, nil)
		h.until(30)
		h.is(true, true, 1)
	})
}

// TestSidecarWithStartupProbe: the containers after it wait until it has
// started, and its readiness is the pod's.
func TestSidecarWithStartupProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := probed(t, func(h *health, c *corev1.Container, p *corev1.Pod) {
			h.codes["start"], h.codes["ready"] = 1, 1
			p.Spec.InitContainers = []corev1.Container{{
				Name: "side", Image: "web:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
				StartupProbe: probe("start", 0, 3, 1, 100), ReadinessProbe: probe("ready", 0, 5, 1, 1),
			}}
		})
		h.until(8)
		s := h.w.status()
		if s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("before it has started: %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		h.finds("start", 0, nil)
		h.until(10)
		s = h.w.status()
		if s.Phase != corev1.PodRunning || conditionOf(s, corev1.PodReady) != corev1.ConditionFalse || s.InitContainerStatuses[0].Ready {
			t.Errorf("before it is ready: %s, %+v", s.Phase, s.InitContainerStatuses[0])
		}
		h.finds("ready", 0, nil)
		h.until(15)
		if s := h.w.status(); !s.InitContainerStatuses[0].Ready || conditionOf(s, corev1.PodReady) != corev1.ConditionTrue {
			t.Errorf("at the end: %+v", s.InitContainerStatuses[0])
		}
	})
}
