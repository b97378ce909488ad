package translate

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// oneOfEach has the ConfigMap and the Secret "here" with the key "key", and
// cannot read those named "denied".
type oneOfEach struct{}

func (oneOfEach) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	return &corev1.ConfigMap{Data: map[string]string{"key": ""}}, lookUp("configmaps", name)
}

func (oneOfEach) Secret(_, name string) (*corev1.Secret, error) {
	return &corev1.Secret{Data: map[string][]byte{"key": nil}}, lookUp("secrets", name)
}

func lookUp(resource, name string) error {
	switch name {
	case "here":
		return nil
	case "denied":
		return errors.New("forbidden")
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

func TestMissingReferences(t *testing.T) {
	yes := true
	secret := func(name, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: "V", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}}
	}
	configMap := func(name, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: "V", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "first", EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "here"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}, Optional: &yes}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}}},
		}}},
		Containers: []corev1.Container{{Name: "second", Env: []corev1.EnvVar{
			{Name: "PLAIN", Value: "x"},
			secret("here", "key", nil), secret("here", "other", nil), secret("here", "other", &yes), secret("no", "key", nil),
			secret("no", "key", &yes), secret("denied", "key", nil), secret("denied", "key", &yes),
			configMap("here", "key", nil), configMap("here", "other", nil), configMap("no", "key", &yes), configMap("no", "key", nil),
		}}},
	}}
	var got []string
	for _, m := range MissingReferences(pod, oneOfEach{}) {
		got = append(got, m.Container.Name+" "+m.Reason())
	}
	want := []string{
		"first OptionalConfigMapNotFound", "first MandatorySecretNotFound",
		"second MandatorySecretKeyNotFound", "second OptionalSecretKeyNotFound", "second MandatorySecretNotFound", "second OptionalSecretNotFound",
		"second MandatoryConfigMapKeyNotFound", "second OptionalConfigMapNotFound", "second MandatoryConfigMapNotFound",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
