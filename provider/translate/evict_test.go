package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/storage"
)

func TestOverStorage(t *testing.T) {
	const mib = 1 << 20
	limited := func(name, limit string) corev1.Container {
		c := corev1.Container{Name: name}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(limit)}
		}
		return c
	}
	two := []corev1.Container{limited("web", "10Mi"), limited("side", "20Mi")}
	for _, tt := range []struct {
		name       string
		init       []corev1.Container
		containers []corev1.Container
		used       int64
		web        int64
		logs       int64
		want       string
	}{
		{"within", nil, two, 30 * mib, 9 * mib, mib, ""},
		{"the pod", nil, two, 30*mib + 1, 0, 0, "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. "},
		{"one container", nil, two, 12 * mib, 9 * mib, mib + 1, `Container web exceeded its local ephemeral storage limit "10Mi". `},
		{"no limit at all", nil, []corev1.Container{limited("web", "")}, 1 << 40, 1 << 40, 0, ""},
		{"a large init container", []corev1.Container{limited("setup", "50Mi")}, two, 40 * mib, 0, 0, ""},
		{"one has none", nil, []corev1.Container{limited("web", "10Mi"), limited("side", "")}, 11 * mib, 0, 0, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.InitContainers, p.Spec.Containers = tt.init, tt.containers
			u := storage.PodUsage{Usage: storage.Usage{Used: tt.used}, Containers: map[string]storage.Usage{"web": {Used: tt.web}}}
			if got := OverStorage(p, u, map[string]int64{"web": tt.logs}); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if limits := LimitsStorage(p); !limits && tt.want != "" {
				t.Error("nobody would look")
			}
		})
	}
}

func TestEphemeralQuota(t *testing.T) {
	p := pod()
	if n := EphemeralQuota(p); n != 0 {
		t.Errorf("without a limit: %d", n)
	}
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
	if n := EphemeralQuota(p); n != 1<<30+storageSlack {
		t.Errorf("with a limit: %d", n)
	}
}

// TestOverVolume: an emptyDir that holds more than its limit evicts its pod.
func TestOverVolume(t *testing.T) {
	limit := resource.MustParse("1Mi")
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "main"}},
		Volumes: []corev1.Volume{
			{Name: "free", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}},
		},
	}}
	if !LimitsStorage(p) || VolumeQuota(p.Spec.Volumes[1]) <= limit.Value() {
		t.Errorf("limited: %t, quota %d", LimitsStorage(p), VolumeQuota(p.Spec.Volumes[1]))
	}
	for used, want := range map[int64]string{1 << 20: "", 1<<20 + 1: `Usage of EmptyDir volume "cache" exceeds the limit "1Mi". `} {
		u := storage.PodUsage{Volumes: map[string]storage.Usage{"cache": {Used: used}, "free": {Used: 1 << 40}}}
		if got := OverStorage(p, u, nil); got != want {
			t.Errorf("with %d bytes: %q, want %q", used, got, want)
		}
	}
}
