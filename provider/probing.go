package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/probes"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// probeKey names one probe of one attempt of a container in one boot of its
// zone.
type probeKey struct {
	container string
	kind      translate.ProbeKind
	attempt   int
	zone      int // the zone's number in the kernel
}

// prober is the goroutine of one probe. The worker that started it stops it.
type prober struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *prober) stop() {
	p.cancel()
	<-p.done
}

// atStart is what is concluded about an attempt that runs and was not checked
// yet: what no probe denies is so.
func atStart(pod *corev1.Pod, name string) (started, ready bool) {
	c := container(pod, name)
	started = c == nil || c.StartupProbe == nil
	return started, started && (c == nil || c.ReadinessProbe == nil)
}

// probes are the probes that are to run now. Those for liveness and readiness
// wait for the container to have started. One that goes with its pod is only
// asked for its readiness, which the pod's users go by until the end.
func (v view) probes(zone int) map[probeKey]bool {
	wanted := map[probeKey]bool{}
	if v.zone != zones.Running || v.live == nil || v.live.Boot != v.st.Boot || v.wish == wishStop {
		return wanted
	}
	for _, c := range translate.AllContainers(v.pod) {
		r := v.st.Container(c.Name)
		if r == nil || r.Phase != podinit.Running || r.Stop != nil || translate.AwaitsHook(c, r) || !runs(v.live, r) {
			continue
		}
		want := func(kind translate.ProbeKind) {
			if translate.Probe(c, kind) != nil {
				wanted[probeKey{c.Name, kind, r.Attempt, zone}] = true
			}
		}
		switch {
		case r.Started && v.wish == wishRun:
			want(translate.Liveness)
			want(translate.Readiness)
		case r.Started:
			want(translate.Readiness)
		case v.wish == wishRun:
			want(translate.Startup)
		}
	}
	return wanted
}

// runs reports whether podinit says that the recorded attempt runs.
func runs(live *podinit.State, r *ledger.Container) bool {
	for i := range live.Containers {
		if c := &live.Containers[i]; c.Name == r.Name {
			return c.Phase == podinit.Running && c.Attempt == r.Attempt
		}
	}
	return false
}

// followProbes starts and stops goroutines until those run that v wants.
func (w *worker) followProbes(ctx context.Context, v view) {
	z := w.p.survey.zone(w.zone)
	wanted := v.probes(z.ID)
	for key, p := range w.probers {
		if !wanted[key] {
			p.stop()
			delete(w.probers, key)
		}
	}
	for key := range wanted {
		if w.probers[key] == nil {
			if w.probers == nil {
				w.probers = map[probeKey]*prober{}
			}
			w.probers[key] = w.startProber(ctx, key, v, z)
		}
	}
}

// stopProbes stops all.
func (w *worker) stopProbes() {
	for key, p := range w.probers {
		p.stop()
		delete(w.probers, key)
	}
}

func (w *worker) startProber(ctx context.Context, key probeKey, v view, z zones.Zone) *prober {
	c := container(v.pod, key.container)
	p := translate.Probe(c, key.kind)
	podIP := ""
	if addrs := translate.Addresses(v.pod, w.p.c.Node, v.st.Addresses); len(addrs) > 0 {
		podIP = addrs[0].String()
	}
	checker := translate.Checker(p, c, podIP, w.runner(z, key.container))
	spec := translate.ProbeSpec(p)
	began := v.st.Container(key.container).StartedAt
	spec.Delay -= v.now.Sub(began)
	if began.Before(w.began) {
		// Of an earlier agent: its pods' checks would all come at once.
		spec.Delay = max(spec.Delay, rand.N(spec.Period))
	}
	ctx, cancel := context.WithCancel(ctx)
	pr := &prober{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(pr.done)
		defer cancel()
		probes.Watch(ctx, spec, checker, func(r probes.Report) {
			if w.probed(key, r) {
				cancel()
			}
		})
	}()
	return pr
}

// runner runs programs in a container of the zone as it is booted now.
func (w *worker) runner(z zones.Zone, name string) translate.Run {
	channel := w.p.c.Dial(z)
	return func(ctx context.Context, args []string, out io.Writer) (int, error) {
		status, err := channel.Exec(ctx, podinit.ExecRequest{Container: name, Args: args}, podinit.Streams{Out: out, Err: out})
		return status.Code, err
	}
}

// probed takes in one check and reports whether the probe has done its work.
// It is called by the probe's goroutine: what is concluded must not wait for a
// step that the worker is about.
func (w *worker) probed(key probeKey, r probes.Report) (done bool) {
	w.mu.Lock()
	pod, st := w.pod, w.st.Clone()
	record := st.Container(key.container)
	stale := w.erased || record == nil || w.live == nil || !runs(w.live, record) || record.Attempt != key.attempt
	w.mu.Unlock()
	if stale || errors.Is(r.Err, podinit.ErrNotRunning) {
		return false // a container that is gone is not ill
	}
	w.tell(pod, key, r)
	now := time.Now()
	if !conclude(&st, pod, key, r.Verdict, now) {
		return false
	}
	changed := false
	err := w.change(func(st *ledger.State) { changed = conclude(st, pod, key, r.Verdict, now) })
	if err != nil {
		// The next check concludes the same.
		w.p.c.Log.Errorf("pod %s/%s: the verdict of a probe is not on disk: %v", w.namespace, w.name, err)
		return false
	}
	w.p.status.enqueue(w.uid)
	w.poke()
	return changed && key.kind != translate.Readiness
}

// tell makes the events of one check, in a kubelet's words.
func (w *worker) tell(pod *corev1.Pod, key probeKey, r probes.Report) {
	c := container(pod, key.container)
	switch {
	case r.Err != nil:
		w.eventOn(pod, c, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %s", key.kind, brief(r.Err.Error()))
	case !r.Result.Passed:
		w.eventOn(pod, c, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", key.kind, brief(r.Result.Message))
	case r.Result.Message != "":
		w.eventOn(pod, c, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", key.kind, brief(r.Result.Message))
	}
}

// brief makes what a service said fit for an event.
func brief(s string) string {
	const most = 1024
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// conclude changes the record as a verdict says, and reports whether there was
// anything to change. A verdict on an attempt that does not run, or runs no
// more, is none.
func conclude(st *ledger.State, pod *corev1.Pod, key probeKey, verdict probes.Verdict, now time.Time) bool {
	r := st.Container(key.container)
	if r == nil || r.Phase != podinit.Running || r.Attempt != key.attempt || r.Stop != nil || verdict == probes.Unknown {
		return false
	}
	passing := verdict == probes.Passing
	switch {
	case key.kind == translate.Readiness:
		if r.Ready == passing {
			return false
		}
		r.Ready = passing
		return true
	case !passing:
		return endByProbe(st, r, pod, key.kind, now)
	case key.kind == translate.Startup && !r.Started:
		c := container(pod, key.container)
		r.Started, r.Ready = true, c == nil || c.ReadinessProbe == nil
		return true
	}
	return false
}

// endByProbe makes an attempt end because its probe failed. A pod that goes
// anyway is left to its own end.
func endByProbe(st *ledger.State, r *ledger.Container, pod *corev1.Pod, kind translate.ProbeKind, now time.Time) bool {
	c := container(pod, r.Name)
	if c == nil || st.Deletion != nil || st.End != nil {
		return false
	}
	stop := ledger.Stop{
		At: now, Grace: translate.ProbeGrace(pod, translate.Probe(c, kind)),
		Message: fmt.Sprintf("Container %s failed %s probe", r.Name, strings.ToLower(string(kind))),
	}
	if stop.Restart = translate.Restarts(pod, r.Name, exitKilled); stop.Restart {
		stop.Message += ", will be restarted"
	}
	stopIn(st, attempt{r.Name, r.Attempt}, stop)
	return true
}

// exitKilled is the exit code of a container that was killed.
const exitKilled = 137
