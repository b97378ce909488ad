package translate

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Shortage is too little of a resource on the whole node.
type Shortage struct {
	Resource             corev1.ResourceName
	Available, Threshold int64 // bytes
}

// Consumer is a pod that runs, with what it uses.
type Consumer struct {
	Pod   *corev1.Pod
	Stats statsv1alpha1.PodStats
}

// Overburdened refuses a pod that comes while the node has these pressure
// conditions, as a kubelet does: all but critical ones, and under memory pressure
// alone only those that ask for nothing. Otherwise a pod that was evicted and
// tolerates the node's taints, as a DaemonSet's does, would come again at once.
func Overburdened(pod *corev1.Pod, conditions []corev1.NodeConditionType) *Refusal {
	if len(conditions) == 0 || Critical(pod) {
		return nil
	}
	if len(conditions) == 1 && conditions[0] == corev1.NodeMemoryPressure {
		taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		tolerates := func(t corev1.Toleration) bool { return t.ToleratesTaint(klog.Background(), &taint, false) }
		if pod.Status.QOSClass != corev1.PodQOSBestEffort || slices.ContainsFunc(pod.Spec.Tolerations, tolerates) {
			return nil
		}
	}
	return &Refusal{ReasonEvicted, fmt.Sprintf("The node had condition: %v. ", conditions)}
}

// Victim returns the index of the pod that is evicted first where a resource is
// short, or -1 if there is none that may be. The order is a kubelet's: who uses
// more than it requested, then who has the lower priority, then who is farther above
// its request.
func Victim(all []Consumer, name corev1.ResourceName) int {
	var candidates []int
	for i, c := range all {
		if !Critical(c.Pod) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return -1
	}
	above := func(i int) int64 {
		want, _ := effective(all[i].Pod, name, false)
		return podUse(all[i].Stats, name) - want/1000
	}
	return slices.MinFunc(candidates, func(a, b int) int {
		x, y := above(a), above(b)
		if (x > 0) != (y > 0) {
			return cmp.Compare(min(max(y, 0), 1), min(max(x, 0), 1))
		}
		return cmp.Or(cmp.Compare(priority(all[a].Pod), priority(all[b].Pod)), cmp.Compare(y, x), cmp.Compare(a, b))
	})
}

func priority(pod *corev1.Pod) int32 { return deref(pod.Spec.Priority) }

func podUse(s statsv1alpha1.PodStats, name corev1.ResourceName) int64 {
	switch {
	case name == corev1.ResourceMemory && s.Memory != nil:
		return int64(deref(s.Memory.WorkingSetBytes))
	case name == corev1.ResourceEphemeralStorage && s.EphemeralStorage != nil:
		return int64(deref(s.EphemeralStorage.UsedBytes))
	}
	return 0
}

func containerUse(s statsv1alpha1.ContainerStats, name corev1.ResourceName) int64 {
	switch {
	case name == corev1.ResourceMemory && s.Memory != nil:
		return int64(deref(s.Memory.WorkingSetBytes))
	case name == corev1.ResourceEphemeralStorage && s.Rootfs != nil && s.Logs != nil:
		return int64(deref(s.Rootfs.UsedBytes) + deref(s.Logs.UsedBytes))
	}
	return 0
}

// ShortMessage says, in a kubelet's words, why a pod is evicted.
func ShortMessage(c Consumer, s Shortage) string {
	bytes := func(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
	text := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", s.Resource, bytes(s.Threshold), kibibytes(s.Available))
	for _, used := range c.Stats.Containers {
		for _, spec := range AllContainers(c.Pod) {
			request := spec.Resources.Requests[s.Resource]
			if n := containerUse(used, s.Resource); spec.Name == used.Name && n > request.Value() {
				text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", spec.Name, kibibytes(n), request.String(), s.Resource)
			}
		}
	}
	return text
}

// kibibytes is a quantity that is read by people.
func kibibytes(n int64) string { return fmt.Sprintf("%dKi", n/1024) }
