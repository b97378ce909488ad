package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestVictim(t *testing.T) {
	type use struct {
		name          string
		request, uses int64 // MiB
		priority      int32
	}
	for _, tt := range []struct {
		name string
		pods []use
		want string
	}{
		{"nobody", nil, ""},
		{"only what a cluster cannot do without", []use{{"dns", 0, 900, criticalPriority}}, ""},
		{"above its request before below", []use{{"large", 900, 800, 0}, {"small", 10, 11, 100}}, "small"},
		{"the lower priority of two above", []use{{"much", 0, 500, 10}, {"little", 0, 1, 5}}, "little"},
		{"the farther above of two alike", []use{{"a", 100, 150, 0}, {"b", 10, 80, 0}, {"c", 0, 60, 0}}, "b"},
		{"the lower priority of two below", []use{{"a", 100, 90, 1}, {"b", 100, 10, 0}}, "b"},
		{"the nearer to its request of two below", []use{{"a", 100, 50, 0}, {"b", 100, 90, 0}}, "b"},
		{"never the critical one", []use{{"dns", 0, 900, criticalPriority + 1000}, {"web", 100, 10, 5}}, "web"},
	} {
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			t.Run(tt.name+"/"+string(name), func(t *testing.T) {
				var all []Consumer
				for _, u := range tt.pods {
					p := pod()
					p.Name, p.Spec.Priority = u.name, &u.priority
					p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{name: *resource.NewQuantity(u.request<<20, resource.BinarySI)}
					bytes := uint64(u.uses << 20)
					s := statsv1alpha1.PodStats{Memory: &statsv1alpha1.MemoryStats{WorkingSetBytes: &bytes}}
					if name == corev1.ResourceEphemeralStorage {
						s = statsv1alpha1.PodStats{EphemeralStorage: &statsv1alpha1.FsStats{UsedBytes: &bytes}}
					}
					all = append(all, Consumer{p, s})
				}
				got := ""
				if i := Victim(all, name); i >= 0 {
					got = all[i].Pod.Name
				}
				if got != tt.want {
					t.Errorf("%q goes, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestShortMessage(t *testing.T) {
	p := pod()
	p.Spec.Containers = []corev1.Container{{Name: "web"}, {Name: "side"}}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}
	p.Spec.Containers[1].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}
	stats := func(name string, mib uint64) statsv1alpha1.ContainerStats {
		return statsv1alpha1.ContainerStats{Name: name, Memory: &statsv1alpha1.MemoryStats{WorkingSetBytes: new(mib << 20)}}
	}
	got := ShortMessage(Consumer{p, statsv1alpha1.PodStats{Containers: []statsv1alpha1.ContainerStats{stats("web", 30), stats("side", 50)}}},
		Shortage{Resource: corev1.ResourceMemory, Available: 50 << 20, Threshold: 100 << 20})
	want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. " +
		"Container web was using 30720Ki, request is 10Mi, has larger consumption of memory. "
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestOverburdened(t *testing.T) {
	const memory, disk = corev1.NodeMemoryPressure, corev1.NodeDiskPressure
	conditions := func(c ...corev1.NodeConditionType) []corev1.NodeConditionType { return c }
	tolerating := corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}
	for _, tt := range []struct {
		name       string
		class      corev1.PodQOSClass
		priority   int32
		tolerates  bool
		conditions []corev1.NodeConditionType
		want       string
	}{
		{"no pressure", corev1.PodQOSBestEffort, 0, false, nil, ""},
		{"no space", corev1.PodQOSGuaranteed, 0, true, conditions(disk), "The node had condition: [DiskPressure]. "},
		{"no space for a critical one", corev1.PodQOSBestEffort, criticalPriority, false, conditions(memory, disk), ""},
		{"no memory", corev1.PodQOSBestEffort, 0, false, conditions(memory), "The node had condition: [MemoryPressure]. "},
		{"no memory, which it tolerates", corev1.PodQOSBestEffort, 0, true, conditions(memory), ""},
		{"no memory, of which it asks for some", corev1.PodQOSBurstable, 0, false, conditions(memory), ""},
		{"neither", corev1.PodQOSBurstable, 0, true, conditions(memory, disk), "The node had condition: [MemoryPressure DiskPressure]. "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.Priority, p.Status.QOSClass = &tt.priority, tt.class
			if tt.tolerates {
				p.Spec.Tolerations = append(p.Spec.Tolerations, tolerating)
			}
			r := Overburdened(p, tt.conditions)
			if got := deref(r).Message; got != tt.want || (r != nil && r.Reason != "Evicted") {
				t.Errorf("refused by %+v, want %q", r, tt.want)
			}
		})
	}
}
