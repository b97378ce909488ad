package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Room returns why node has no room for pod beside others, or nil. The scheduler
// sees to that; a pod that was placed by its nodeName alone, or by a scheduler
// that did not know of another one yet, has not passed it. The reasons and the
// order are those of a kubelet.
func Room(pod *corev1.Pod, others []*corev1.Pod, node Node) *Refusal {
	refuse := func(name corev1.ResourceName, want, used, have int64) *Refusal {
		return &Refusal{ReasonOutOf + string(name), fmt.Sprintf(
			"Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, want, used, have)}
	}
	if most, ok := node.Capacity[corev1.ResourcePods]; ok && int64(len(others)) >= most.Value() {
		return refuse(corev1.ResourcePods, 1, int64(len(others)), most.Value())
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		capacity, ok := node.Capacity[name]
		want, _ := effective(pod, name, false)
		if !ok || want == 0 {
			continue
		}
		var used int64
		for _, p := range others {
			n, _ := effective(p, name, false)
			used += n
		}
		if have := capacity.ScaledValue(-3); want+used > have {
			unit := int64(1000)
			if name == corev1.ResourceCPU {
				unit = 1 // a kubelet tells thousandths of a processor
			}
			return refuse(name, want/unit, used/unit, have/unit)
		}
	}
	return nil
}
