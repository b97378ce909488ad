package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// machine is a Source whose answers a test changes.
type machine struct {
	mu   sync.Mutex
	have Capacity
	err  error
}

func (m *machine) Capacity(context.Context) (Capacity, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have, m.err
}

func (m *machine) set(have Capacity, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.have, m.err = have, err
}

func config(m *machine) Config {
	return Config{
		Name: "h1", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.11")}, Port: 10250,
		Brands: []string{"lx", "reddwarf"}, Labels: map[string]string{"rack": "7"}, MaxPods: 110,
		Reserved: Capacity{CPUs: 1, MemoryBytes: 1 << 30}, Version: "v1.37.2+reddwarf", Source: m,
	}
}

func TestObject(t *testing.T) {
	m := &machine{have: Capacity{CPUs: 8, MemoryBytes: 16 << 30, EphemeralStorage: 100 << 30}}
	n := config(m).Object(t.Context(), time.Unix(1, 0))

	for key, want := range map[string]string{
		"kubernetes.io/os": "illumos", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "h1",
		"reddwarf.io/brand.lx": "true", "reddwarf.io/brand.reddwarf": "true", "rack": "7",
	} {
		if n.Labels[key] != want {
			t.Errorf("label %s = %q, want %q", key, n.Labels[key], want)
		}
	}
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].ToString() != "virtual-kubelet.io/provider=reddwarf:NoSchedule" {
		t.Errorf("taints = %v", n.Spec.Taints)
	}
	// Without its name there no pod that wants it is placed here; and an API
	// server refuses names that are not in order.
	if f := n.Status.DeclaredFeatures; !slices.Contains(f, "RestartAllContainersOnContainerExits") || !slices.IsSorted(f) {
		t.Errorf("declared features = %q", f)
	}
	if got := n.Status.Capacity.Cpu().Value(); got != 8 {
		t.Errorf("capacity cpu = %d, want 8", got)
	}
	if got := n.Status.Allocatable.Memory().Value(); got != 15<<30 {
		t.Errorf("allocatable memory = %d, want 15 GiB", got)
	}
	if got := n.Status.Allocatable.Pods().Value(); got != 110 {
		t.Errorf("pods = %d", got)
	}
	if ready := condition(n, corev1.NodeReady); ready.Status != corev1.ConditionTrue {
		t.Errorf("ready = %+v", ready)
	}
}

func TestObjectOfSickHostIsNotReady(t *testing.T) {
	m := &machine{err: errors.New("zpool: pool is unavailable")}
	ready := condition(config(m).Object(t.Context(), time.Unix(1, 0)), corev1.NodeReady)
	if ready.Status != corev1.ConditionFalse || !strings.Contains(ready.Message, "pool is unavailable") {
		t.Errorf("ready = %+v", ready)
	}
}

func TestReservedMoreThanThereIs(t *testing.T) {
	m := &machine{have: Capacity{CPUs: 1, MemoryBytes: 1 << 20}}
	c := config(m)
	c.Reserved = Capacity{CPUs: 4, MemoryBytes: 1 << 30}
	n := c.Object(t.Context(), time.Unix(1, 0))
	if n.Status.Allocatable.Cpu().Sign() != 0 || n.Status.Allocatable.Memory().Sign() != 0 {
		t.Errorf("allocatable = %v, want nothing", n.Status.Allocatable)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := Config{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}.Validate()
	for _, want := range []string{"--node-name", "127.0.0.1", "--max-pods", "source"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
}

func TestRunReportsChangesAndIdleNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{have: Capacity{CPUs: 8}}
		p, err := NewProvider(config(m))
		if err != nil {
			t.Fatal(err)
		}
		p.Node(t.Context())
		var mu sync.Mutex
		var got []*corev1.Node
		p.NotifyNodeStatus(t.Context(), func(n *corev1.Node) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, n)
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		reports := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
		report := func(i int) *corev1.Node { mu.Lock(); defer mu.Unlock(); return got[i] }

		time.Sleep(25 * time.Second)
		if n := reports(); n != 0 {
			t.Errorf("%d reports of an unchanged node within 25 s, want none", n)
		}
		m.set(Capacity{CPUs: 8}, errors.New("sick"))
		time.Sleep(10 * time.Second)
		if n := reports(); n != 1 {
			t.Fatalf("%d reports after the host fell ill, want 1", n)
		}
		sick := condition(report(0), corev1.NodeReady)
		if sick.Status != corev1.ConditionFalse || time.Since(sick.LastTransitionTime.Time) > 10*time.Second {
			t.Errorf("ready = %+v", sick)
		}
		time.Sleep(time.Minute)
		if n := reports(); n != 2 {
			t.Fatalf("%d reports after an idle minute, want 2", n)
		}
		if again := condition(report(1), corev1.NodeReady); !again.LastTransitionTime.Equal(&sick.LastTransitionTime) {
			t.Errorf("transition time moved from %v to %v without a transition", sick.LastTransitionTime, again.LastTransitionTime)
		}
		cancel()
		<-done
	})
}

func condition(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestPressure(t *testing.T) {
	plenty := Left{MemoryBytes: 1 << 30, TotalMemoryBytes: 4 << 30, StorageBytes: 50 << 30, TotalStorageBytes: 100 << 30, Processes: 20000, TotalProcesses: 30000}
	for _, tt := range []struct {
		name  string
		edit  func(l *Left)
		short corev1.NodeConditionType
	}{
		{"plenty", func(*Left) {}, ""},
		{"not known", func(l *Left) { *l = Left{} }, ""},
		{"memory", func(l *Left) { l.MemoryBytes = 100<<20 - 1 }, corev1.NodeMemoryPressure},
		{"storage", func(l *Left) { l.StorageBytes = 9 << 30 }, corev1.NodeDiskPressure},
		{"processes", func(l *Left) { l.Processes = 1000 }, corev1.NodePIDPressure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			left := plenty
			tt.edit(&left)
			n := config(&machine{have: Capacity{CPUs: 1, Left: left}}).Object(t.Context(), time.Unix(1, 0))
			for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
				want := corev1.ConditionFalse
				if kind == tt.short {
					want = corev1.ConditionTrue
				}
				if c := condition(n, kind); c.Status != want || c.Reason == "" {
					t.Errorf("%s: %+v, want %s", kind, c, want)
				}
			}
		})
	}
	n := config(&machine{err: errors.New("sick")}).Object(t.Context(), time.Unix(1, 0))
	if c := condition(n, corev1.NodeDiskPressure); c.Status != corev1.ConditionUnknown {
		t.Errorf("of a host that cannot be read: %+v", c)
	}
}

// TestPressureLasts: a shortage is told for five minutes after its end.
func TestPressureLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{have: Capacity{CPUs: 8, Left: Left{MemoryBytes: 1, TotalMemoryBytes: 4 << 30}}}
		p, err := NewProvider(config(m))
		if err != nil {
			t.Fatal(err)
		}
		if c := condition(p.Node(t.Context()), corev1.NodeMemoryPressure); c.Status != corev1.ConditionTrue {
			t.Fatalf("short of memory: %+v", c)
		}
		m.set(Capacity{CPUs: 8, Left: Left{MemoryBytes: 1 << 30, TotalMemoryBytes: 4 << 30}}, nil)
		time.Sleep(4 * time.Minute)
		if c := condition(p.Node(t.Context()), corev1.NodeMemoryPressure); c.Status != corev1.ConditionTrue || c.Reason != "KubeletHasInsufficientMemory" {
			t.Errorf("4 minutes later: %+v", c)
		}
		if got := p.Pressures(); !slices.Equal(got, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) {
			t.Errorf("4 minutes later the node has %v", got)
		}
		time.Sleep(2 * time.Minute)
		if c := condition(p.Node(t.Context()), corev1.NodeMemoryPressure); c.Status != corev1.ConditionFalse {
			t.Errorf("6 minutes later: %+v", c)
		}
		if got := p.Pressures(); len(got) > 0 {
			t.Errorf("6 minutes later the node has %v", got)
		}
	})
}

// TestImagesAndShortOfSpace tells of images, and calls at each reading that finds
// too little space, but not for as long as the shortage is told.
func TestImagesAndShortOfSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		space := func(left int64) {
			m.set(Capacity{CPUs: 1, Left: Left{StorageBytes: left, TotalStorageBytes: 1000, MemoryBytes: 1 << 30, TotalMemoryBytes: 2 << 30}}, nil)
		}
		space(500)
		var calls []string
		c := config(m)
		c.Images = func() []corev1.ContainerImage {
			return []corev1.ContainerImage{{Names: []string{"web:1"}, SizeBytes: 7}}
		}
		c.Short = func(kind corev1.NodeConditionType, available, threshold int64) {
			calls = append(calls, fmt.Sprintf("%s %d of %d", kind, available, threshold))
		}
		p, err := NewProvider(c)
		if err != nil {
			t.Fatal(err)
		}
		if n := p.Node(t.Context()); len(n.Status.Images) != 1 || n.Status.Images[0].SizeBytes != 7 {
			t.Errorf("images %+v", n.Status.Images)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		for _, step := range []struct {
			left int64
			want string
		}{{500, ""}, {50, "DiskPressure 50 of 100, DiskPressure 50 of 100"}, {500, ""}} {
			space(step.left)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if got := strings.Join(calls, ", "); got != step.want {
				t.Errorf("with %d left there were the calls %q, want %q", step.left, got, step.want)
			}
			calls = nil
		}
		m.set(Capacity{CPUs: 1, Left: Left{MemoryBytes: 7, TotalMemoryBytes: 1 << 30}}, nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := strings.Join(calls, ", "), "MemoryPressure 7 of 104857600"; got != want {
			t.Errorf("with too little memory there were the calls %q, want %q", got, want)
		}
		calls = nil
		m.set(Capacity{}, errors.New("unreadable"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(calls) > 0 {
			t.Errorf("of a host that cannot be read: %q", calls)
		}
		cancel()
		<-done
	})
}
