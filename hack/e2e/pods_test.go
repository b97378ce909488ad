package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestDeployment is the main job: replicas in zones of their own, with
// addresses that answer from the host and from each other, and nothing left
// when they are deleted.
func TestDeployment(t *testing.T) {
	before := vnics(t)
	kubectl(t, "create", "deployment", "web", "--image="+webImage, "--replicas=5")
	t.Cleanup(func() {
		bed.Kubectl(context.Background(), "delete", "deployment", "web", "--ignore-not-found", "--wait=true")
	})
	kubectl(t, "patch", "deployment", "web", "-p",
		`{"spec":{"template":{"spec":{"tolerations":[{"key":"virtual-kubelet.io/provider","operator":"Exists"}]}}}}`)
	pods := waitReady(t, "app=web", 5)

	seen := map[string]bool{}
	for _, p := range pods {
		ip := p.Status.PodIP
		if !validIP(ip) || seen[ip] {
			t.Fatalf("pod %s has address %q, others have %v", p.Name, ip, seen)
		}
		seen[ip] = true
		if out := onHost(t, "wget", "-qO-", "-T", "5", "http://"+ip+":8080/"); !strings.Contains(out, p.Name) {
			t.Errorf("pod %s answers the host with %q", p.Name, out)
		}
	}
	for _, p := range pods {
		for ip := range seen {
			if out := kubectl(t, "exec", p.Name, "--", "/web", "fetch", "http://"+ip+":8080/"); !strings.Contains(out, "web-") {
				t.Errorf("pod %s gets %q from %s", p.Name, out, ip)
			}
		}
	}

	kubectl(t, "delete", "pod", pods[0].Name, "--wait=true")
	waitGone(t, &pods[0])
	pods = waitReady(t, "app=web", 5)

	kubectl(t, "delete", "deployment", "web", "--wait=true")
	for i := range pods {
		kubectl(t, "wait", "--for=delete", "pod/"+pods[i].Name, "--timeout=60s")
		waitGone(t, &pods[i])
	}
	// Links of an earlier test may have gone meanwhile.
	after := vnics(t)
	if slices.ContainsFunc(after, func(link string) bool { return !slices.Contains(before, link) }) {
		t.Errorf("links before: %v; after: %v", before, after)
	}
}

func TestExec(t *testing.T) {
	apply(t, pod("exec", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, "exec", "a ready pod", ready)

	if _, code := kubectlCode(t, "", "exec", "exec", "--", "sh", "-c", "exit 7"); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if _, code := kubectlCode(t, "", "exec", "exec", "--", "sh", "-c", "kill -9 $$"); code != 137 {
		t.Errorf("exit code of a killed command %d, want 137", code)
	}
	if out, code := kubectlCode(t, "hello zone", "exec", "-i", "exec", "--", "cat"); code != 0 || out != "hello zone" {
		t.Errorf("cat returned %q, code %d", out, code)
	}
	odd := `a b'c"d;$(id)` + "\n`id`*ü"
	if out, _ := kubectlCode(t, "", "exec", "exec", "--", "printf", "%s", odd); out != odd {
		t.Errorf("argument arrived as %q, want %q", out, odd)
	}
	if _, code := kubectlCode(t, "", "exec", "exec", "--", "/no/such/program"); code == 0 {
		t.Error("a missing program succeeded")
	}
	out, err := bed.KubectlCommand(t.Context(), "exec", "exec", "--", "sh", "-c", "echo out; echo err >&2").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "out\n") || !strings.Contains(string(out), "err\n") {
		t.Errorf("streams: %q, %v", out, err)
	}
}

func TestLogs(t *testing.T) {
	apply(t, pod("logs", busyboxImage, "restartPolicy: Never", `command: ["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; sleep 2; echo last"]`))
	waitPod(t, "logs", "a started pod", func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })
	// Standard output and error are two pipes: their lines may pass each other.
	out := kubectl(t, "logs", "-f", "logs")
	if stdout := strings.Replace(out, "oops\n", "", 1); stdout == out || stdout != "line 1\nline 2\nline 3\nline 4\nline 5\nlast\n" {
		t.Errorf("followed %q", out)
	}
	if out := kubectl(t, "logs", "--tail=1", "logs"); out != "last\n" {
		t.Errorf("tail = %q", out)
	}
	if out := kubectl(t, "logs", "--tail=0", "logs"); out != "" {
		t.Errorf("tail 0 = %q", out)
	}
	if out := kubectl(t, "logs", "--timestamps", "--tail=1", "logs"); !strings.HasPrefix(out, fmt.Sprint(time.Now().UTC().Year())) {
		t.Errorf("timestamps: %q", out)
	}
}

func TestTerminalPhases(t *testing.T) {
	apply(t, pod("good", busyboxImage, "restartPolicy: Never", `command: ["true"]`))
	apply(t, pod("bad", busyboxImage, "restartPolicy: Never", `command: ["sh", "-c", "exit 3"]`))
	good := waitPod(t, "good", "phase Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if s := good.Status.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("state = %+v", s)
	}
	bad := waitPod(t, "bad", "phase Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := bad.Status.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode != 3 || s.Reason != "Error" {
		t.Errorf("state = %+v", s)
	}
}

func TestCrashLoop(t *testing.T) {
	apply(t, pod("crash", busyboxImage, "", `command: ["sh", "-c", "echo attempt; touch /mark && ls /mark; exit 1"]`))
	waitPod(t, "crash", "CrashLoopBackOff after a restart", func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) != 1 {
			return false
		}
		s := p.Status.ContainerStatuses[0]
		return s.RestartCount >= 1 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
	for _, args := range [][]string{{"--previous"}, {"-f", "--previous"}} {
		if out := kubectl(t, append([]string{"logs", "crash"}, args...)...); !strings.HasPrefix(out, "attempt\n") {
			t.Errorf("logs %v: %q", args, out)
		}
	}
}

func TestRestartHasAFreshRoot(t *testing.T) {
	apply(t, pod("fresh", busyboxImage, "", `command: ["sh", "-c", "test -e /mark && echo stale || echo fresh; touch /mark; sleep 1; exit 1"]`))
	waitPod(t, "fresh", "a second attempt", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount >= 1
	})
	err := bed.Eventually(t.Context(), time.Minute, "the second attempt's log", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "logs", "fresh")
		if err == nil && out != "fresh\n" {
			err = fmt.Errorf("the log says %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTwoContainersShareTheZone(t *testing.T) {
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: pair}\nspec:" + onNode + `
  containers:
  - {name: web, image: "` + webImage + `"}
  - {name: client, image: "` + busyboxImage + `", command: ["sh", "-c", "until wget -qO- http://127.0.0.1:8080/healthz; do sleep 1; done; sleep 3600"]}
  terminationGracePeriodSeconds: 1
`
	apply(t, manifest)
	waitPod(t, "pair", "a ready pod", ready)
	err := bed.Eventually(t.Context(), 30*time.Second, "the client to reach the server over loopback", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "logs", "pair", "-c", "client")
		if err == nil && !strings.Contains(out, "200") {
			err = fmt.Errorf("the client's log says %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestGracefulTermination(t *testing.T) {
	apply(t, pod("slow", busyboxImage, "terminationGracePeriodSeconds: 20",
		`command: ["sh", "-c", "trap 'echo got TERM; sleep 2; exit 0' TERM; echo up; while :; do sleep 0.1; done"]`))
	p := waitPod(t, "slow", "a ready pod", ready)
	cmd := bed.KubectlCommand(t.Context(), "logs", "-f", "slow")
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "pod", "slow", "--wait=true", "--timeout=60s")
	cmd.Wait()
	if !strings.Contains(out.String(), "got TERM") {
		t.Errorf("the container did not see SIGTERM: %q", out.String())
	}
	waitGone(t, p)
}

func TestForceDelete(t *testing.T) {
	apply(t, pod("forced", busyboxImage, "", `command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]`))
	p := waitPod(t, "forced", "a ready pod", ready)
	kubectl(t, "delete", "pod", "forced", "--grace-period=0", "--force")
	waitGone(t, p)
}

func TestServiceAccountVolume(t *testing.T) {
	apply(t, pod("token", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, "token", "a ready pod", ready)
	dir := "/var/run/secrets/kubernetes.io/serviceaccount/"
	if out := kubectl(t, "exec", "token", "--", "cat", dir+"namespace"); out != "default" {
		t.Errorf("namespace = %q", out)
	}
	if out := kubectl(t, "exec", "token", "--", "cat", dir+"token"); strings.Count(out, ".") != 2 {
		t.Errorf("token = %q", out)
	}
	if out := kubectl(t, "exec", "token", "--", "cat", dir+"ca.crt"); !strings.Contains(out, "BEGIN CERTIFICATE") {
		t.Errorf("ca.crt = %q", out)
	}
	if _, code := kubectlCode(t, "", "exec", "token", "--", "sh", "-c", "echo x > "+dir+"token"); code == 0 {
		t.Error("the container could write its token")
	}
}
