package translate

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// criticalPriority is the least of the priorities that Kubernetes keeps for what a
// cluster cannot do without.
const criticalPriority = 2_000_000_000

// Critical reports whether the cluster cannot do without the pod. To a kubelet
// static pods are critical, too; there are none here, and an annotation that
// says so may be anybody's.
func Critical(pod *corev1.Pod) bool { return priority(pod) >= criticalPriority }

// The reason of pods that had to go for the sake of a critical one, and the
// texts of their status and of its condition, as a kubelet's.
const (
	ReasonPreempting = "Preempting"
	PreemptMessage   = "Preempted in order to admit critical pod"

	preemptCondition = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// Preempt returns the indices of those of others that have to go so that node
// has room for pod, none if there is room. It reports false where no pods that
// may go would do.
//
// The choice is a kubelet's: no guaranteed pod goes that burstable ones would
// spare, and no burstable one that best-effort ones would. Of one class the pod
// goes that leaves least to be found, then the one that asks for less.
func Preempt(pod *corev1.Pod, others []*corev1.Pod, node Node) ([]int, bool) {
	var classes [3][]candidate // those that go last first
	for i, p := range others {
		if Critical(p) {
			continue
		}
		class := 0
		switch p.Status.QOSClass {
		case corev1.PodQOSBestEffort:
			class = 2
		case corev1.PodQOSBurstable:
			class = 1
		}
		classes[class] = append(classes[class], candidate{i, p})
	}
	need := lacksOf(pod, others, node)
	var victims []int
	for class, list := range classes {
		rest := need
		for _, cheaper := range classes[class+1:] {
			rest = rest.without(cheaper...)
		}
		goes, ok := fewest(list, rest)
		if !ok {
			return nil, false
		}
		need = need.without(goes...)
		for _, c := range goes {
			victims = append(victims, c.index)
		}
	}
	return victims, true
}

type candidate struct {
	index int
	pod   *corev1.Pod
}

// lack is how much of a resource is missing: thousandths, or pods.
type lack struct {
	name   corev1.ResourceName
	amount int64
}

type lacks []lack

// lacksOf is what the node lacks for pod beside others.
func lacksOf(pod *corev1.Pod, others []*corev1.Pod, node Node) lacks {
	var out lacks
	if most, ok := node.Capacity[corev1.ResourcePods]; ok && int64(len(others)) >= most.Value() {
		out = append(out, lack{corev1.ResourcePods, int64(len(others)) + 1 - most.Value()})
	}
	for _, name := range weighed {
		if b := balanceOf(pod, others, node, name); b.short() {
			out = append(out, lack{name, b.want + b.used - b.have})
		}
	}
	return out
}

func request(pod *corev1.Pod, name corev1.ResourceName) int64 {
	if name == corev1.ResourcePods {
		return 1
	}
	n, _ := effective(pod, name, false)
	return n
}

// without is what is still missing when pods have gone.
func (l lacks) without(pods ...candidate) lacks {
	var out lacks
	for _, missing := range l {
		for _, c := range pods {
			missing.amount -= request(c.pod, missing.name)
		}
		if missing.amount > 0 {
			out = append(out, missing)
		}
	}
	return out
}

// distance is how far from enough it is that a pod goes: of each resource the
// square of the part that would still be missing.
func (l lacks) distance(pod *corev1.Pod) float64 {
	sum := 0.0
	for _, missing := range l {
		part := float64(max(missing.amount-request(pod, missing.name), 0)) / float64(missing.amount)
		sum += part * part
	}
	return sum
}

// fewest chooses pods until nothing is missing, the one that brings most each
// time. It reports false if all of them are not enough.
func fewest(from []candidate, need lacks) ([]candidate, bool) {
	var goes []candidate
	for from = slices.Clone(from); len(need) > 0; {
		if len(from) == 0 {
			return nil, false
		}
		best := slices.MinFunc(from, func(a, b candidate) int {
			return cmp.Or(
				cmp.Compare(need.distance(a.pod), need.distance(b.pod)),
				cmp.Compare(request(a.pod, corev1.ResourceMemory), request(b.pod, corev1.ResourceMemory)),
				cmp.Compare(request(a.pod, corev1.ResourceCPU), request(b.pod, corev1.ResourceCPU)),
				cmp.Compare(priority(a.pod), priority(b.pod)),
				cmp.Compare(a.pod.UID, b.pod.UID),
			)
		})
		need, goes = need.without(best), append(goes, best)
		from = slices.DeleteFunc(from, func(c candidate) bool { return c.index == best.index })
	}
	return goes, true
}
