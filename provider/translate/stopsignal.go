package translate

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
)

// StopSignal is what a container is asked to end by: the signal that its pod
// names, else its image's, else SIGTERM. What is none is passed over, so that an
// image that says nonsense ends like others. The image may be nil.
func StopSignal(c *corev1.Container, image *ledger.Image) podinit.Signal {
	if c != nil && c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		if s, err := podinit.ParseSignal(string(*c.Lifecycle.StopSignal)); err == nil {
			return s
		}
	}
	if image != nil {
		if s, err := podinit.ParseSignal(image.StopSignal); err == nil {
			return s
		}
	}
	return podinit.Signal(corev1.SIGTERM)
}

// stopSignalStatus is what the status says of a container's stop signal. Only
// clusters that have the feature (ContainerStopSignals) let a pod name one, and
// only there a kubelet tells of them, of every container; so all containers of such a
// pod have it, and others have none. The API has no name for an image's bare number.
func stopSignalStatus(pod *corev1.Pod, c *corev1.Container, image *ledger.Image) *corev1.Signal {
	for _, other := range EveryContainer(pod) {
		if other.Lifecycle == nil || other.Lifecycle.StopSignal == nil {
			continue
		}
		s := corev1.Signal(StopSignal(c, image))
		if _, err := strconv.Atoi(string(s)); err == nil {
			return nil
		}
		return &s
	}
	return nil
}
