package provider

import (
	"testing"
	"testing/synctest"
	"time"
)

// A container's root is mounted in its zone and cannot be exchanged, so another
// image is not taken up, and not passed over in silence either.
func TestImageChangeIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(5 * time.Second)
		w.mustRun()
		pod, err := w.api.get("default", "web")
		if err != nil {
			t.Fatal(err)
		}
		was := w.status().ContainerStatuses[0].ContainerID
		pod.Labels = map[string]string{"round": "second"}
		if err := w.p.UpdatePod(t.Context(), w.api.put(pod)); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if w.hasEvent("ImageChangeIgnored") {
			t.Error("an event about an image that did not change")
		}
		pod.Spec.Containers[0].Image = "registry.example/other:2"
		if err := w.p.UpdatePod(t.Context(), w.api.put(pod)); err != nil {
			t.Fatal(err)
		}
		settle(5 * time.Second)
		if !w.hasEvent("ImageChangeIgnored") {
			t.Errorf("no event about the image: %q", w.reasons())
		}
		if now := w.status().ContainerStatuses[0].ContainerID; now != was {
			t.Errorf("the container was replaced: %s, then %s", was, now)
		}
	})
}
