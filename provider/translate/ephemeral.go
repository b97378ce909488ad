package translate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Ephemeral returns the containers that were added to the pod after its start,
// as kubectl debug does. They are only ever appended to, and never restarted.
func Ephemeral(pod *corev1.Pod) []*corev1.Container {
	all := make([]*corev1.Container, len(pod.Spec.EphemeralContainers))
	for i := range pod.Spec.EphemeralContainers {
		all[i] = (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	return all
}

// EveryContainer returns the containers of a pod of every kind.
func EveryContainer(pod *corev1.Pod) []*corev1.Container {
	return append(AllContainers(pod), Ephemeral(pod)...)
}

// Spare returns the number of the place that the root of an ephemeral container
// gets in the pod's zone, from 1. It is 0 for other containers.
func Spare(pod *corev1.Pod, name string) int {
	for i, c := range Ephemeral(pod) {
		if c.Name == name {
			return i + 1
		}
	}
	return 0
}

// AdmitEphemeral returns why an ephemeral container cannot run on this node, or
// nil. spares is how many the zone of a pod has room for.
func AdmitEphemeral(pod *corev1.Pod, name string, spares int) *Refusal {
	if HostPod(pod) {
		return &Refusal{ReasonUnsupported, "host pods have no ephemeral containers; use kubectl exec"}
	}
	n := Spare(pod, name)
	if n == 0 {
		return nil
	}
	if n > spares {
		return &Refusal{ReasonUnsupported, fmt.Sprintf("a pod on this node can have %d ephemeral containers, and this is one more", spares)}
	}
	// targetContainerName needs nothing: the containers of a zone see each
	// other's processes anyway.
	var a admission
	a.container("ephemeralContainers", Ephemeral(pod)[n-1])
	if len(a.faults) == 0 {
		return nil
	}
	return &Refusal{ReasonUnsupported, "ephemeral container uses what this node cannot do: " + strings.Join(a.faults, "; ")}
}
