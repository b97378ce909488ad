package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// weighed are the resources that pods share, in the order of a kubelet.
var weighed = [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// Room returns why node has no room for pod beside others, or nil. The scheduler
// sees to that; a pod that was placed by its nodeName alone, or by a scheduler
// that did not know of another one yet, has not passed it. The reasons and the
// order are those of a kubelet.
func Room(pod *corev1.Pod, others []*corev1.Pod, node Node) *Refusal {
	refuse := func(b balance) *Refusal {
		return &Refusal{ReasonOutOf + string(b.name), "Pod was rejected: Node didn't have enough resource: " + b.String()}
	}
	if most, ok := node.Capacity[corev1.ResourcePods]; ok && int64(len(others)) >= most.Value() {
		return refuse(balance{corev1.ResourcePods, 1, int64(len(others)), most.Value(), 1})
	}
	for _, name := range weighed {
		if b := balanceOf(pod, others, node, name); b.short() {
			return refuse(b)
		}
	}
	return nil
}

// balance is what a pod wants of a resource, what others have of it and what
// the node has in all. unit is how many of these are one in a kubelet's texts.
type balance struct {
	name                   corev1.ResourceName
	want, used, have, unit int64
}

// balanceOf weighs the requests of pods, in thousandths. Of a resource that the
// node does not tell of nothing is wanted.
func balanceOf(pod *corev1.Pod, others []*corev1.Pod, node Node, name corev1.ResourceName) balance {
	b := balance{name: name, unit: 1000}
	if name == corev1.ResourceCPU {
		b.unit = 1 // a kubelet tells thousandths of a processor
	}
	capacity, ok := node.Capacity[name]
	if !ok {
		return b
	}
	b.have = capacity.ScaledValue(-3)
	b.want, _ = effective(pod, name, false)
	for _, p := range others {
		n, _ := effective(p, name, false)
		b.used += n
	}
	return b
}

// short reports whether the pod's wish cannot be met beside the others. Who
// wants nothing gets it anywhere.
func (b balance) short() bool { return b.want > 0 && b.want+b.used > b.have }

func (b balance) String() string {
	return fmt.Sprintf("%s, requested: %d, used: %d, capacity: %d", b.name, b.want/b.unit, b.used/b.unit, b.have/b.unit)
}
