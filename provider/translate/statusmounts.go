package translate

import corev1 "k8s.io/api/core/v1"

// volumeMounts says how a container's volumes are mounted. A read-only lofs
// mount is read-only with all that is mounted below it, so what was asked for
// recursively is had. Which image a volume shows is not said: the API server
// takes that behind an alpha feature gate only.
func volumeMountStatus(c *corev1.Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := deref(m.RecursiveReadOnly); r == corev1.RecursiveReadOnlyEnabled || r == corev1.RecursiveReadOnlyIfPossible {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}
