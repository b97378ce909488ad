package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

// TestLeaveWithPods takes a host out of a cluster that it cannot speak to, with
// all kinds of pods still running on it: none of them is drained, and the host
// must be as it was all the same.
func TestLeaveWithPods(t *testing.T) {
	ctx := t.Context()
	const shown = "/srv/leave"
	h, err := bed.NewHost(ctx, "leave1", testbed.HostOptions{NoAgent: true, AgentFlags: []string{"--host-pod-namespaces", hostNamespace, "--host-path", shown}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(ctx, "mkdir", "-p", shown+"/pv"); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		t.Helper()
		out, err := h.Run(ctx, "sh", "-c", "mount -p | grep reddwarf; pgrep -f '[p]odinit.* host /' >/dev/null && echo a host pod; ls -R "+shown)
		if err != nil {
			t.Fatal(err)
		}
		return snapshot(t, h) + out
	}
	before := state()
	if err := h.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.StopAgent()
		bed.Kubectl(context.Background(), "delete", "node", "leave1", "--ignore-not-found")
	})
	kubectl(t, "wait", "--for=create", "node/leave1", "--timeout=120s")
	kubectl(t, "wait", "--for=condition=Ready", "node/leave1", "--timeout=120s")

	on := func(manifest string) string {
		return strings.Replace(manifest, "nodeSelector: {kubernetes.io/os: illumos}", "nodeName: leave1", 1)
	}
	apply(t, hostClass)
	apply(t, persistent("leave", "hostPath: {path: "+shown+"/pv}"))
	gone := func(manifest string) { // its node will not say that it has ended
		t.Helper()
		apply(t, on(manifest))
		t.Cleanup(func() {
			bed.KubectlIn(context.Background(), on(manifest), "delete", "--ignore-not-found", "--force", "--grace-period=0", "-f", "-") //nolint:errcheck // the next clean-up tells
		})
	}
	gone(hostPod(hostNamespace, "leave-host", "exec sleep 1000"))
	gone(sleeper("leave-pv", "- {name: data, persistentVolumeClaim: {claimName: leave}}\n- {name: scratch, emptyDir: {}}", "- {name: data, mountPath: /data}\n- {name: scratch, mountPath: /scratch}"))
	kubectl(t, "wait", "-n", hostNamespace, "--for=condition=Ready", "pod/leave-host", "--timeout=2m")
	waitPod(t, "leave-pv", "a ready pod", ready)
	if during := state(); !strings.Contains(during, "\na host pod\n") || !strings.Contains(during, "\n"+shown+"/pv - ") {
		t.Errorf("the host shows neither the host pod nor the mount:\n%s", during)
	}
	if err := h.KillAgent(ctx); err != nil {
		t.Fatal(err)
	}
	for _, again := range []string{"", "again"} {
		limited, cancel := context.WithTimeout(ctx, 3*time.Minute)
		out, err := h.Run(limited, bed.Program("reddwarf"), "leave", "--node-name", "leave1", "--host-only", "--podinit-native", bed.Program("podinit-linux"))
		cancel()
		if err != nil {
			t.Fatalf("leave %s: %v\n%s", again, err, out)
		}
		if after := state(); after != before {
			t.Errorf("%s the host is not as it was:\n%s\nwant\n%s", again, after, before)
		}
	}
}
