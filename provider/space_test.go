package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/server"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
)

// crowd is a world with three pods, of which the last is critical and has written
// most, on a host that is short of space.
func crowd(t *testing.T) (*world, translate.Shortage) {
	w := newWorld(t)
	critical := int32(2_000_000_000)
	for i := range 3 {
		w.create(testPod(func(p *corev1.Pod) {
			p.Name, p.UID = fmt.Sprintf("web%d", i), types.UID(fmt.Sprintf("%d%s", i, testUID[1:]))
			if i == 2 {
				p.Spec.Priority = &critical
			}
		}))
	}
	settle(time.Second)
	for i := range 3 {
		w.log(uidOf(i), "what it said")
	}
	w.fill(8<<30, 0)
	return w, translate.Shortage{Resource: corev1.ResourceEphemeralStorage, Available: 8 << 30, Threshold: 10 << 30}
}

func uidOf(i int) string { return fmt.Sprintf("%d%s", i, testUID[1:]) }

// fill says how much space is left and what pods have written: the nth n GiB.
func (w *world) fill(available, freeing int64) {
	w.host.use(func(u *fakeUse) {
		u.available, u.freeing = available, freeing
		for i := range 3 {
			n := int64(i+1) << 30
			u.space[uidOf(i)] = storage.PodUsage{Usage: storage.Usage{Used: n}, Containers: map[string]storage.Usage{"web": {Used: n}}}
		}
	})
}

// log writes a line to the log of a pod's first attempt.
func (w *world) log(uid, line string) {
	w.t.Helper()
	dir := filepath.Join(w.host.dir, "pods", uid, translate.LogDir, "web")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	text := "2026-01-02T03:04:05.000000006Z stdout F " + line + "\n"
	if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// said is what kubectl logs shows of a pod.
func (w *world) said(name string) string {
	w.t.Helper()
	r, err := w.p.Logs(w.t.Context(), "default", name, "web", server.LogOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// TestEvictionForSpace tells the provider again and again that space is short:
// images go first, then one pod after another, each only when the one before has
// let go of its datasets and ZFS has given them back.
func TestEvictionForSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, short := crowd(t)
		w.killAgent()
		relieved, enough := 0, true
		w.relieve = func(context.Context) error {
			relieved++
			if enough {
				w.fill(11<<30, 0)
			}
			return nil
		}
		w.startAgent()
		settle(time.Second)
		w.p.Short(short)
		settle(9 * time.Second)
		if relieved != 1 {
			t.Fatalf("images were removed %d times", relieved)
		}
		w.mustBe("web0 Running, web1 Running, web2 Running")

		enough = false
		w.fill(8<<30, 0)
		w.p.Short(short)
		w.p.Short(short) // of the same shortage
		settle(9 * time.Second)
		w.mustBe("web0 Running, web1 Failed Evicted, web2 Running")
		w.mustBeLetGo(uidOf(1))
		if got := w.said("web1"); got != "what it said\n" {
			t.Errorf("its log is %q", got)
		}
		p, err := w.api.get("default", "web1")
		if err != nil {
			t.Fatal(err)
		}
		want := "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 8388608Ki. Container web was using 2097152Ki, request is 0, has larger consumption of ephemeral-storage. "
		if s := p.Status; s.Message != want || s.PodIP == "" || !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "TerminationByKubelet" && c.Message == want
		}) {
			t.Errorf("status %+v", s)
		}
		if !w.events.has("EvictionThresholdMet: Attempting to reclaim ephemeral-storage") {
			t.Errorf("events %v", w.events.reasons)
		}

		w.fill(8<<30, 3<<30) // on its way
		w.p.Short(short)
		settle(9 * time.Second)
		w.mustBe("web0 Running, web1 Failed Evicted, web2 Running")
		w.fill(8<<30, 1<<30)
		w.p.Short(short)
		settle(9 * time.Second)
		w.mustBe("web0 Failed Evicted, web1 Failed Evicted, web2 Running")
		w.p.Short(short)
		settle(9 * time.Second)
		w.mustBe("web0 Failed Evicted, web1 Failed Evicted, web2 Running") // it is critical
	})
}

// TestEvictionForSpaceWaits has a host that does not give the datasets of the
// evicted pod back: no other goes within the time that a kubelet waits, and one
// does after it.
func TestEvictionForSpaceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, short := crowd(t)
		w.host.failBy(func(command string) error {
			if command == "reclaim" {
				return storage.ErrBusy
			}
			return nil
		})
		for range 3 {
			w.p.Short(short)
			settle(9 * time.Second)
			w.mustBe("web0 Running, web1 Failed Evicted, web2 Running")
		}
		if !w.events.has("FailedKillPod: error killing pod: reclaim: dataset is busy") {
			t.Errorf("events %v", w.events.reasons)
		}
		settle(10 * time.Second)
		w.p.Short(short)
		settle(9 * time.Second)
		w.mustBe("web0 Failed Evicted, web1 Failed Evicted, web2 Running")
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		w.mustBeLetGo(uidOf(0))
		w.mustBeLetGo(uidOf(1))
	})
}

// TestEvictionForSpaceUnmeasured evicts nobody while it is not known how much
// space there is.
func TestEvictionForSpaceUnmeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, short := crowd(t)
		w.host.use(func(u *fakeUse) { u.err = errors.New("zfs is away") })
		w.p.Short(short)
		settle(time.Minute)
		w.mustBe("web0 Running, web1 Running, web2 Running")
	})
}

// TestComingUnderPressure refuses pods while the node has no space, and keeps
// those that it let in before.
func TestComingUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := crowd(t)
		w.pressures = []corev1.NodeConditionType{corev1.NodeDiskPressure}
		w.create(asking("again", 7, "1", nil))
		w.create(asking("dns", 8, "1", new(int32(2_000_000_000))))
		w.killAgent()
		if err := os.RemoveAll(filepath.Join(w.data, "pods", uidOf(0))); err != nil {
			t.Fatal(err)
		}
		w.startAgent()
		w.relist() // of which one is new to it, and had been let in
		settle(time.Minute)
		w.mustBe("again Failed Evicted, dns Running, web0 Running, web1 Running")
		p, err := w.api.get("default", "again")
		if err != nil {
			t.Fatal(err)
		}
		if p.Status.Message != "The node had condition: [DiskPressure]. " || len(p.Status.ContainerStatuses) > 0 {
			t.Errorf("status %+v", p.Status)
		}
	})
}

// TestAgentDiesWhileLettingGo kills the agent at each command that follows an
// eviction, before it and after it: the next one does the rest, once, and what
// the pod had can be another's.
func TestAgentDiesWhileLettingGo(t *testing.T) {
	for n := 0; ; n++ {
		ran := true
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w, short := crowd(t)
				died := w.killAt(n, after)
				w.p.Short(short)
				settle(5 * time.Second)
				ran = died()
				w.host.failBy(func(string) error { return nil })
				w.killAgent()
				w.startAgent()
				w.relist()
				settle(time.Minute)
				w.mustBe("web0 Running, web1 Failed Evicted, web2 Running")
				w.mustBeLetGo(uidOf(1))
				if got := w.said("web1"); got != "what it said\n" {
					t.Errorf("its log is %q", got)
				}
				next := w.create(testPod(func(p *corev1.Pod) { p.UID = types.UID(uidOf(9)) }))
				settle(time.Second)
				w.mustRun()
				w.killAgent()
				w.startAgent() // which finds the address in two records
				settle(time.Minute)
				w.mustRun()
				w.delete(next, 1)
				evicted, err := w.api.get("default", "web1")
				if err != nil {
					t.Fatal(err)
				}
				w.delete(evicted, 1)
				settle(time.Minute)
				if _, err := os.Stat(filepath.Join(w.host.dir, "pods", uidOf(1))); !os.IsNotExist(err) {
					t.Errorf("its logs stay after its deletion: %v", err)
				}
				w.mustBe("web0 Running, web2 Running")
			})
		}
		if !ran {
			if n < 6 {
				t.Errorf("it takes %d commands only", n)
			}
			return
		}
	}
}
