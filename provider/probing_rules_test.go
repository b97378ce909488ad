package provider

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/probes"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

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
