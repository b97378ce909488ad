package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/storage"
)

// storageSlack is what a pod can write beyond its limit before the file system
// stops it. A pod beyond its limit is evicted, which takes until somebody
// looks; until then the slack is all that it can take of the pool.
const storageSlack = 64 << 20

// EphemeralQuota returns the quota of the pod's datasets in bytes, 0 for none.
func EphemeralQuota(pod *corev1.Pod) int64 {
	if n := EphemeralLimit(pod); n > 0 {
		return n + storageSlack
	}
	return 0
}

// VolumeQuota is the same for an emptyDir that HasDataset.
func VolumeQuota(v corev1.Volume) int64 { return SizeLimit(v) + storageSlack }

// LimitsStorage reports whether the pod has a limit on what its containers
// write, or on one of its emptyDirs.
func LimitsStorage(pod *corev1.Pod) bool {
	if slices.ContainsFunc(pod.Spec.Volumes, HasDataset) {
		return true
	}
	for _, r := range Resources(pod) {
		if q := r.Limits[corev1.ResourceEphemeralStorage]; q.Sign() > 0 {
			return true
		}
	}
	return false
}

// OverStorage says, in a kubelet's words, which limit on local storage the pod
// has gone beyond; it is empty if none. logs are the bytes of logs by container.
func OverStorage(pod *corev1.Pod, u storage.PodUsage, logs map[string]int64) string {
	for _, v := range pod.Spec.Volumes {
		if HasDataset(v) && u.Volumes[v.Name].Used > SizeLimit(v) {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	if limit := storageLimits(pod); limit.Sign() > 0 && u.Used > limit.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, c := range AllContainers(pod) {
		if initOnly(pod, c.Name) {
			continue
		}
		limit := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		if used := u.Containers[c.Name].Used + logs[c.Name]; limit.Sign() > 0 && used > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return ""
}

// storageLimits is the sum of the limits that there are, or what an init
// container may write if that is more: as a kubelet adds them up, a container
// without a limit adds nothing.
func storageLimits(pod *corev1.Pod) resource.Quantity {
	var sum resource.Quantity
	for _, c := range AllContainers(pod) {
		if q := c.Resources.Limits[corev1.ResourceEphemeralStorage]; !initOnly(pod, c.Name) {
			sum.Add(q)
		}
	}
	for _, c := range AllContainers(pod) {
		if q := c.Resources.Limits[corev1.ResourceEphemeralStorage]; initOnly(pod, c.Name) && q.Cmp(sum) > 0 {
			sum = q
		}
	}
	return sum
}

// initOnly reports whether a container is an init container that ends.
func initOnly(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return !Sidecar(c)
		}
	}
	return false
}
