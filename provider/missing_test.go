package provider

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A container waits for a mandatory object and starts without an optional one;
// an event names both.
func TestMissingObjectsAreNamedInEvents(t *testing.T) {
	for _, optional := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.create(testPod(func(p *corev1.Pod) {
				p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "V", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Key: "k", Optional: &optional,
				}}}}
			}))
			settle(5 * time.Second)
			want, phase := "OptionalSecretNotFound", corev1.PodRunning
			if !optional {
				want, phase = "MandatorySecretNotFound", corev1.PodPending
			}
			if !w.hasEvent(want) || strings.Contains(strings.Join(w.events.reasons, " "), "KeyNotFound") {
				t.Errorf("events %q, want %s", w.events.reasons, want)
			}
			if got := w.status().Phase; got != phase {
				t.Errorf("phase %s, want %s", got, phase)
			}
		})
	}
}
