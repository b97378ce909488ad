package provider

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/storage/oci"
)

// claiming is a pod with a claim of an NFS volume.
func claiming(p *corev1.Pod) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim1"},
	}})
}

func (w *world) setClaim(phase corev1.PersistentVolumeClaimPhase) {
	w.cluster.edit(func(c *fakeCluster) {
		c.claims = map[string]*corev1.PersistentVolumeClaim{"claim1": {
			ObjectMeta: metav1.ObjectMeta{Name: "claim1", UID: "claim"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv1"},
			Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
		}}
		c.volumes = map[string]*corev1.PersistentVolume{"pv1": {
			ObjectMeta: metav1.ObjectMeta{Name: "pv1"}, Spec: corev1.PersistentVolumeSpec{
				PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/export"}},
				ClaimRef:               &corev1.ObjectReference{UID: "claim"},
			},
		}}
	})
}

// TestClaims holds a pod back until its claim is bound and its server answers,
// and leaves nothing mounted.
func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClaim(corev1.ClaimPending)
		pod := w.create(testPod(claiming))
		settle(time.Minute)
		if !w.events.has("FailedMount: Unable to attach or mount volumes: unmounted volumes=[data]") || !w.events.has("PVC is not bound") {
			t.Errorf("events: %v", w.events.reasons)
		}
		w.host.failBy(func(command string) error {
			if strings.HasPrefix(command, "show ") {
				return fmt.Errorf("nfs mount: nas: Unknown host")
			}
			return nil
		})
		w.setClaim(corev1.ClaimBound)
		settle(time.Minute)
		if !w.events.has(`FailedMount: MountVolume.SetUp failed for volume "pv1" : nfs mount: nas: Unknown host`) {
			t.Errorf("events: %v", w.events.reasons)
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		w.mustRun()
		if info, err := os.Stat(filepath.Join(w.p.c.Storage.PodDir(testUID), "root/v/data")); err != nil || !info.IsDir() {
			t.Errorf("the mount point of a directory is %v, %v", info, err)
		}
		if !slices.Contains(w.host.ran(), "show nas:/export") {
			t.Errorf("commands: %v", w.host.ran())
		}
		w.delete(pod, 1)
		settle(10 * time.Second)
		w.mustBeGone()
	})
}

// TestMountsAreMadeAgain kills the agent at every step of a pod with a claim.
func TestMountsAreMadeAgain(t *testing.T) {
	for _, at := range []string{"show", "vnic", "configure", "boot", "hide", "destroy"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setClaim(corev1.ClaimBound)
				kill := true
				w.host.failBy(func(command string) error {
					if strings.HasPrefix(command, at) && kill {
						kill = false
						w.kill()
					}
					return nil
				})
				pod := w.create(testPod(claiming))
				settle(time.Second)
				if !kill {
					w.killAgent()
					w.startAgent()
				}
				settle(time.Minute)
				w.mustRun()
				w.delete(pod, 1)
				settle(10 * time.Second)
				if at == "hide" || at == "destroy" {
					w.killAgent()
					w.startAgent()
					settle(time.Minute)
				}
				w.mustBeGone()
			})
		})
	}
}

// TestImageVolumes pulls the image of a volume, and waits for one that is not
// there yet.
func TestImageVolumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "model", VolumeSource: corev1.VolumeSource{
				Image: &corev1.ImageVolumeSource{Reference: "model:1"},
			}})
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "model", MountPath: "/model", ReadOnly: true}}
		}))
		settle(time.Minute)
		if !w.events.has(`Failed: Failed to pull image "model:1": ErrImagePull`) {
			t.Errorf("events: %v", w.events.reasons)
		}
		w.host.mu.Lock()
		w.host.images["model:1"] = oci.Image{Ref: "model:1", ID: "sha256:cc", Digest: "registry.example/model@sha256:dd", Dataset: "model1", OS: "linux"}
		w.host.mu.Unlock()
		settle(10 * time.Minute)
		w.mustRun()
		w.killAgent()
		w.startAgent()
		settle(time.Minute)
		w.mustRun()
		w.host.mu.Lock()
		dataset := w.host.datasets["pods/"+testUID+"/i-model"]
		w.host.mu.Unlock()
		if dataset != "model1" {
			t.Errorf("the volume is a clone of %q", dataset)
		}
		w.delete(pod, 1)
		settle(10 * time.Second)
		w.mustBeGone()
	})
}
