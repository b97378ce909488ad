package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestImageChange gives a container another image while its pod runs: it is
// restarted with it, and nothing else happens to the pod.
func TestImageChange(t *testing.T) {
	apply(t, `apiVersion: v1
kind: Pod
metadata: {name: changed}
spec:`+onNode+`
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: `+image("reddwarf/nonroot:1")+`
    command: [sh, -c, "id -u >>/data/users; until [ -e /stop ]; do sleep 0.2; done"]
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: other, image: "`+busyboxImage+`", command: [sleep, "3600"]}
`)
	before := waitPod(t, "changed", "a ready pod", ready)
	zones := zoneIDs(t)
	kubectl(t, "patch", "pod", "changed", "--type=json", "-p",
		`[{"op": "replace", "path": "/spec/containers/0/image", "value": "`+busyboxImage+`"}]`)
	restarted := func(n int32) func(p *corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			for _, s := range p.Status.ContainerStatuses {
				if s.Name == "main" {
					return s.RestartCount == n && s.State.Running != nil && s.Image == busyboxImage
				}
			}
			return false
		}
	}
	after := waitPod(t, "changed", "the other image", restarted(1))
	for i, s := range after.Status.ContainerStatuses {
		was := before.Status.ContainerStatuses[i]
		if (s.Name == "main") == (s.ImageID == was.ImageID || s.ContainerID == was.ContainerID) {
			t.Errorf("%s was %s of %s, and is %s of %s", s.Name, was.ContainerID, was.ImageID, s.ContainerID, s.ImageID)
		}
	}
	if now := zoneIDs(t); fmt.Sprint(now) != fmt.Sprint(zones) {
		t.Errorf("zones were %v, and are %v", zones, now)
	}
	waitEvent(t, "changed", "Killing: Container main definition changed, will be restarted")
	// The next attempt has a fresh root of that image: with the file it would end at once, again and again.
	kubectl(t, "exec", "changed", "-c", "main", "--", "touch", "/stop")
	waitPod(t, "changed", "the next attempt", restarted(2))
	err := bed.Eventually(t.Context(), time.Minute, "a fresh root", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "exec", "changed", "-c", "main", "--", "sh", "-c", "ls /; cat /data/users")
		if err == nil && (strings.Contains(out, "stop") || !strings.HasSuffix(out, "\n1234\n0\n0\n")) {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
