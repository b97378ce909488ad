package provider

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// The order of a pod's containers, as a kubelet's: init containers one after
// the other, of which a sidecar need not end but start; then the others, each
// after the postStart hook of the one before. They stop the other way round:
// sidecars last, the first of them at the very end.

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

func sidecar(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && translate.Sidecar(&c)
	})
}

// turn returns the containers that may run now. failed tells which of them
// could not be started: they do not hold up those that come after them.
func turn(pod *corev1.Pod, st *ledger.State, failed func(name string) bool) []*ledger.Container {
	var out []*ledger.Container
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		r := st.Container(c.Name)
		if r == nil {
			continue
		}
		done := translate.InitDone(c, r)
		if translate.Sidecar(c) || !done && !st.Initialized {
			out = append(out, r)
		}
		if !done && !st.Initialized {
			return out
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		r := st.Container(c.Name)
		if r == nil {
			continue
		}
		out = append(out, r)
		hooked := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
		starts := r.Phase == podinit.Waiting && !failed(c.Name)
		if hooked && (starts || translate.AwaitsHook(c, r)) {
			return out
		}
	}
	return out
}

// lastOnes reports whether a container may be told to stop: a sidecar waits
// for all containers that started after it.
func lastOnes(pod *corev1.Pod, live *podinit.State, name string) bool {
	if !sidecar(pod, name) {
		return true
	}
	runs := func(name string) bool {
		return slices.ContainsFunc(live.Containers, func(c podinit.ContainerState) bool {
			return c.Name == name && c.Phase == podinit.Running
		})
	}
	for _, c := range pod.Spec.Containers {
		if runs(c.Name) {
			return false
		}
	}
	for _, c := range slices.Backward(pod.Spec.InitContainers) {
		if c.Name == name {
			return true
		}
		if translate.Sidecar(&c) && runs(c.Name) {
			return false
		}
	}
	return true
}
