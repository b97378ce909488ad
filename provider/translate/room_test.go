package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRoom(t *testing.T) {
	n := node()
	n.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"), corev1.ResourcePods: resource.MustParse("3"),
	}
	asks := func(cpu, memory, storage string) *corev1.Pod {
		p := pod()
		r := corev1.ResourceList{}
		for name, text := range map[corev1.ResourceName]string{
			corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory, corev1.ResourceEphemeralStorage: storage,
		} {
			if text != "" {
				r[name] = resource.MustParse(text)
			}
		}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: r}
		return p
	}
	others := []*corev1.Pod{asks("1500m", "512Mi", "8Gi"), asks("", "", "")}
	for _, tt := range []struct {
		name   string
		pod    *corev1.Pod
		others []*corev1.Pod
		reason string
		text   string
	}{
		{"what is left", asks("500m", "512Mi", "2Gi"), others, "", ""},
		{"nothing", asks("", "", ""), append(others[:1:1], asks("9", "9Gi", "9Ti")), "", ""}, // however little there is
		{"processors", asks("501m", "", ""), others, "OutOfcpu",
			"Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		{"memory", asks("", "513Mi", ""), others, "OutOfmemory",
			"Pod was rejected: Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824"},
		{"storage", asks("", "", "3Gi"), others, "OutOfephemeral-storage",
			"Pod was rejected: Node didn't have enough resource: ephemeral-storage, requested: 3221225472, used: 8589934592, capacity: 10737418240"},
		{"pods", asks("", "", ""), append(others[:2:2], others[1]), "OutOfpods",
			"Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		{"processors first", asks("3", "9Gi", ""), nil, "OutOfcpu",
			"Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Room(tt.pod, tt.others, n)
			switch {
			case r == nil && tt.reason != "":
				t.Errorf("there is room, want %s", tt.reason)
			case r != nil && (r.Reason != tt.reason || r.Message != tt.text):
				t.Errorf("refused: %s: %s; want %s: %s", r.Reason, r.Message, tt.reason, tt.text)
			}
		})
	}
	n.Capacity = nil
	if r := Room(asks("99", "", ""), nil, n); r != nil {
		t.Errorf("a node whose capacity is not known refuses: %+v", r)
	}
}
