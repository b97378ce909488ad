package provider

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/probes"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// checkFunc says how a probe's program ends in an attempt of a container.
type checkFunc func(ctx context.Context, container string, attempt int, program string) (code int, output string, err error)

// runCheck runs a probe's program, if its container runs.
func (c fakeChannel) runCheck(ctx context.Context, check checkFunc, r podinit.ExecRequest, s podinit.Streams) (podinit.ExitStatus, error) {
	c.init.mu.Lock()
	state := podinit.ContainerState{}
	if have := c.init.find(r.Container); have != nil {
		state = *have
	}
	c.init.mu.Unlock()
	if state.Phase != podinit.Running {
		return podinit.ExitStatus{}, &podinit.Error{Reason: podinit.ReasonNotRunning, Message: "the container does not run"}
	}
	code, output, err := check(ctx, r.Container, state.Attempt, r.Args[0])
	io.WriteString(s.Out, output)
	return podinit.ExitStatus{Code: code}, err
}

// health is what the probes of a pod find, and when they looked.
type health struct {
	w     *world
	start time.Time
	codes map[string]int   // by program
	err   map[string]error // likewise
	looks []string         // "5s ready"
}

// probed runs a pod with probes whose programs are called start, live and
// ready, and all find 0 at first.
func probed(t *testing.T, edit func(h *health, c *corev1.Container, p *corev1.Pod)) *health {
	h := &health{w: newWorld(t), start: time.Now(), codes: map[string]int{}, err: map[string]error{}}
	h.w.host.mu.Lock()
	h.w.host.check = func(_ context.Context, _ string, _ int, program string) (int, string, error) {
		h.w.host.mu.Lock()
		defer h.w.host.mu.Unlock()
		h.looks = append(h.looks, fmt.Sprint(time.Since(h.start).Truncate(time.Second), " ", program))
		return h.codes[program], program + " is ill", h.err[program]
	}
	h.w.host.mu.Unlock()
	h.w.create(testPod(func(p *corev1.Pod) { edit(h, &p.Spec.Containers[0], p) }))
	settle(100 * time.Millisecond) // checks are made in the first tenth of a second
	return h
}

func probe(program string, delay, period, successes, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{program}}},
		InitialDelaySeconds: delay, PeriodSeconds: period, TimeoutSeconds: 1, SuccessThreshold: successes, FailureThreshold: failures,
	}
}

// until lets time pass until so many seconds after the start, and a little.
func (h *health) until(seconds int) {
	settle(time.Until(h.start.Add(time.Duration(seconds)*time.Second + 200*time.Millisecond)))
}

func (h *health) finds(program string, code int, err error) {
	h.w.host.mu.Lock()
	defer h.w.host.mu.Unlock()
	h.codes[program], h.err[program] = code, err
}

// seen returns when the programs were run, since the last call.
func (h *health) seen() string {
	h.w.host.mu.Lock()
	defer h.w.host.mu.Unlock()
	s := strings.Join(h.looks, ", ")
	h.looks = nil
	return s
}

// is checks what the API server shows.
func (h *health) is(started, ready bool, restarts int32) {
	h.w.t.Helper()
	s := h.w.status()
	c := s.ContainerStatuses[0]
	if *c.Started != started || c.Ready != ready || c.RestartCount != restarts {
		h.w.t.Errorf("at %s: started %v, ready %v, %d restarts; want %v, %v, %d\nevents %q",
			time.Since(h.start), *c.Started, c.Ready, c.RestartCount, started, ready, restarts, h.w.reasons())
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		if got := conditionOf(s, kind); (got == corev1.ConditionTrue) != ready {
			h.w.t.Errorf("at %s: condition %s is %s", time.Since(h.start), kind, got)
		}
	}
}

func conditionOf(s corev1.PodStatus, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

func (w *world) reasons() []string {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	return slices.Clone(w.events.reasons)
}

// count returns how many events say exactly that.
func (w *world) count(event string) (n int) {
	for _, e := range w.reasons() {
		if e == event {
			n++
		}
	}
	return n
}

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

// TestRestartOfAContainerThatEndsWell: an ill container that obeys its stop
// signal with exit code 0 is restarted all the same, after the usual delays.
func TestRestartOfAContainerThatEndsWell(t *testing.T) {
	pod := testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure })
	for _, tt := range []struct {
		name string
		edit func(*ledger.State)
		want int // attempts
	}{
		{"ill", func(*ledger.State) {}, 1},
		{"ill, of a pod that goes", func(st *ledger.State) { st.Deletion = &ledger.Deletion{} }, 0},
		{"on its own", func(st *ledger.State) { st.Containers[0].Stop = nil }, 0},
	} {
		st := ledger.State{Boot: "b", Containers: []ledger.Container{{
			Name: "web", Phase: podinit.Running, Backoff: 20 * time.Second, Stop: &ledger.Stop{Restart: true},
		}}}
		tt.edit(&st)
		absorb(&st, podinit.State{Boot: "b", Containers: []podinit.ContainerState{
			{Name: "web", Phase: podinit.Exited, StartedAt: epoch.Add(-time.Minute), FinishedAt: epoch},
		}}, pod, epoch)
		r := st.Containers[0]
		if r.Attempt != tt.want || r.Stop != nil {
			t.Errorf("%s: %+v", tt.name, r)
		}
		if tt.want == 1 && (r.Last == nil || r.Last.Code != 0 || !r.NotBefore.Equal(epoch.Add(20*time.Second)) || r.Phase != podinit.Waiting) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

func TestConclude(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    translate.ProbeKind
		verdict probes.Verdict
		edit    func(*ledger.State, *ledger.Container)
		want    string // what changed
	}{
		{"nothing known", translate.Readiness, probes.Unknown, nil, ""},
		{"ready", translate.Readiness, probes.Passing, nil, "ready"},
		{"not ready yet", translate.Readiness, probes.Failing, nil, ""},
		{"ready still", translate.Readiness, probes.Passing, func(_ *ledger.State, r *ledger.Container) { r.Ready = true }, ""},
		{"not ready any more", translate.Readiness, probes.Failing, func(_ *ledger.State, r *ledger.Container) { r.Ready = true }, "unready"},
		{"alive", translate.Liveness, probes.Passing, nil, ""},
		{"not alive", translate.Liveness, probes.Failing, nil, "stop"},
		{"started", translate.Startup, probes.Passing, func(_ *ledger.State, r *ledger.Container) { r.Started = false }, "started"},
		{"not started", translate.Startup, probes.Failing, func(_ *ledger.State, r *ledger.Container) { r.Started = false }, "stop"},
		{"of an earlier attempt", translate.Liveness, probes.Failing, func(_ *ledger.State, r *ledger.Container) { r.Attempt = 5 }, ""},
		{"ended", translate.Liveness, probes.Failing, func(_ *ledger.State, r *ledger.Container) { r.Phase = podinit.Exited }, ""},
		{"stops already", translate.Liveness, probes.Failing, func(_ *ledger.State, r *ledger.Container) { r.Stop = &ledger.Stop{} }, ""},
		{"ready, but stops", translate.Readiness, probes.Passing, func(_ *ledger.State, r *ledger.Container) { r.Stop = &ledger.Stop{} }, ""},
		{"goes", translate.Liveness, probes.Failing, func(st *ledger.State, _ *ledger.Container) { st.Deletion = &ledger.Deletion{} }, ""},
		{"goes, and not ready", translate.Readiness, probes.Failing, func(st *ledger.State, r *ledger.Container) { st.Deletion, r.Ready = &ledger.Deletion{}, true }, "unready"},
	} {
		pod := testPod(func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = probe("", 0, 1, 1, 1), probe("", 0, 1, 1, 1), probe("", 0, 1, 1, 1)
		})
		st := ledger.State{Containers: []ledger.Container{{Name: "web", Attempt: 2, Phase: podinit.Running, Started: true}}}
		if tt.edit != nil {
			tt.edit(&st, &st.Containers[0])
		}
		before := st.Clone()
		changed := conclude(&st, pod, probeKey{container: "web", kind: tt.kind, attempt: 2}, tt.verdict, epoch)
		got, was, is := "", before.Containers[0], st.Containers[0]
		switch {
		case is.Stop != nil && was.Stop == nil:
			got = "stop"
		case is.Started && !was.Started:
			got = "started"
		case is.Ready && !was.Ready:
			got = "ready"
		case !is.Ready && was.Ready:
			got = "unready"
		}
		if got != tt.want || changed != (tt.want != "") {
			t.Errorf("%s: %q, changed %v; want %q", tt.name, got, changed, tt.want)
		}
	}
}

// TestWhichProbesRun: only of containers that run, and those for what is in
// question.
func TestWhichProbesRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*view, *ledger.Container)
		want string
	}{
		{"started", nil, "[Liveness Readiness]"},
		{"not started", func(_ *view, r *ledger.Container) { r.Started = false }, "[Startup]"},
		{"pod goes", func(v *view, _ *ledger.Container) { v.wish = wishGone }, "[Readiness]"},
		{"pod goes, not started", func(v *view, r *ledger.Container) { v.wish, r.Started = wishGone, false }, "[]"},
		{"pod has ended", func(v *view, _ *ledger.Container) { v.wish = wishStop }, "[]"},
		{"stops", func(_ *view, r *ledger.Container) { r.Stop = &ledger.Stop{} }, "[]"},
		{"ended, as podinit knows", func(v *view, _ *ledger.Container) { v.live.Containers[0].Phase = podinit.Exited }, "[]"},
		{"next attempt", func(_ *view, r *ledger.Container) { r.Attempt = 2 }, "[]"},
		{"podinit not heard of", func(v *view, _ *ledger.Container) { v.live = nil }, "[]"},
		{"another boot", func(v *view, _ *ledger.Container) { v.live.Boot = "b2" }, "[]"},
		{"zone halts", func(v *view, _ *ledger.Container) { v.zone = zones.ShuttingDown }, "[]"},
		{"postStart hook", func(v *view, _ *ledger.Container) {
			v.pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		}, "[]"},
	} {
		v := view{
			wish: wishRun, zone: zones.Running,
			live: &podinit.State{Boot: "b", Containers: []podinit.ContainerState{{Name: "web", Attempt: 1, Phase: podinit.Running}}},
			pod: testPod(func(p *corev1.Pod) {
				c := &p.Spec.Containers[0]
				c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = probe("", 0, 1, 1, 1), probe("", 0, 1, 1, 1), probe("", 0, 1, 1, 1)
			}),
			st: &ledger.State{Boot: "b", Containers: []ledger.Container{{Name: "web", Attempt: 1, Phase: podinit.Running, Started: true}}},
		}
		if tt.edit != nil {
			tt.edit(&v, &v.st.Containers[0])
		}
		kinds := []string{}
		for key := range v.probes(7) {
			if key.container != "web" || key.zone != 7 {
				t.Errorf("%s: %+v", tt.name, key)
			}
			kinds = append(kinds, string(key.kind))
		}
		slices.Sort(kinds)
		if got := fmt.Sprint(kinds); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
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
