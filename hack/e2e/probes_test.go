package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// setHealth makes the web server of a pod answer its health checks with code.
func setHealth(t *testing.T, p *corev1.Pod, code int) {
	t.Helper()
	body := fmt.Sprint(code)
	request := fmt.Sprintf(`PUT /healthz HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s`, len(body), body)
	out := onHost(t, "sh", "-c", fmt.Sprintf("printf '%s' | busybox nc -w 5 %s 8080", request, p.Status.PodIP))
	if !strings.Contains(out, " 200 OK") {
		t.Fatalf("the web server says %q", out)
	}
}

// waitEvent waits for an event of a pod that begins with text.
func waitEvent(t *testing.T, name, text string) {
	t.Helper()
	err := bed.Eventually(t.Context(), 30*time.Second, fmt.Sprintf("the event %q", text), func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+name,
			"-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		if err == nil && !strings.Contains("\n"+out, "\n"+text) {
			err = fmt.Errorf("the events are\n%s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func mainStatus(p *corev1.Pod) corev1.ContainerStatus {
	if len(p.Status.ContainerStatuses) != 1 {
		return corev1.ContainerStatus{}
	}
	return p.Status.ContainerStatuses[0]
}

// unready reports whether a pod runs and is not ready, by all that says so.
func unready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if (c.Type == corev1.PodReady || c.Type == corev1.ContainersReady) && c.Status != corev1.ConditionFalse {
			return false
		}
	}
	return mainStatus(p).State.Running != nil && !mainStatus(p).Ready && p.Status.Phase == corev1.PodRunning
}

func TestProbeReadiness(t *testing.T) {
	apply(t, pod("readiness", webImage, "terminationGracePeriodSeconds: 1", `
ports: [{name: http, containerPort: 8080}]
readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 2}`))
	p := waitPod(t, "readiness", "a ready pod", ready)
	setHealth(t, p, 503)
	waitPod(t, "readiness", "a pod that is not ready", unready)
	waitEvent(t, "readiness", "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503")
	setHealth(t, p, 302) // without Location, so it is an answer like any other
	p = waitPod(t, "readiness", "a ready pod", ready)
	if n := mainStatus(p).RestartCount; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

func TestProbeLiveness(t *testing.T) {
	apply(t, pod("liveness", webImage, "terminationGracePeriodSeconds: 5", `
livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 2}`))
	before := waitPod(t, "liveness", "a ready pod", ready)
	zone := zoneIDs(t)["rdw-"+string(before.UID)]
	setHealth(t, before, 500)
	p := waitPod(t, "liveness", "a restarted and ready pod", func(p *corev1.Pod) bool { return ready(p) && mainStatus(p).RestartCount == 1 })
	if s := mainStatus(p).LastTerminationState.Terminated; s == nil || p.Status.PodIP != before.Status.PodIP {
		t.Errorf("pod %s", describe(p))
	}
	if now := zoneIDs(t)["rdw-"+string(p.UID)]; now != zone {
		t.Errorf("the zone had id %s and has %s", zone, now)
	}
	waitEvent(t, "liveness", "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500")
	waitEvent(t, "liveness", "Killing: Container main failed liveness probe, will be restarted")
}

// TestProbeGracePeriod: the probe's own grace period counts, not the pod's.
func TestProbeGracePeriod(t *testing.T) {
	apply(t, pod("ill", busyboxImage, "terminationGracePeriodSeconds: 3600", `
command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
livenessProbe: {exec: {command: ["sh", "-c", "echo not today; exit 3"]}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 2}`))
	t.Cleanup(func() {
		bed.Kubectl(context.Background(), "delete", "pod", "ill", "--grace-period=0", "--force", "--ignore-not-found")
	})
	p := waitPod(t, "ill", "a restart", func(p *corev1.Pod) bool { return mainStatus(p).RestartCount >= 1 })
	if s := mainStatus(p).LastTerminationState.Terminated; s == nil || s.ExitCode != 137 {
		t.Errorf("last state %+v", s)
	}
	waitEvent(t, "ill", "Unhealthy: Liveness probe failed: not today")
}

// TestProbeStartup: nothing else is probed before the container has started,
// and the programs run in it without a process of the global zone.
func TestProbeStartup(t *testing.T) {
	apply(t, pod("startup", busyboxImage, "terminationGracePeriodSeconds: 1", `
command: ["sleep", "3600"]
startupProbe: {exec: {command: ["test", "-e", "/tmp/up"]}, periodSeconds: 1, failureThreshold: 120}
livenessProbe: {exec: {command: ["test", "-e", "/tmp/up"]}, periodSeconds: 1, failureThreshold: 1}
readinessProbe: {exec: {command: ["test", "-e", "/tmp/ready"]}, periodSeconds: 1}`))
	waitEvent(t, "startup", "Unhealthy: Startup probe failed")
	p := waitPod(t, "startup", "a pod that has not started", unready)
	if s := mainStatus(p); s.Started == nil || *s.Started || s.RestartCount != 0 {
		t.Errorf("status %+v", s)
	}
	kubectl(t, "exec", "startup", "--", "touch", "/tmp/up")
	p = waitPod(t, "startup", "a pod that has started", func(p *corev1.Pod) bool {
		s := mainStatus(p).Started
		return s != nil && *s
	})
	if !unready(p) {
		t.Errorf("ready before it said so: %s", describe(p))
	}
	kubectl(t, "exec", "startup", "--", "touch", "/tmp/ready")
	p = waitPod(t, "startup", "a ready pod", ready)
	trace, err := os.ReadFile(host.TraceFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(trace)) {
		if strings.Contains(line, `"zlogin"`) && strings.Contains(line, string(p.UID)) {
			t.Errorf("a process was started for a probe: %s", line)
		}
	}
	kubectl(t, "exec", "startup", "--", "rm", "/tmp/up")
	waitPod(t, "startup", "a restart", func(p *corev1.Pod) bool { return mainStatus(p).RestartCount == 1 })
}

func TestProbeTCPAndGRPC(t *testing.T) {
	apply(t, pod("tcp", webImage, "terminationGracePeriodSeconds: 1", "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}"))
	apply(t, pod("closed", webImage, "terminationGracePeriodSeconds: 1", "readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}"))
	apply(t, pod("nogrpc", webImage, "terminationGracePeriodSeconds: 1", "readinessProbe: {grpc: {port: 8080}, periodSeconds: 2}"))
	waitPod(t, "tcp", "a ready pod", ready)
	waitPod(t, "closed", "a pod that is not ready", unready)
	waitEvent(t, "closed", "Unhealthy: Readiness probe failed: dial tcp")
	waitEvent(t, "nogrpc", "Unhealthy: Readiness probe failed: ")
	waitPod(t, "nogrpc", "a pod that is not ready", unready)
}

// TestProbeMissingProgram: a probe that cannot be carried out restarts nobody.
func TestProbeMissingProgram(t *testing.T) {
	apply(t, pod("noprobe", webImage, "terminationGracePeriodSeconds: 1", `
livenessProbe: {exec: {command: ["/no/such/program"]}, periodSeconds: 1, failureThreshold: 1}`))
	waitEvent(t, "noprobe", "Unhealthy: Liveness probe errored and resulted in unknown state: ")
	if p := waitPod(t, "noprobe", "a ready pod", ready); mainStatus(p).RestartCount != 0 {
		t.Errorf("pod %s", describe(p))
	}
}

// TestProbesOverAgentCrash: verdicts outlive the agent, and the next one draws
// its own.
func TestProbesOverAgentCrash(t *testing.T) {
	apply(t, pod("kept", webImage, "terminationGracePeriodSeconds: 1", `
startupProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 2, failureThreshold: 1}`))
	p := waitPod(t, "kept", "a ready pod", ready)
	ctx, cancel := context.WithCancel(t.Context())
	watch := bed.KubectlCommand(ctx, "get", "pods", "kept", "--watch-only", "-o",
		`jsonpath={.status.phase} {.status.conditions[?(@.type=="Ready")].status} {.status.containerStatuses[0].started} {.status.containerStatuses[0].restartCount}{"\n"}`)
	var seen strings.Builder
	watch.Stdout = &seen
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	restart := func() {
		if err := host.KillAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := host.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	time.Sleep(5 * time.Second) // more than two periods: whatever is concluded wrongly, is by now
	cancel()
	watch.Wait()
	for line := range strings.Lines(seen.String()) {
		if strings.TrimSpace(line) != "Running True true 0" {
			t.Errorf("the API showed %q while the agent was restarted", strings.TrimSpace(line))
		}
	}
	if err := host.KillAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	setHealth(t, p, 503)
	if err := host.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = waitPod(t, "kept", "a pod that is not ready", unready)
	if s := mainStatus(p); s.RestartCount != 0 || !*s.Started {
		t.Errorf("status %+v", s)
	}
}
