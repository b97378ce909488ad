package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// zoneIDs maps each pod zone of the host to its kernel id, which is new at
// every boot.
func zoneIDs(t *testing.T) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for line := range strings.Lines(onHost(t, "zoneadm", "list", "-p")) {
		f := strings.Split(line, ":")
		if len(f) > 1 && strings.HasPrefix(f[1], "rdw-") {
			ids[f[1]] = f[0]
		}
	}
	return ids
}

// TestAgentCrash kills the agent while pods run: nothing happens to the pods,
// and nobody who watches the API sees them flap.
func TestAgentCrash(t *testing.T) {
	kubectl(t, "create", "deployment", "steady", "--image="+webImage, "--replicas=5")
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "deployment", "steady", "--wait=true") })
	kubectl(t, "patch", "deployment", "steady", "-p",
		`{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1,"tolerations":[{"key":"virtual-kubelet.io/provider","operator":"Exists"}]}}}}`)
	apply(t, pod("restarted", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sh", "-c", "sleep 1; exit 1"]`))
	waitReady(t, "app=steady", 5)
	waitPod(t, "restarted", "a restart", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount >= 1
	})
	pods, err := getPods(t.Context(), "app=steady")
	if err != nil {
		t.Fatal(err)
	}
	zones := zoneIDs(t)

	ctx, cancel := context.WithCancel(t.Context())
	watch := bed.KubectlCommand(ctx, "get", "pods", "-l", "app=steady", "--watch-only", "-o",
		`jsonpath={.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status} {.status.containerStatuses[0].restartCount}{"\n"}`)
	var seen strings.Builder
	watch.Stdout = &seen
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := host.KillAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := host.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // whatever the new agent does wrong, it does at its start
	}
	cancel()
	watch.Wait()
	for line := range strings.Lines(seen.String()) {
		if !strings.HasSuffix(strings.TrimSpace(line), "Running True 0") {
			t.Errorf("the API showed %q while the agent was restarted", strings.TrimSpace(line))
		}
	}
	for name, id := range zones {
		if now := zoneIDs(t)[name]; now != id && !strings.Contains(name, "restarted") {
			t.Errorf("zone %s has id %s, had %s: it was booted again", name, now, id)
		}
	}
	for i := range pods {
		p, err := getPod(t.Context(), pods[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		if p.UID != pods[i].UID || !ready(p) || p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("pod %s: %s", p.Name, describe(p))
		}
	}
	p, err := getPod(t.Context(), "restarted")
	if err != nil {
		t.Fatal(err)
	}
	if p.Status.ContainerStatuses[0].RestartCount < 1 {
		t.Errorf("the restart count was lost: %s", describe(p))
	}
}

// TestDeletedWhileAgentIsDown: the zone goes when the agent comes back.
func TestDeletedWhileAgentIsDown(t *testing.T) {
	apply(t, pod("orphan", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	p := waitPod(t, "orphan", "a ready pod", ready)
	if err := host.KillAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := bed.Kubectl(t.Context(), "delete", "pod", "orphan", "--grace-period=0", "--force")
	if startErr := host.StartAgent(t.Context()); startErr != nil {
		t.Fatal(startErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	waitGone(t, p)
}

// TestFailingHostCommands lets each command of a pod's start fail: the pod
// becomes ready all the same, and its deletion leaves nothing.
func TestFailingHostCommands(t *testing.T) {
	for i, match := range []string{
		"zfs create *", "zfs clone *", "zfs snapshot *", "dladm create-vnic *", "zonecfg -z rdw-*", "zoneadm -z * mark *", "zoneadm -z * boot*",
	} {
		t.Run(match, func(t *testing.T) {
			name := fmt.Sprintf("faulty%d", i)
			if err := host.Fault(t.Context(), "--match", match, "--fail", "1", "--stderr", "simulated failure", "--times", "1"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { host.Fault(context.Background(), "--clear") })
			apply(t, pod(name, busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
			p := waitPod(t, name, "a ready pod", ready)
			kubectl(t, "delete", "pod", name, "--wait=true", "--timeout=60s")
			waitGone(t, p)
		})
	}
}

// TestAgentDiesAfterHostCommands lets the agent die right after each command
// of a pod's start, and starts it again. Its record is written while its
// datasets are made, so that it may be lost then.
func TestAgentDiesAfterHostCommands(t *testing.T) {
	for i, tt := range []struct {
		match string
		lost  bool
	}{
		{"zfs create -o io.reddwarf:uid=*", true}, {"zfs clone *", false}, {"zfs snapshot *", true}, {"dladm create-vnic *", false},
		{"zonecfg -z rdw-*", false}, {"zoneadm -z * mark *", false}, {"zoneadm -z * boot*", false}, {"zoneadm list -cp", false},
	} {
		t.Run(tt.match, func(t *testing.T) {
			name := fmt.Sprintf("killed%d", i)
			if err := host.Fault(t.Context(), "--match", tt.match, "--kill-agent-after", "--times", "1"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { host.Fault(context.Background(), "--clear") })
			apply(t, pod(name, busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
			if err := host.AwaitAgentEnd(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tt.lost {
				p := waitPod(t, name, "a pod", func(*corev1.Pod) bool { return true })
				if out, err := host.Run(t.Context(), "rm", "-rf", "/var/lib/reddwarf/pods/"+string(p.UID)); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			if err := host.StartAgent(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := waitPod(t, name, "a ready pod", ready)
			if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
				t.Errorf("restart count %d, want 0", n)
			}
			kubectl(t, "delete", "pod", name, "--wait=true", "--timeout=60s")
			waitGone(t, p)
		})
	}
}
