package provider

import (
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
		if state := w.host.state(translate.ZoneName(testUID)); state != zones.Installed {
			t.Errorf("zone is %s", state)
		}
		if events := strings.Join(w.reasons(), "\n"); !strings.Contains(events, "Evicted: Pod ephemeral local storage usage exceeds") {
			t.Errorf("events:\n%s", events)
		}
	})
}
