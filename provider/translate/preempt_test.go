package translate

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

func TestPreempt(t *testing.T) {
	const best, burstable, guaranteed = corev1.PodQOSBestEffort, corev1.PodQOSBurstable, corev1.PodQOSGuaranteed
	type asks struct {
		name     string
		class    corev1.PodQOSClass
		cpu      string
		memory   string
		priority int32
	}
	pods := func(of []asks) []*corev1.Pod {
		var out []*corev1.Pod
		for _, a := range of {
			p := pod()
			p.Name, p.UID, p.Spec.Priority, p.Status.QOSClass = a.name, types.UID(a.name), &a.priority, a.class
			r := corev1.ResourceList{}
			for name, text := range map[corev1.ResourceName]string{corev1.ResourceCPU: a.cpu, corev1.ResourceMemory: a.memory} {
				if text != "" {
					r[name] = resource.MustParse(text)
				}
			}
			p.Spec.Containers[0].Resources.Requests = r
			out = append(out, p)
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		pod    asks
		others []asks
		want   string // in their order, "none" for no set
	}{
		{"there is room", asks{cpu: "1"}, []asks{{"a", burstable, "3", "", 0}}, ""},
		{"nobody else", asks{cpu: "5"}, nil, "none"},
		{"more than the node has", asks{cpu: "5"}, []asks{{"a", burstable, "4", "", 0}}, "none"},
		{"not even all of them", asks{cpu: "3"}, []asks{{"a", burstable, "1", "", 0}, {"dns", burstable, "2", "", criticalPriority}}, "none"},
		{"never one that is critical", asks{cpu: "2"}, []asks{{"dns", burstable, "2", "", criticalPriority}, {"a", burstable, "2", "", 5}}, "a"},
		{"one rather than two", asks{cpu: "2"}, []asks{{"a", burstable, "1", "", 0}, {"b", burstable, "1", "", 0}, {"c", burstable, "2", "", 0}}, "c"},
		{"two where one is not enough", asks{cpu: "3"}, []asks{{"a", burstable, "1", "", 0}, {"b", burstable, "1500m", "", 0}, {"c", burstable, "1500m", "", 0}}, "b c"},
		{"the one that asks for less of two that do", asks{cpu: "1"}, []asks{{"a", burstable, "2500m", "", 0}, {"b", burstable, "1500m", "", 0}}, "b"},
		{"less memory before less processors", asks{cpu: "1"}, []asks{{"a", burstable, "1500m", "512Mi", 0}, {"b", burstable, "2500m", "1Mi", 0}}, "b"},
		{"of two alike the lower priority", asks{cpu: "1"}, []asks{{"a", burstable, "2", "", 7}, {"b", burstable, "2", "", 6}}, "b"},
		{"burstable before guaranteed", asks{cpu: "1"}, []asks{{"a", guaranteed, "1", "", 0}, {"b", burstable, "3", "", 9}}, "b"},
		{"guaranteed only for the rest", asks{cpu: "3"}, []asks{{"a", guaranteed, "2", "", 0}, {"b", burstable, "1", "", 0}, {"c", guaranteed, "1", "", 0}}, "a b"},
		{"no burstable one that a guaranteed one spares", asks{cpu: "3"}, []asks{{"a", guaranteed, "3", "", 0}, {"b", burstable, "1", "", 0}}, "a"},
		{"best-effort ones make no room but for pods", asks{cpu: "2"}, []asks{{"a", best, "", "", 0}, {"b", burstable, "3", "", 0}}, "b"},
		{"one place for a pod", asks{}, []asks{{"a", burstable, "1", "", 0}, {"b", guaranteed, "1", "", 0}, {"c", best, "", "", 0}, {"d", best, "", "", -1}, {"e", best, "", "", 0}}, "d"},
		{"of two resources", asks{cpu: "2", memory: "768Mi"}, []asks{{"a", burstable, "2", "256Mi", 0}, {"b", burstable, "1", "512Mi", 0}, {"c", burstable, "1", "128Mi", 0}}, "b c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := node()
			n.Capacity = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("5"),
			}
			preemptor, others := pods([]asks{tt.pod})[0], pods(tt.others)
			got := "none"
			victims, ok := Preempt(preemptor, others, n)
			if ok {
				var names []string
				for _, i := range victims {
					names = append(names, others[i].Name)
				}
				got = strings.Join(names, " ")
				for _, i := range victims {
					if Critical(others[i]) {
						t.Errorf("%s is critical", others[i].Name)
					}
				}
				left := slices.DeleteFunc(slices.Clone(others), func(p *corev1.Pod) bool { return slices.Contains(names, p.Name) })
				if r := Room(preemptor, left, n); r != nil {
					t.Errorf("there is no room when they are gone: %s", r.Message)
				}
			} else if len(victims) > 0 {
				t.Errorf("%v would go for nothing", victims)
			}
			if got != tt.want {
				t.Errorf("%q go, want %q", got, tt.want)
			}
		})
	}
}
