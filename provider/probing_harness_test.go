package provider

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

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
