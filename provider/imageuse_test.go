package provider

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestImageGoneBeforeItsClone destroys a pod's image after it was pulled: the pod
// pulls it again instead of trying to clone it for ever.
func TestImageGoneBeforeItsClone(t *testing.T) {
	for _, shape := range []string{"container", "volume"} {
		t.Run(shape, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newModelWorld(t)
				done := false
				w.fault = func(c string) error {
					clone := strings.HasPrefix(c, "zfs clone")
					if !clone || (shape == "volume") != strings.Contains(c, "/i-") || done {
						return nil
					}
					done = true
					if shape == "volume" { // the container's clone holds the image that they share
						w.show("zfs", "destroy", "-r", "rpool/reddwarf/pods/"+testUID+"/c-web")
					}
					w.show("zfs", "release", "reddwarf", "rpool/reddwarf/images/web1@image")
					w.show("zfs", "destroy", "-r", "rpool/reddwarf/images/web1")
					return nil
				}
				pod := w.create(testPod(func(p *corev1.Pod) {
					if shape == "volume" {
						p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
							Image: &corev1.ImageVolumeSource{Reference: "web:1"}}})
					}
				}))
				settle(time.Minute)
				if !done {
					t.Fatal("no clone was made")
				}
				w.mustRun()
				w.delete(pod, 1)
				settle(time.Minute)
				w.mustBeGone()
			})
		})
	}
}

func TestImageUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		if users := w.p.ImageUsers(); len(users) > 0 {
			t.Errorf("images in use of no pods: %v", users)
		}
		pod := w.create(testPod(func(p *corev1.Pod) {
			second := p.Spec.Containers[0]
			second.Name = "second"
			p.Spec.Containers = append(p.Spec.Containers, second)
		}))
		settle(time.Second)
		want := []string{"default/web"}
		if got := w.p.ImageUsers()["sha256:aa"]; !slices.Equal(got, want) {
			t.Errorf("the image is used by %q, want %q", got, want)
		}
		w.killAgent()
		w.startAgent()
		if got := w.p.ImageUsers()["sha256:aa"]; !slices.Equal(got, want) {
			t.Errorf("to a new agent, the image is used by %q, want %q", got, want)
		}
		w.relist()
		w.delete(pod, 1)
		settle(time.Minute)
		if users := w.p.ImageUsers(); len(users) > 0 {
			t.Errorf("images in use after the pod has gone: %v", users)
		}
	})
}
