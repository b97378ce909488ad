package provider

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// restartsAll gives a container the rule that exit code 42 restarts all.
func restartsAll(c *corev1.Container, policy corev1.ContainerRestartPolicy) {
	c.RestartPolicy = &policy
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
}

// podOfAllKinds has a sidecar, an init container, and two others of which the
// first restarts all.
func podOfAllKinds() *corev1.Pod {
	return testPod(func(p *corev1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.InitContainers = []corev1.Container{
			{Name: "sidecar", Image: "web:1", RestartPolicy: &always}, {Name: "init", Image: "web:1"},
		}
		restartsAll(&p.Spec.Containers[0], corev1.ContainerRestartPolicyNever)
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: "web:1"})
	})
}

// soon makes init containers end well, and the others run.
func soon(name string, _ int) behaviour {
	if name == "init" {
		return behaviour{runs: time.Second}
	}
	return behaviour{}
}

func (w *world) exit(name string, code int) {
	w.host.podinit(testZone).exits[name](code, 0)
}

// startsIn returns the containers that commands started over the channel.
func startsIn(commands []string) (names []string) {
	for _, c := range commands {
		if name, ok := strings.CutPrefix(c, "start "); ok {
			names = append(names, name)
		}
	}
	return names
}

func (w *world) restartCounts() string {
	s := w.status()
	text := string(s.Phase)
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		text += fmt.Sprintf(" %s %d", c.Name, c.RestartCount)
	}
	return text
}

func TestRestartAllContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(soon)
		w.host.hasTools()
		pod := w.create(podOfAllKinds())
		settle(10 * time.Second)
		w.mustRun()
		w.debug(pod, debugger("tool"))
		settle(5 * time.Second)
		if got := w.condition(corev1.AllContainersRestarting); got == nil || got.Status != corev1.ConditionFalse {
			t.Errorf("the condition is %+v", got)
		}
		began := len(w.host.ran())
		w.exit("web", 42)
		settle(500 * time.Millisecond)
		if c := w.condition(corev1.PodInitialized); c == nil || c.Status != corev1.ConditionTrue || w.status().Phase != corev1.PodRunning {
			t.Errorf("%s, initialized: %+v", w.status().Phase, c)
		}
		settle(10 * time.Second)
		w.mustRun()
		if got, want := w.restartCounts(), "Running sidecar 1 init 1 web 1 other 1"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got, want := fmt.Sprint(startsIn(w.host.ran()[began:])), "[sidecar init web other]"; got != want {
			t.Errorf("started %s, want %s", got, want)
		}
		for _, c := range w.status().ContainerStatuses {
			e := c.LastTerminationState.Terminated
			want := map[string]string{"web": translate.ReasonError, "other": translate.ReasonRestartingAll}[c.Name]
			if e == nil || e.Reason != want {
				t.Errorf("%s had ended as %+v", c.Name, e)
			}
		}
		if tool := w.status().EphemeralContainerStatuses[0]; tool.State.Running == nil {
			t.Errorf("the ephemeral container is %+v", tool.State)
		}

		// Other exit codes are as ever.
		w.exit("other", 0)
		w.exit("web", 1)
		settle(10 * time.Second)
		if got, want := w.restartCounts(), "Failed sidecar 1 init 1 web 1 other 1"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestRestartAllAfterAQuickEnd has a container end before the one after it has
// started: that one still has its part in the round, if it can start.
func TestRestartAllAfterAQuickEnd(t *testing.T) {
	pod := podOfAllKinds()
	exit := func(code int) *ledger.Exit { return &ledger.Exit{Code: code, FinishedAt: epoch} }
	v := view{
		now: epoch, wish: wishRun, pod: pod, zone: zones.Running, live: &podinit.State{Boot: "b"},
		st: &ledger.State{Boot: "b", Initialized: true, RestartAll: ledger.RestartEnding, Containers: []ledger.Container{
			{Name: "sidecar", Phase: podinit.Running}, {Name: "init", Phase: podinit.Exited, Exit: exit(0)},
			{Name: "web", Phase: podinit.Exited, Exit: exit(42)}, {Name: "other", Phase: podinit.Waiting},
		}},
	}
	if got, want := v.endAll(), (step{act: actStart, container: "other"}); got != want {
		t.Errorf("first %+v, want %+v", got, want)
	}
	v.autostart = map[string]int{"other": 0} // until podinit has reported it
	if got := v.endAll(); got.act == actRestartAll || got.act == actStart {
		t.Errorf("while it starts: %+v", got)
	}
	v.autostart = nil
	v.st.Container("sidecar").Phase, v.st.Container("sidecar").Exit = podinit.Exited, exit(137)
	v.notBefore = map[step]time.Time{{act: actStart, container: "other"}: epoch.Add(time.Second)}
	if got := v.endAll(); got.act != actRestartAll {
		t.Errorf("if it cannot start: %+v", got)
	}
	// Before the init containers are done it is nobody's turn.
	v.notBefore, v.st.Initialized = nil, false
	v.st.Container("init").Exit = exit(42)
	if got := v.endAll(); got.act != actRestartAll {
		t.Errorf("while the init containers run: %+v", got)
	}
}

// TestRestartAllContainersAgain: what was killed has no delay, and the one that
// was the reason has that of its restarts.
func TestRestartAllContainersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(soon)
		w.create(podOfAllKinds())
		settle(10 * time.Second)
		w.exit("web", 42)
		settle(5 * time.Second)
		w.exit("web", 42)
		settle(5 * time.Second)
		if got, want := w.restartCounts(), "Running sidecar 2 init 2 web 2 other 2"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		list := w.status().ContainerStatuses
		if web, other := statusOf(t, list, "web"), statusOf(t, list, "other"); web.State.Running != nil || other.State.Running == nil {
			t.Errorf("after 5 s: %+v and %+v", web.State, other.State)
		}
		settle(restartDelay)
		w.mustRun()

		// A victim's own crash begins its own delays.
		w.exit("other", 3)
		settle(5 * time.Second)
		if got := statusOf(t, w.status().ContainerStatuses, "other"); got.State.Terminated == nil || got.State.Terminated.ExitCode != 3 {
			t.Errorf("it is %+v", got.State)
		}
	})
}

// TestRestartAllContainersByInit: an init container that fails so takes the
// sidecars with it; containers that never ran are not restarted.
func TestRestartAllContainersByInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(name string, attempt int) behaviour {
			if name == "init" && attempt == 0 {
				return behaviour{runs: time.Second, code: 42}
			}
			return soon(name, attempt)
		})
		w.create(testPod(func(p *corev1.Pod) {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers = []corev1.Container{
				{Name: "sidecar", Image: "web:1", RestartPolicy: &always}, {Name: "init", Image: "web:1"},
			}
			restartsAll(&p.Spec.InitContainers[1], corev1.ContainerRestartPolicyNever)
		}))
		settle(20 * time.Second)
		w.mustRun()
		if got, want := w.restartCounts(), "Running sidecar 1 init 1 web 0"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestAgentKilledWhileAllRestart: before or after each command, the next agent
// goes on; so it does if the zone dies meanwhile.
func TestAgentKilledWhileAllRestart(t *testing.T) {
	var commands []string
	countCommands(t, func(w *world) {
		w.host.behave(soon)
		w.create(podOfAllKinds())
		settle(10 * time.Second)
		before := len(w.host.ran())
		w.exit("web", 42)
		settle(10 * time.Second)
		commands = w.host.ran()[before:]
	})
	if len(commands) < 6 {
		t.Fatalf("it is only %q", commands)
	}
	for i := range commands {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s/%v", i, commands[i], after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.host.behave(soon)
					pod := w.create(podOfAllKinds())
					settle(10 * time.Second)
					w.killAt(i, after)
					w.exit("web", 42)
					settle(10 * time.Second)
					w.killAgent()
					w.startAgent()
					settle(time.Minute)
					w.mustRun()
					if got, want := w.restartCounts(), "Running sidecar 1 init 1 web 1 other 1"; got != want {
						t.Errorf("%s, want %s", got, want)
					}
					w.delete(pod, 30)
					settle(time.Minute)
					w.mustBeGone()
				})
			})
		}
	}
}

// TestZoneLostWhileAllEnd: the next boot starts all of them, unless the pod is
// to go.
func TestZoneLostWhileAllEnd(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		pod := podOfAllKinds()
		st := ledger.State{Boot: "b1", Initialized: true, RestartAll: ledger.RestartEnding}
		for _, c := range translate.AllContainers(pod) {
			st.Containers = append(st.Containers, ledger.Container{Name: c.Name, Phase: podinit.Running, StartedAt: epoch})
		}
		ended(st.Container("web"), ledger.Exit{Code: 42}, pod, epoch)
		if deleted {
			st.Deletion = &ledger.Deletion{At: epoch}
		}
		lost(&st, nil, pod, epoch)
		for _, r := range st.Containers {
			if again := r.Phase == podinit.Waiting && r.Attempt == 1; again == deleted {
				t.Errorf("deleted: %v: %s is %s, attempt %d", deleted, r.Name, r.Phase, r.Attempt)
			}
		}
		if st.RestartAll != "" || st.Initialized {
			t.Errorf("deleted: %v: restart %q, initialized %v", deleted, st.RestartAll, st.Initialized)
		}
	}
}
