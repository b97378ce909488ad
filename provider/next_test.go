package provider

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// simulate does to a view what a step does to the world when it succeeds.
func simulate(t *testing.T, v *view, s step) {
	t.Helper()
	r := v.st.Container(s.container)
	switch s.act {
	case actPull:
		r.Image = &ledger.Image{ID: "x", Ref: container(v.pod, s.container).Image}
		v.have.storage, v.have.files = false, false
	case actRetire:
		ended(r, ledger.Exit{Code: 137, Attempt: r.Attempt, FinishedAt: v.now}, v.pod, v.now)
		again(r)
	case actRenew:
		renewImage(r, &ledger.Image{Ref: container(v.pod, s.container).Image})
		r.Place, v.st.Places = spares(v.st), v.st.Places+1
	case actAddress:
		v.have.address = true
	case actStorage:
		v.have.storage = true
	case actLink:
		v.have.link = true
	case actFiles:
		v.have.files = true
	case actConfigure:
		v.have.configured, v.zone = true, zones.Configured
	case actInstall:
		v.zone = zones.Installed
	case actBoot:
		v.zone, v.have, v.st.Boot = zones.Running, prepared{}, "b2"
		v.live = &podinit.State{Boot: "b2"}
		for _, c := range translate.AllContainers(v.pod) {
			v.live.Containers = append(v.live.Containers, podinit.ContainerState{Name: c.Name, Phase: podinit.Running})
			v.st.Container(c.Name).Phase = podinit.Running
		}
	case actStart:
		r.Phase = podinit.Running
	case actRestart:
		again(r)
	case actLost:
		lost(v.st, nil, v.pod, v.now)
		v.have = prepared{}
	case actEnd:
		v.st.End = &ledger.End{Phase: corev1.PodFailed, At: v.now}
		v.wish = wishStop
	case actPostStart, actPreStop:
		v.hooks[hook{attempt{s.container, r.Attempt}, s.act == actPreStop}] = true
		r.Hooked = r.Hooked || s.act == actPostStart
	case actSignal:
		v.stops[attempt{s.container, r.Attempt}] = stopping{signalled: v.now}
	case actKill:
		v.stops[attempt{s.container, r.Attempt}] = stopping{signalled: v.now, killed: v.now}
	case actHalt:
		v.zone, v.live = zones.Installed, nil
	case actUninstall:
		v.zone, v.have.configured = zones.Configured, false
	case actUnconfigure:
		v.zone = zones.Absent
	case actExpose:
		v.have.ports = true
	case actConceal:
		v.gone.ports = true
	case actUnlink:
		v.gone.link = true
	case actReclaim:
		v.gone.roots = true
	case actErase:
		v.gone.data = true
	case actRelease:
		v.gone.address, v.st.Released = true, true
	case actReport:
		v.gone.object = true
	case actWait:
		if s.until.IsZero() {
			t.Fatal("a wait without end is no step")
		}
		v.now = s.until
	default:
		t.Fatalf("unknown action %q", s.act)
	}
}

// settled reports whether the world is as wished.
func settled(v view, s step) bool {
	switch v.wish {
	case wishRun:
		return v.zone == zones.Running && s == wait(time.Time{})
	case wishStop:
		return v.zone == zones.Absent && v.st.Released && s == wait(time.Time{})
	}
	return s.act == actForget
}

// TestConvergence starts from every state of a zone, with every kind of record
// that an agent may have left, and follows the steps to the wish.
func TestConvergence(t *testing.T) {
	const most = 20
	records := map[string]func(*view){
		"new":     func(*view) {},
		"pulled":  func(v *view) { v.st.Containers[0].Image = &ledger.Image{Ref: "web:1"} },
		"pending": func(v *view) { v.st.Boot = ledger.BootPending },
		"recorded": func(v *view) {
			v.st.Boot, v.have = ledger.BootPending, prepared{address: true, pending: true}
		},
		"prepared": func(v *view) {
			v.have = prepared{address: true, storage: true, mounts: true, link: true, files: true, configured: true}
		},
		"about to boot": func(v *view) {
			v.st.Boot = ledger.BootPending
			v.have = prepared{address: true, storage: true, mounts: true, link: true, files: true, configured: true, pending: true}
		},
		"running": func(v *view) {
			v.st.Boot, v.st.Containers[0].Phase = "b1", podinit.Running
			v.live = &podinit.State{Boot: "b1", Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}}
		},
		"running, not heard of": func(v *view) { v.st.Boot, v.st.Containers[0].Phase = "b1", podinit.Running },
		"rebooted by others": func(v *view) {
			v.st.Boot, v.st.Containers[0].Phase = "b0", podinit.Running
			v.live = &podinit.State{Boot: "b1", Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}}
		},
		"running with the image before": func(v *view) {
			v.st.Boot, v.st.Containers[0].Phase, v.st.Containers[0].Image = "b1", podinit.Running, &ledger.Image{Ref: "web:0"}
			v.live = &podinit.State{Boot: "b1", Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}}
		},
		"prepared with the image before": func(v *view) {
			v.st.Containers[0].Image = &ledger.Image{Ref: "web:0"}
			v.have = prepared{address: true, storage: true, mounts: true, link: true, files: true, configured: true}
		},
		"exited": func(v *view) {
			v.st.Boot = "b1"
			v.live = &podinit.State{Boot: "b1", Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Exited}}}
			ended(&v.st.Containers[0], ledger.Exit{Code: 1}, v.pod, v.now)
		},
	}
	for _, state := range zones.States {
		for name, edit := range records {
			for _, w := range []wish{wishRun, wishStop, wishGone} {
				t.Run(fmt.Sprintf("%s/%s/%d", state, name, w), func(t *testing.T) {
					v := view{
						now: epoch, wish: w, pod: testPod(), zone: state, notBefore: map[step]time.Time{}, hooks: map[hook]bool{}, stops: map[attempt]stopping{},
						st: &ledger.State{UID: testUID, Accepted: epoch, Containers: []ledger.Container{{Name: "web", Phase: podinit.Waiting}}},
					}
					edit(&v)
					if state != zones.Running {
						v.live = nil // nobody to be heard
					}
					if w == wishStop {
						v.st.End = &ledger.End{Phase: corev1.PodFailed, At: epoch}
					}
					if w == wishGone {
						v.st.Deletion = &ledger.Deletion{At: epoch, Grace: 30 * time.Second}
					}
					var trail []step
					for range most {
						s := next(v)
						trail = append(trail, s)
						if settled(v, s) {
							return
						}
						if w == wishRun && state == zones.Running && v.live == nil && s == wait(time.Time{}) {
							return // nothing can be decided before podinit is heard of
						}
						simulate(t, &v, s)
					}
					t.Fatalf("not there after %d steps: %v", most, trail)
				})
			}
		}
	}
}

// TestConvergenceOfOrder follows pods whose containers depend on each other.
func TestConvergenceOfOrder(t *testing.T) {
	hooks := &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}},
		PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}},
	}
	pod := testPod()
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "s1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		{Name: "init"},
		{Name: "s2", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Lifecycle: hooks},
	}
	pod.Spec.Containers = []corev1.Container{{Name: "web", Lifecycle: hooks}, {Name: "web2"}}
	v := view{
		now: epoch, wish: wishRun, pod: pod, zone: zones.Running, live: &podinit.State{Boot: "b1"},
		notBefore: map[step]time.Time{}, hooks: map[hook]bool{}, stops: map[attempt]stopping{},
		st: &ledger.State{UID: testUID, Accepted: epoch, Boot: "b1"},
	}
	for _, c := range translate.AllContainers(pod) {
		v.st.Containers = append(v.st.Containers, ledger.Container{Name: c.Name, Phase: podinit.Waiting})
		v.live.Containers = append(v.live.Containers, podinit.ContainerState{Name: c.Name, Phase: podinit.Waiting})
	}
	live := func(name string) *podinit.ContainerState {
		for i := range v.live.Containers {
			if v.live.Containers[i].Name == name {
				return &v.live.Containers[i]
			}
		}
		return nil
	}
	// follow performs steps, with what they lead to, until nothing is to be done.
	follow := func() (trail []string) {
		for range 40 {
			s := next(v)
			if s.act == actWait && s.until.IsZero() || s.act == actHalt {
				return trail
			}
			if s.act != actWait {
				trail = append(trail, fmt.Sprintf("%s %s", s.act, s.container))
			}
			simulate(t, &v, s)
			r := v.st.Container(s.container)
			switch s.act {
			case actStart, actPostStart:
				live(s.container).Phase = podinit.Running
				if !translate.AwaitsHook(container(pod, s.container), r) {
					up(pod, r)
				}
				if s.container == "init" {
					live(s.container).Phase = podinit.Exited
					ended(r, ledger.Exit{}, pod, v.now)
				}
				v.st.Initialized = v.st.Initialized || !isInit(pod, s.container)
			case actSignal, actKill:
				live(s.container).Phase = podinit.Exited
				ended(r, ledger.Exit{Code: 143}, pod, v.now)
			}
		}
		t.Fatalf("no end: %q", trail)
		return nil
	}
	up1 := "[start s1 start init start s2 postStart s2 start web postStart web start web2]"
	if got := fmt.Sprint(follow()); got != up1 {
		t.Errorf("started by %s, want %s", got, up1)
	}

	// A sidecar that ends is started again and holds nobody up.
	live("s1").Phase = podinit.Exited
	ended(v.st.Container("s1"), ledger.Exit{Code: 0}, pod, v.now)
	if got := fmt.Sprint(follow()); got != "[restart s1 start s1]" {
		t.Errorf("the sidecar came back by %s", got)
	}

	v.wish = wishGone
	v.st.Deletion = &ledger.Deletion{At: v.now, Grace: 30 * time.Second}
	down := "[preStop s2 preStop web signal web signal web2 signal s2 signal s1]"
	if got := fmt.Sprint(follow()); got != down {
		t.Errorf("stopped by %s, want %s", got, down)
	}
}

// TestRemovalOrder follows a removal and checks that nothing is taken away
// under something that still needs it.
func TestRemovalOrder(t *testing.T) {
	v := view{
		now: epoch, wish: wishGone, pod: testPod(), zone: zones.Running, notBefore: map[step]time.Time{}, hooks: map[hook]bool{}, stops: map[attempt]stopping{},
		st: &ledger.State{
			UID: testUID, Boot: "b1", Containers: []ledger.Container{{Name: "web", Phase: podinit.Running}},
			Deletion: &ledger.Deletion{At: epoch, Grace: 30 * time.Second},
		},
		live: &podinit.State{Boot: "b1", Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}},
	}
	var got []action
	for range 20 {
		s := next(v)
		got = append(got, s.act)
		if s.act == actForget {
			break
		}
		simulate(t, &v, s)
	}
	want := []action{
		actSignal, actWait, actKill, actWait, actHalt, actLost, actUninstall, actUnconfigure,
		actUnlink, actErase, actRelease, actReport, actForget,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("steps are\n%v, want\n%v", got, want)
	}
}

// TestEndOrder follows the end of a pod that is not deleted.
func TestEndOrder(t *testing.T) {
	v := view{
		now: epoch, wish: wishStop, pod: testPod(), zone: zones.Down, notBefore: map[step]time.Time{}, hooks: map[hook]bool{}, stops: map[attempt]stopping{},
		st: &ledger.State{
			UID: testUID, Boot: "b1", Containers: []ledger.Container{{Name: "web", Phase: podinit.Running}},
			End: &ledger.End{Phase: corev1.PodFailed, At: epoch},
		},
	}
	v.pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
	var got []action
	for range 20 {
		s := next(v)
		if s == wait(time.Time{}) {
			break
		}
		got = append(got, s.act)
		simulate(t, &v, s)
	}
	want := []action{actHalt, actLost, actConceal, actUninstall, actUnconfigure, actUnlink, actReclaim, actRelease}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("steps are\n%v, want\n%v", got, want)
	}
}

func TestNext(t *testing.T) {
	never := corev1.RestartPolicyNever
	for _, tt := range []struct {
		name string
		edit func(*view)
		want step
	}{
		{"a failed step waits", func(v *view) {
			v.notBefore[step{act: actPull, container: "web"}] = epoch.Add(time.Minute)
		}, wait(epoch.Add(time.Minute))},
		{"a failed step is tried again in time", func(v *view) {
			v.notBefore[step{act: actPull, container: "web"}] = epoch
		}, step{act: actPull, container: "web"}},
		{"a zone without this agent's preparations is configured anew", func(v *view) {
			v.zone, v.st.Containers[0].Image = zones.Configured, &ledger.Image{Ref: "web:1"}
			v.have = prepared{address: true, storage: true, link: true, files: true}
		}, step{act: actUnconfigure}},
		{"a container that may not restart ends the pod", func(v *view) {
			v.zone, v.st.Boot, v.pod.Spec.RestartPolicy = zones.Running, "b1", never
			v.live = &podinit.State{Boot: "b1"}
			ended(&v.st.Containers[0], ledger.Exit{Code: 3}, v.pod, v.now)
		}, step{act: actEnd}},
		{"a container in backoff waits", func(v *view) {
			v.zone, v.st.Boot = zones.Running, "b1"
			v.live = &podinit.State{Boot: "b1"}
			v.st.Containers[0].Backoff = 40 * time.Second
			ended(&v.st.Containers[0], ledger.Exit{Code: 3}, v.pod, v.now)
		}, wait(epoch.Add(40 * time.Second))},
		{"the active deadline ends the pod", func(v *view) {
			v.pod.Spec.ActiveDeadlineSeconds = new(int64)
		}, step{act: actEnd}},
		{"a deletion does not wait for podinit without end", func(v *view) {
			v.wish, v.zone = wishGone, zones.Running
			v.st.Deletion = &ledger.Deletion{At: epoch, Grace: 5 * time.Second}
		}, wait(epoch.Add(5 * time.Second))},
		{"no grace, no signal", func(v *view) {
			v.wish, v.zone = wishGone, zones.Running
			v.st.Deletion = &ledger.Deletion{At: epoch}
			v.live = &podinit.State{Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}}
		}, step{act: actKill, container: "web"}},
		{"a zone that hangs is halted again, later", func(v *view) {
			v.wish, v.zone = wishGone, zones.Down
			v.st.Deletion = &ledger.Deletion{At: epoch}
			v.notBefore[step{act: actHalt}] = epoch.Add(time.Second)
		}, wait(epoch.Add(time.Second))},
		{"the first init container comes first", func(v *view) {
			v.zone, v.st.Boot = zones.Running, "b1"
			v.live = &podinit.State{Boot: "b1"}
			v.pod.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}}
			v.st.Containers = []ledger.Container{
				{Name: "a", Phase: podinit.Exited, Exit: &ledger.Exit{}}, {Name: "b", Phase: podinit.Waiting}, {Name: "web", Phase: podinit.Waiting},
			}
		}, step{act: actStart, container: "b"}},
		{"a failed hook's container is killed when its grace is over", func(v *view) {
			v.zone, v.st.Boot, v.live = zones.Running, "b1", &podinit.State{Boot: "b1"}
			v.st.Containers[0].Phase = podinit.Running
			v.st.Containers[0].Stop = &ledger.Stop{At: epoch.Add(-30 * time.Second), Grace: 30 * time.Second}
			v.stops[attempt{"web", 0}] = stopping{signalled: epoch.Add(-30 * time.Second)}
		}, step{act: actKill, container: "web"}},
		{"one that survives its kill is killed again", func(v *view) {
			v.zone, v.st.Boot, v.live = zones.Running, "b1", &podinit.State{Boot: "b1"}
			v.st.Containers[0].Phase = podinit.Running
			v.st.Containers[0].Stop = &ledger.Stop{At: epoch.Add(-time.Minute), Grace: 30 * time.Second}
			v.stops[attempt{"web", 0}] = stopping{killed: epoch.Add(-time.Minute)}
		}, step{act: actKill, container: "web"}},
		{"a hook that lasts too long is not waited for", func(v *view) {
			v.wish, v.zone = wishGone, zones.Running
			v.pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}
			v.hooks[hook{attempt{"web", 0}, true}] = false
			v.st.Deletion = &ledger.Deletion{At: epoch.Add(-30 * time.Second), Grace: 30 * time.Second}
			v.live = &podinit.State{Containers: []podinit.ContainerState{{Name: "web", Phase: podinit.Running}}}
		}, step{act: actSignal, container: "web"}},
		{"a sidecar waits for the others", func(v *view) {
			v.wish, v.zone = wishGone, zones.Running
			v.pod.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			v.stops[attempt{"web", 0}] = stopping{signalled: epoch}
			v.st.Deletion = &ledger.Deletion{At: epoch, Grace: 30 * time.Second}
			v.live = &podinit.State{Containers: []podinit.ContainerState{{Name: "s", Phase: podinit.Running}, {Name: "web", Phase: podinit.Running}}}
		}, wait(epoch.Add(30 * time.Second))},
		{"sidecars alone do not keep a pod alive", func(v *view) {
			v.zone, v.st.Boot, v.live = zones.Running, "b1", &podinit.State{Boot: "b1"}
			v.pod.Spec.RestartPolicy = never
			v.pod.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			v.st.Containers = append(v.st.Containers, ledger.Container{Name: "s", Phase: podinit.Running})
			ended(&v.st.Containers[0], ledger.Exit{}, v.pod, v.now)
		}, step{act: actEnd}},
		{"what podinit starts by itself is not started twice", func(v *view) {
			v.zone, v.st.Boot, v.live = zones.Running, "b1", &podinit.State{Boot: "b1"}
			v.autostart = map[string]int{"web": 0}
		}, wait(time.Time{})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := view{
				now: epoch, wish: wishRun, pod: testPod(), zone: zones.Absent, notBefore: map[step]time.Time{}, hooks: map[hook]bool{}, stops: map[attempt]stopping{},
				st: &ledger.State{UID: testUID, Accepted: epoch, Containers: []ledger.Container{{Name: "web", Phase: podinit.Waiting}}},
			}
			tt.edit(&v)
			if got := next(v); got != tt.want {
				t.Errorf("next = %+v, want %+v", got, tt.want)
			}
		})
	}
}
