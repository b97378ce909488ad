package provider

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPodRunsAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(testPod())
		settle(time.Second)
		w.mustRun()
		s := w.status()
		if s.PodIP != "10.244.1.2" || s.HostIP != "198.51.100.11" {
			t.Errorf("addresses are %q and %q", s.PodIP, s.HostIP)
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}
