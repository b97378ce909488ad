package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Missing is an object that the environment of a container refers to, or a key
// of one, that is not there.
type Missing struct {
	Container *corev1.Container
	Optional  bool
	Kind      string // ConfigMap or Secret
	Name      string
	Key       string // empty where the object itself is missing
}

// Reason is the reason of the event about it, as users of virtual-kubelet know
// them; a kubelet has none for what is optional.
func (m Missing) Reason() string {
	need, what := "Mandatory", ""
	if m.Optional {
		need = "Optional"
	}
	if m.Key != "" {
		what = "Key"
	}
	return need + m.Kind + what + "NotFound"
}

// Message is the text of the event.
func (m Missing) Message() string {
	if m.Key != "" {
		return fmt.Sprintf("the environment of container %s refers to key %q of %s %q, which has no such key", m.Container.Name, m.Key, m.Kind, m.Name)
	}
	return fmt.Sprintf("the environment of container %s refers to %s %q, which does not exist", m.Container.Name, m.Kind, m.Name)
}

// MissingReferences returns what the environments of the pod's containers
// refer to and objects does not have. An object that cannot be read for
// another reason may be there, and is not among them.
func MissingReferences(pod *corev1.Pod, objects Objects) []Missing {
	var all []Missing
	for _, c := range AllContainers(pod) {
		r := references{namespace: pod.Namespace, container: c, objects: objects}
		for _, from := range c.EnvFrom {
			if ref := from.ConfigMapRef; ref != nil {
				r.configMap(ref.Name, "", ref.Optional)
			}
			if ref := from.SecretRef; ref != nil {
				r.secret(ref.Name, "", ref.Optional)
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom == nil {
				continue
			}
			if ref := v.ValueFrom.ConfigMapKeyRef; ref != nil {
				r.configMap(ref.Name, ref.Key, ref.Optional)
			}
			if ref := v.ValueFrom.SecretKeyRef; ref != nil {
				r.secret(ref.Name, ref.Key, ref.Optional)
			}
		}
		all = append(all, r.missing...)
	}
	return all
}

type references struct {
	namespace string
	container *corev1.Container
	objects   Objects
	missing   []Missing
}

func (r *references) configMap(name, key string, optional *bool) {
	o, err := r.objects.ConfigMap(r.namespace, name)
	found := false
	if err == nil {
		_, found = o.Data[key]
	}
	r.note("ConfigMap", name, key, isTrue(optional), found, err)
}

func (r *references) secret(name, key string, optional *bool) {
	o, err := r.objects.Secret(r.namespace, name)
	found := false
	if err == nil {
		_, found = o.Data[key]
	}
	r.note("Secret", name, key, isTrue(optional), found, err)
}

func (r *references) note(kind, name, key string, optional, found bool, err error) {
	m := Missing{Container: r.container, Optional: optional, Kind: kind, Name: name}
	switch {
	case apierrors.IsNotFound(err):
	case err == nil && key != "" && !found:
		m.Key = key
	default:
		return
	}
	r.missing = append(r.missing, m)
}
