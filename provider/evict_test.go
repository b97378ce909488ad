package provider

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones"
)

func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{stubborn: true} })
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("100Mi")}
		}))
		settle(time.Minute)
		w.mustRun()
		w.host.use(func(u *fakeUse) { u.space[testUID] = storage.PodUsage{Usage: storage.Usage{Used: 100 << 20}} })
		settle(time.Minute)
		w.mustRun() // at its limit, not beyond
		w.host.use(func(u *fakeUse) { u.space[testUID] = storage.PodUsage{Usage: storage.Usage{Used: 101 << 20}} })
		settle(30 * time.Second) // of which its own grace period would be all
		s := w.status()
		if s.Phase != corev1.PodFailed || s.Reason != "Evicted" || s.Message != "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. " {
			t.Errorf("status %s %s %q", s.Phase, s.Reason, s.Message)
		}
		if s.ContainerStatuses[0].State.Terminated == nil {
			t.Errorf("container: %+v", s.ContainerStatuses[0].State)
		}
		w.mustBeLetGo(testUID)
		if events := strings.Join(w.reasons(), "\n"); !strings.Contains(events, "Evicted: Pod ephemeral local storage usage exceeds") {
			t.Errorf("events:\n%s", events)
		}
	})
}

// mustBeLetGo checks that the host has nothing of an ended pod but its logs, and
// that others can have what it had.
func (w *world) mustBeLetGo(uid string) {
	w.t.Helper()
	if z := w.host.state(translate.ZoneName(uid)); z != zones.Absent {
		w.t.Errorf("its zone is %s", z)
	}
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	for name := range w.host.datasets {
		if strings.HasPrefix(name, "pods/"+uid+"/") {
			w.t.Errorf("there is still %s", name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.host.dir, "pods", uid))
	if err != nil || len(entries) != 1 || entries[0].Name() != translate.LogDir {
		w.t.Errorf("in its directory are %v, %v", entries, err)
	}
	if _, has := w.pool.Owners()[uid]; has {
		w.t.Error("it still has an address")
	}
	for id, users := range w.p.ImageUsers() {
		if slices.Contains(users, "default/"+w.p.worker(uid).name) {
			w.t.Errorf("it still uses image %s", id)
		}
	}
}
