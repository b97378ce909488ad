package provider

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/globalzone"
	"reddwarf.io/reddwarf/zones/podinit"
)

func (w *world) summary() *statsv1alpha1.Summary {
	w.t.Helper()
	s, err := w.p.StatsSummary(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) times(command string) int {
	n := 0
	for _, c := range w.host.ran() {
		if c == command {
			n++
		}
	}
	return n
}

func TestStatsSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(5 * time.Second)
		w.mustRun()
		logs := filepath.Join(w.host.dir, "pods", testUID, translate.LogDir, "web")
		if err := os.MkdirAll(logs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(logs, "0.log"), make([]byte, 300), 0o600); err != nil {
			t.Fatal(err)
		}
		w.host.use(func(u *fakeUse) {
			u.zones[1] = globalzone.ZoneUsage{CPU: 10 * time.Second, RSS: 50 << 20, HasRSS: true, Processes: 3}
			u.containers["web"] = podinit.ContainerUsage{Name: "web", CPU: 9 * time.Second, RSS: 40 << 20}
			u.space[testUID] = storage.PodUsage{
				Usage: storage.Usage{Used: 7 << 20, Available: 1 << 30}, Containers: map[string]storage.Usage{"web": {Used: 5 << 20, Available: 1 << 30}},
			}
		})
		s := w.summary()
		if len(s.Pods) != 1 || len(s.Pods[0].Containers) != 1 {
			t.Fatalf("summary: %+v", s.Pods)
		}
		pod, c := s.Pods[0], s.Pods[0].Containers[0]
		if *pod.CPU.UsageCoreNanoSeconds != 10e9 || pod.CPU.UsageNanoCores != nil || *pod.Memory.WorkingSetBytes != 50<<20 {
			t.Errorf("pod: cpu %+v, memory %+v", pod.CPU, pod.Memory)
		}
		// The only container of a zone is the zone.
		if *c.CPU.UsageCoreNanoSeconds != 10e9 || *c.Memory.RSSBytes != 50<<20 || *c.Rootfs.UsedBytes != 5<<20 || *c.Logs.UsedBytes != 300 {
			t.Errorf("container: %+v %+v %+v %+v", c.CPU, c.Memory, c.Rootfs, c.Logs)
		}
		if *pod.EphemeralStorage.UsedBytes != 7<<20 || *pod.Network.RxBytes != 10 || *pod.ProcessStats.ProcessCount != 3 {
			t.Errorf("pod: %+v %+v %+v", pod.EphemeralStorage, pod.Network, pod.ProcessStats)
		}
		if *s.Node.Memory.WorkingSetBytes != 3<<30 || *s.Node.Fs.AvailableBytes != 60<<30 || *s.Node.Runtime.ImageFs.UsedBytes != 1<<20 {
			t.Errorf("node: %+v %+v %+v", s.Node.Memory, s.Node.Fs, s.Node.Runtime)
		}

		// Who asks again soon gets the same answer, and later a rate.
		w.host.use(func(u *fakeUse) {
			u.zones[1] = globalzone.ZoneUsage{CPU: 15 * time.Second, RSS: 50 << 20, HasRSS: true}
		})
		if again := w.summary(); *again.Pods[0].CPU.UsageCoreNanoSeconds != 10e9 || w.times("kstat") != 1 {
			t.Errorf("asked the host %d times: %+v", w.times("kstat"), again.Pods[0].CPU)
		}
		settle(20 * time.Second)
		if later := w.summary().Pods[0].CPU; *later.UsageCoreNanoSeconds != 15e9 || later.UsageNanoCores == nil || *later.UsageNanoCores != 250e6 {
			t.Errorf("after 20 s: %+v, want 5 s more and a quarter of a processor", later)
		}
	})
}

// TestStatsOfANewPod: a pod that has just come is in the next answer, however
// young the last one is.
func TestStatsOfANewPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		settle(time.Second)
		if s := w.summary(); len(s.Pods) != 0 || s.Node.NodeName != "host1" {
			t.Errorf("without pods: %+v", s)
		}
		w.create(testPod())
		settle(5 * time.Second)
		w.mustRun()
		if s := w.summary(); len(s.Pods) != 1 || s.Pods[0].PodRef.UID != testUID {
			t.Errorf("with a new pod: %+v", s.Pods)
		}
		pod, err := w.api.get("default", "web")
		if err != nil {
			t.Fatal(err)
		}
		w.delete(pod, 1)
		settle(10 * time.Second)
		if s := w.summary(); len(s.Pods) != 0 {
			t.Errorf("after the deletion: %+v", s.Pods)
		}
	})
}

// TestStatsOfSeveralContainers: those of one are podinit's, while it answers.
func TestStatsOfSeveralContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: "web:1"})
		}))
		settle(5 * time.Second)
		w.mustRun()
		w.host.use(func(u *fakeUse) {
			u.zones[1] = globalzone.ZoneUsage{CPU: 10 * time.Second}
			u.containers["web"] = podinit.ContainerUsage{Name: "web", CPU: 7 * time.Second, RSS: 40 << 20}
			u.containers["side"] = podinit.ContainerUsage{Name: "side", CPU: 2 * time.Second, RSS: 10 << 20}
			u.containers["forged"] = podinit.ContainerUsage{Name: "forged", CPU: 1 << 50}
		})
		pod := w.summary().Pods[0]
		if len(pod.Containers) != 2 {
			t.Fatalf("containers: %+v", pod.Containers)
		}
		for _, c := range pod.Containers {
			want := map[string]uint64{"web": 7e9, "side": 2e9}[c.Name]
			if *c.CPU.UsageCoreNanoSeconds != want {
				t.Errorf("%s: %+v, want %d", c.Name, c.CPU, want)
			}
		}
		// A host whose kernel counts no resident memory: podinit's sum.
		if *pod.Memory.RSSBytes != 50<<20 {
			t.Errorf("memory of the pod: %+v", pod.Memory)
		}
		w.host.use(func(u *fakeUse) { u.containers = nil })
		settle(time.Minute)
		if pod := w.summary().Pods[0]; len(pod.Containers) != 0 || *pod.CPU.UsageCoreNanoSeconds != 10e9 {
			t.Errorf("a podinit that does not know the question: %+v", pod)
		}
	})
}

func TestStatsOfASickHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		settle(time.Second)
		w.host.use(func(u *fakeUse) { u.err = errors.New("kstat_open: I/O error") })
		if s, err := w.p.StatsSummary(t.Context()); err == nil {
			t.Errorf("summary of a host that does not answer: %+v", s)
		}
		w.host.use(func(u *fakeUse) { u.err = nil })
		w.summary()
	})
}
