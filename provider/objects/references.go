package objects

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// References returns every ConfigMap and Secret that pod refers to, sorted,
// each once. They are what the Node authorizer lets this node read.
func References(pod *corev1.Pod) []Key {
	var keys []Key
	add := func(kind Kind, name string) {
		if name != "" {
			keys = append(keys, Key{kind, pod.Namespace, name})
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(Secret, s.Name)
	}
	for _, v := range pod.Spec.Volumes {
		volumeReferences(v, add)
	}
	containers := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for _, e := range pod.Spec.EphemeralContainers {
		containers = append(containers, corev1.Container(e.EphemeralContainerCommon))
	}
	for _, c := range containers {
		containerReferences(c, add)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(keys)
}

func volumeReferences(v corev1.Volume, add func(Kind, string)) {
	if v.ConfigMap != nil {
		add(ConfigMap, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		add(Secret, v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			add(ConfigMap, s.ConfigMap.Name)
		}
		if s.Secret != nil {
			add(Secret, s.Secret.Name)
		}
	}
}

func containerReferences(c corev1.Container, add func(Kind, string)) {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			add(ConfigMap, from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			add(Secret, from.SecretRef.Name)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(ConfigMap, r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(Secret, r.Name)
		}
	}
}
