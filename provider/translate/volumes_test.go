package translate

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func configSource(items ...corev1.KeyToPath) corev1.VolumeProjection {
	return corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: "config"}, Items: items,
	}}
}

func projected(sources ...corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}
}

// TestTokenFiles checks who may read a token, as projected.go of the kubelet
// decides it.
func TestTokenFiles(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name string
		edit func(*corev1.Pod)
		mode uint32
		user int64 // 0: root
	}{
		{"nobody said", func(*corev1.Pod) {}, 0o644, 0},
		{"fsGroup", func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: id(7)} }, 0o600, 0},
		{"all one user", func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: id(5)} }, 0o600, 5},
		{"two users", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: id(5)}
			p.Spec.InitContainers = []corev1.Container{{Name: "i", SecurityContext: &corev1.SecurityContext{RunAsUser: id(6)}}}
		}, 0o644, 0},
		{"one without", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: id(5)}
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
		}, 0o644, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.SecurityContext, p.Spec.InitContainers, p.Spec.Containers = nil, nil, p.Spec.Containers[:1]
			p.Spec.Containers[0].SecurityContext = nil
			tt.edit(p)
			v := projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}})
			got, err := VolumeFiles(input(p), v, tokenSource{time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			f := got.Files["token"]
			user := int64(0)
			if f.User != nil {
				user = *f.User
			}
			if f.Mode != tt.mode || user != tt.user {
				t.Errorf("mode %o of user %d, want %o of %d", f.Mode, user, tt.mode, tt.user)
			}
		})
	}
}

func TestVolumeFaults(t *testing.T) {
	yes := true
	secret := func(name string, optional *bool) corev1.VolumeProjection {
		return corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: optional}}
	}
	gone := corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}}}
	optional := gone.DeepCopy()
	optional.ConfigMap.Optional = &yes
	for _, tt := range []struct {
		name    string
		sources []corev1.VolumeProjection
		want    string // of the error; empty for none
		files   string
	}{
		{"all keys, binary too", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "bin", Path: "b"}, corev1.KeyToPath{Key: "color", Path: "c"})}, "", "b c"},
		{"missing key", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "no", Path: "n"})}, "non-existent key: no", ""},
		{"missing object", []corev1.VolumeProjection{gone}, `configmaps "gone" not found`, ""},
		{"missing optional object", []corev1.VolumeProjection{*optional}, "", ""},
		{"optional object that cannot be read", []corev1.VolumeProjection{secret("x", &yes)}, "does not answer", ""},
		{"all faults at once", []corev1.VolumeProjection{gone, secret("x", nil)}, "not found, the API server does not answer", ""},
		{"file against directory", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "color", Path: "a"}, corev1.KeyToPath{Key: "bin", Path: "a/b"})}, `path "a" is a file`, ""},
		{"name of the volume itself", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "color", Path: "..data/x"})}, "must not begin", ""},
		{"dots inside a name", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "color", Path: "a/..b..c"})}, "", "a/..b..c"},
		{"long name", []corev1.VolumeProjection{configSource(corev1.KeyToPath{Key: "color", Path: strings.Repeat("x", 256)})}, "longer than", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := VolumeFiles(input(pod()), projected(tt.sources...), nil)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if files := strings.Join(slices.Sorted(maps.Keys(got.Files)), " "); files != tt.files {
				t.Errorf("files %q, want %q", files, tt.files)
			}
		})
	}
}
