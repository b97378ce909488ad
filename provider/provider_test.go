package provider

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
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

// deadly returns a fault that is the agent's death at the nth command from now,
// before or after it, and what tells whether it has died.
func deadly(n int, after bool, kill func()) (fault func(string) error, died func() bool) {
	var mu sync.Mutex
	count := 0
	fault = func(string) error {
		mu.Lock()
		defer mu.Unlock()
		count++
		if count != n+1 {
			return nil
		}
		kill()
		if after {
			return nil
		}
		return errKilled
	}
	return fault, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return count > n
	}
}

// killAt makes the agent die at the nth command from now, before or after it, and
// returns what tells whether it has.
func (w *world) killAt(n int, after bool) (died func() bool) {
	fault, died := deadly(n, after, w.kill)
	w.host.failBy(fault)
	return died
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
						w.mustBeRecorded()
						w.startAgent()
						w.relist()
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
				var count atomic.Int32
				w.host.failBy(func(string) error {
					if count.Add(1) == int32(i)+1 {
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
