package provider

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// endingPod ends by itself, a second after it has started.
func (w *modelWorld) endingPod() {
	w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second} })
	pod := volumePod()
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	w.create(pod)
}

// mustHaveEnded checks what a pod that has ended leaves on the host.
func (w *modelWorld) mustHaveEnded() {
	w.t.Helper()
	if s := w.status(); s.Phase != corev1.PodSucceeded || s.ContainerStatuses[0].State.Terminated == nil || s.ContainerStatuses[0].State.Terminated.ExitCode != 0 {
		w.t.Errorf("it is %s: %+v", s.Phase, s.ContainerStatuses)
	}
	for _, text := range []string{w.show("zoneadm", "list", "-c"), w.show("dladm", "show-vnic")} {
		if strings.Contains(text, testUID) || strings.Contains(text, "rdw1") {
			w.t.Errorf("left on the host:\n%s", text)
		}
	}
	pod := "rpool/reddwarf/pods/" + testUID
	if got := w.show("zfs", "list", "-H", "-o", "name", "-t", "all", "-r", pod); got != pod+"\n" {
		w.t.Errorf("datasets left: %q", got)
	}
	if len(w.pool.Owners()) > 0 || len(w.p.ImageUsers()) > 0 {
		w.t.Errorf("addresses of %v, images of %v", w.pool.Owners(), w.p.ImageUsers())
	}
}

// TestAgentKilledAtEveryCommandOfAnEnd kills the agent at each command by which
// it lets go of a pod that has ended, before it and after it.
func TestAgentKilledAtEveryCommandOfAnEnd(t *testing.T) {
	var before, whole int
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		w.ran()
		w.endingPod()
		settle(500 * time.Millisecond)
		before = len(w.ran())
		settle(20 * time.Second)
		commands := w.ran()
		whole = before + len(commands)
		w.mustHaveEnded()
		settle(10 * time.Minute)
		if again := w.ran(); slices.ContainsFunc(again, func(c string) bool { return strings.Contains(c, testUID) }) {
			t.Errorf("what is gone is looked at again: %q", again)
		}
		t.Logf("let go by:\n%s", strings.Join(commands, "\n"))
	})
	for i := before; i < whole; i++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", i-before, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newModelWorld(t)
					w.killAt(i, after)
					w.endingPod()
					settle(10 * time.Second)
					w.killAgent()
					w.failBy(func(string) error { return nil })
					w.startAgent()
					w.relist()
					settle(time.Minute)
					w.mustHaveEnded()
				})
			})
		}
	}
}

// TestEveryCommandOfAnEndFails makes each of these commands fail once: the agent
// tries again and comes to the same end.
func TestEveryCommandOfAnEndFails(t *testing.T) {
	for i := range 16 {
		synctest.Test(t, func(t *testing.T) {
			w := newModelWorld(t)
			w.endingPod()
			settle(500 * time.Millisecond)
			var mu sync.Mutex
			count := 0
			w.failBy(func(string) error {
				mu.Lock()
				defer mu.Unlock()
				if count++; count == i+1 {
					return errors.New("interrupted")
				}
				return nil
			})
			settle(time.Minute)
			w.mustHaveEnded()
		})
	}
}
