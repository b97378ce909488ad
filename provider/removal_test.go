package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

func TestGrace(t *testing.T) {
	for _, tt := range []struct {
		name     string
		b        behaviour
		takes    time.Duration // at least, and not a second more
		exitCode int32
	}{
		{"obeys", behaviour{stopAfter: 3 * time.Second}, 3 * time.Second, 143},
		{"stubborn", behaviour{stubborn: true}, 20 * time.Second, 137},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.behave(func(string, int) behaviour { return tt.b })
				pod := w.create(testPod())
				settle(time.Second)
				w.delete(pod, 20)
				settle(tt.takes - 100*time.Millisecond)
				if z := w.host.state(testZone); z != zones.Running {
					t.Errorf("zone is %s before its time", z)
				}
				if _, err := w.api.get("default", "web"); err != nil {
					t.Errorf("the pod left the API server before its zone: %v", err)
				}
				settle(time.Second)
				w.mustBeGone()
				final := w.api.statuses[len(w.api.statuses)-1]
				if e := final.ContainerStatuses[0].State.Terminated; e == nil || e.ExitCode != tt.exitCode {
					t.Errorf("last state is %+v", final.ContainerStatuses[0].State)
				}
			})
		})
	}
}

// TestAnswersOfGonePods: what the API server said of a pod goes with its worker, and
// an answer that comes later is not kept.
func TestAnswersOfGonePods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		worker := w.p.worker(string(pod.UID))
		w.p.status.mu.Lock()
		if n := len(w.p.status.sent); n != 1 {
			t.Errorf("while the pod runs, %d answers are kept, want 1", n)
		}
		w.p.status.mu.Unlock()
		w.p.forget(worker) // as its last step does
		w.mustBeForgotten()
		w.p.status.keep(worker, pod.DeepCopy())
		w.mustBeForgotten()
	})
}

// TestStuckZoneBlocksNobody has a zone whose halt fails for a long time.
func TestStuckZoneBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.host.failBy(func(command string) error {
			if command == "halt" {
				return errors.New("unable to unmount")
			}
			return nil
		})
		w.delete(pod, 1)
		settle(time.Minute)
		if owners := w.pool.Owners(); len(owners) != 1 {
			t.Errorf("the address was given back under a running zone: %v", owners)
		}
		other := testPod(func(p *corev1.Pod) { p.Name, p.UID = "other", "b0000000-0000-4000-8000-000000000000" })
		w.create(other)
		settle(time.Second)
		if p, err := w.api.get("default", "other"); err != nil || p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "10.244.1.2" {
			t.Errorf("the other pod is %+v, %v", p, err)
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		if _, err := w.api.get("default", "web"); !apierrors.IsNotFound(err) {
			t.Errorf("the pod is still there: %v", err)
		}
	})
}

func TestForcedRemovalIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: 5 * time.Second} })
		pod := w.create(testPod())
		settle(time.Second)
		client := w.p.PodsGetter().Pods("default")
		options := *metav1.NewDeleteOptions(0)
		options.Preconditions = metav1.NewUIDPreconditions(testUID)
		if err := client.Delete(t.Context(), pod.Name, options); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if _, err := w.api.get("default", "web"); err != nil {
			t.Errorf("the pod left the API server before its zone: %v", err)
		}
		settle(10 * time.Second)
		w.mustBeGone()
		// A pod that the provider does not know is removed as asked.
		w.api.put(testPod())
		if err := client.Delete(t.Context(), pod.Name, options); err != nil {
			t.Fatal(err)
		}
		w.mustBeGone()
	})
}

func TestAPIServerAwayDuringRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.delete(pod, 5)
		w.api.mu.Lock()
		w.api.down = errors.New("connection refused")
		w.api.mu.Unlock()
		settle(time.Minute)
		if left := w.host.leftovers(); len(left) > 0 {
			t.Errorf("the host is not cleaned up without the API server: %v", left)
		}
		w.killAgent()
		w.startAgent()
		settle(time.Minute)
		w.api.mu.Lock()
		w.api.down = nil
		w.api.mu.Unlock()
		settle(time.Minute)
		w.mustBeGone()
	})
}

// TestNamesake has a StatefulSet's pod come back under its name while the old
// one is still there.
func TestNamesake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stopAfter: 10 * time.Second} })
		w.create(testPod())
		settle(time.Second)
		next := w.api.put(testPod(func(p *corev1.Pod) { p.UID = "b0000000-0000-4000-8000-000000000000" }))
		if _, err := w.p.GetPod(t.Context(), "default", "web"); !errdefs.IsNotFound(err) {
			t.Errorf("the old pod is taken for the new one: %v", err)
		}
		if err := w.p.CreatePod(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if p, err := w.p.GetPod(t.Context(), "default", "web"); err != nil || p.UID != next.UID {
			t.Errorf("GetPod = %v, %v", p, err)
		}
		settle(time.Minute)
		w.mustRun()
		if p, _ := w.api.get("default", "web"); p.UID != next.UID || w.host.state(testZone) != zones.Absent {
			t.Errorf("the new pod is gone (%s), or the old zone is not (%s)", p.UID, w.host.state(testZone))
		}
	})
}

func TestDanglingDeletionIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		if err := w.p.DeletePod(t.Context(), pod); err == nil {
			t.Error("a pod that the API server has was removed as dangling")
		}
		w.api.mu.Lock()
		w.api.down = errors.New("connection refused")
		w.api.mu.Unlock()
		if err := w.p.DeletePod(t.Context(), pod); err == nil {
			t.Error("a pod was removed as dangling though nobody can tell")
		}
		w.api.mu.Lock()
		w.api.down = nil
		delete(w.api.pods, "default/web")
		w.api.mu.Unlock()
		if err := w.p.DeletePod(t.Context(), pod); err != nil {
			t.Error(err)
		}
		settle(time.Minute)
		w.mustBeGone()
	})
}

func TestRefusedPodFailsWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}))
		settle(time.Second)
		s := w.status()
		if s.Phase != corev1.PodFailed || s.Reason != translate.ReasonUnsupported ||
			!strings.Contains(s.Message, "hostNetwork") || !strings.Contains(s.Message, `volume "disk": hostPath /`) {
			t.Errorf("status is %s, %s: %s", s.Phase, s.Reason, s.Message)
		}
		if len(w.host.ran()) > 0 {
			t.Errorf("the host was changed by %v", w.host.ran())
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestForeignConditionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gate := corev1.PodConditionType("example.org/gate")
		w.create(testPod(func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} }))
		settle(time.Second)
		ready := func() corev1.ConditionStatus {
			for _, c := range w.status().Conditions {
				if c.Type == corev1.PodReady {
					return c.Status
				}
			}
			return "missing"
		}
		if ready() != corev1.ConditionFalse {
			t.Errorf("ready is %s before the gate opens", ready())
		}
		p, _ := w.api.get("default", "web")
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: gate, Status: corev1.ConditionTrue})
		w.api.put(p)
		settle(time.Minute)
		if ready() != corev1.ConditionTrue {
			t.Errorf("ready is %s after the gate opened", ready())
		}
		if !slices.ContainsFunc(w.status().Conditions, func(c corev1.PodCondition) bool { return c.Type == gate }) {
			t.Error("the gate's condition was overwritten")
		}
	})
}

func TestOrphanZoneIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.killAgent()
		if err := os.RemoveAll(filepath.Join(w.data, "pods", testUID)); err != nil {
			t.Fatal(err)
		}
		w.startAgent()
		settle(30 * time.Minute)
		if z := w.host.state(testZone); z != zones.Running {
			t.Fatalf("the zone of a pod that the API server has is %s", z)
		}
		if len(w.pool.Owners()) != 1 {
			t.Error("the address of a zone without a record may be given away")
		}
		w.api.mu.Lock()
		delete(w.api.pods, "default/web")
		w.api.mu.Unlock()
		settle(5 * time.Minute)
		w.mustBeGone()
	})
}

func TestManyPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const n = 50
		ips := map[string]bool{}
		for i := range n {
			w.create(testPod(func(p *corev1.Pod) {
				p.Name = fmt.Sprintf("web-%d", i)
				p.UID = types.UID(fmt.Sprintf("c0000000-0000-4000-8000-%012d", i))
			}))
		}
		settle(5 * time.Second)
		for i := range n {
			p, err := w.api.get("default", fmt.Sprintf("web-%d", i))
			if err != nil || p.Status.Phase != corev1.PodRunning {
				t.Fatalf("pod %d: %v, %v", i, p.Status.Phase, err)
			}
			ips[p.Status.PodIP] = true
		}
		if len(ips) != n {
			t.Errorf("%d addresses for %d pods", len(ips), n)
		}
	})
}

func TestUnwritableRecordHoldsThePodBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pods := filepath.Join(w.data, "pods")
		if err := os.RemoveAll(pods); err != nil {
			t.Fatal(err)
		}
		w.create(testPod())
		settle(time.Minute)
		for _, c := range w.host.ran() { // an image is not the pod's, and datasets carry its UID
			if !slices.Contains([]string{"pull", "dataset", "clone"}, c) {
				t.Errorf("done for a pod without a record: %s", c)
			}
		}
		if err := os.Mkdir(pods, 0o700); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		w.mustRun()
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.killAgent() // and waits for Run
		if err := w.p.CreatePod(context.Background(), testPod(func(p *corev1.Pod) { p.UID, p.Name = "d0000000-0000-4000-8000-000000000000", "late" })); err != nil {
			t.Error(err)
		}
	})
}

func TestOrphanLinkIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		w.host.mu.Lock()
		for _, name := range []string{"rdw9", "rdwgw0", "foreign9"} {
			w.host.vnics[name] = true
		}
		w.host.mu.Unlock()
		settle(15 * time.Minute)
		w.mustRun()
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		if v := w.host.vnics; v["rdw9"] || !v["rdw1"] || !v["rdwgw0"] || !v["foreign9"] {
			t.Errorf("links are %v", v)
		}
	})
}

// A pod of the global zone has no address, and yet a record before anything is
// done for it.
func TestHostPodIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		class := translate.HostClass
		pod := testPod(func(p *corev1.Pod) { p.Spec.RuntimeClassName = &class })
		k := newWorker(w.p, pod, ledger.State{UID: testUID, Containers: []ledger.Container{{Name: "web"}}})
		if err := k.change(func(st *ledger.State) { st.Brand = "host" }); err != nil {
			t.Fatal(err)
		}
		store, err := ledger.Open(filepath.Join(w.data, "pods"))
		if err != nil {
			t.Fatal(err)
		}
		if records, _, _ := store.Load(); len(records) > 0 {
			t.Errorf("recorded before anything was decided: %+v", records)
		}
		if err := errors.Join(k.assignAddress(), k.settle()); err != nil {
			t.Fatal(err)
		}
		records, _, _ := store.Load()
		if len(records) != 1 || records[0].State.Boot != ledger.BootPending || records[0].State.Slot != 0 || records[0].State.Brand != "host" {
			t.Errorf("records %+v", records)
		}
		if owners := w.pool.Owners(); len(owners) > 0 {
			t.Errorf("it took an address: %v", owners)
		}
		if k.have != (prepared{address: true, pending: true}) {
			t.Errorf("prepared %+v", k.have)
		}
	})
}
