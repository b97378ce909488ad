package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHooks(t *testing.T) {
	apply(t, pod("hooks", busyboxImage, "terminationGracePeriodSeconds: 20\nvolumes: [{name: shared, emptyDir: {}}]", `
command: ["sh", "-c", "trap 'ls /shared; exit 0' TERM; echo up; while :; do sleep 0.1; done"]
volumeMounts: [{name: shared, mountPath: /shared}]
lifecycle:
  postStart: {exec: {command: ["sh", "-c", "sleep 2; touch /shared/begun"]}}
  preStop: {exec: {command: ["sh", "-c", "sleep 1; touch /shared/ending"]}}
`))
	p := waitPod(t, "hooks", "a ready pod", ready)
	if out := kubectl(t, "exec", "hooks", "--", "ls", "/shared"); out != "begun\n" {
		t.Errorf("the pod was running before its hook had ended: %q", out)
	}
	cmd := bed.KubectlCommand(t.Context(), "logs", "-f", "hooks")
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "pod", "hooks", "--wait=true", "--timeout=60s")
	cmd.Wait()
	if !strings.Contains(out.String(), "begun\nending\n") {
		t.Errorf("on SIGTERM the container saw %q", out.String())
	}
	waitGone(t, p)
}

func TestFailedPostStartHook(t *testing.T) {
	apply(t, pod("badhook", busyboxImage, "restartPolicy: Never\nterminationGracePeriodSeconds: 2", `
command: ["sleep", "3600"]
lifecycle: {postStart: {exec: {command: ["sh", "-c", "exit 3"]}}}
`))
	waitPod(t, "badhook", "phase Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	waitEvent(t, "badhook", "FailedPostStartHook")
}

// TestSidecar has an init container that needs the sidecar before it, and a
// sidecar that is there until the end.
func TestSidecar(t *testing.T) {
	apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: side}\nspec:"+onNode+`
  restartPolicy: Never
  terminationGracePeriodSeconds: 10
  initContainers:
  - {name: server, image: "`+webImage+`", restartPolicy: Always}
  - {name: wait, image: "`+busyboxImage+`", command: ["sh", "-c", "until wget -qO- http://127.0.0.1:8080/healthz; do sleep 0.2; done"]}
  containers:
  - {name: main, image: "`+busyboxImage+`", command: ["sh", "-c", "wget -qO- http://127.0.0.1:8080/healthz; sleep 2"]}
`)
	p := waitPod(t, "side", "phase Succeeded", func(p *corev1.Pod) bool {
		if p.Status.Phase == corev1.PodFailed {
			t.Fatalf("the pod failed: %s", describe(p))
		}
		return p.Status.Phase == corev1.PodSucceeded
	})
	server := p.Status.InitContainerStatuses[0]
	if server.State.Terminated == nil || server.RestartCount != 0 {
		t.Errorf("the sidecar of a finished pod: %+v", server)
	}
	main := p.Status.ContainerStatuses[0].State.Terminated
	if main == nil || main.ExitCode != 0 || server.State.Terminated.FinishedAt.Before(&main.FinishedAt) {
		t.Errorf("main %+v ended after its sidecar %+v", main, server.State.Terminated)
	}
}

// TestSidecarRestarts: a sidecar that ends is started again whatever the pod's
// policy.
func TestSidecarRestarts(t *testing.T) {
	apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: again}\nspec:"+onNode+`
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: helper, image: "`+busyboxImage+`", restartPolicy: Always, command: ["sh", "-c", "sleep 1"]}
  containers:
  - {name: main, image: "`+busyboxImage+`", command: ["sleep", "3600"]}
`)
	p := waitPod(t, "again", "a restart of the sidecar", func(p *corev1.Pod) bool {
		return len(p.Status.InitContainerStatuses) == 1 && p.Status.InitContainerStatuses[0].RestartCount >= 1
	})
	if s := p.Status.ContainerStatuses[0]; s.State.Running == nil || s.RestartCount != 0 {
		t.Errorf("the main container: %+v", s)
	}
}

// TestEmptyDirs: every kind is writable by whoever the container runs as, is
// of the pod's group, shared by its containers, and full at its limit or the
// end of its pod.
func TestEmptyDirs(t *testing.T) {
	apply(t, pod("empty", busyboxImage, `
terminationGracePeriodSeconds: 1
securityContext: {runAsUser: 1234, runAsGroup: 1234, fsGroup: 4711}
volumes:
- {name: plain, emptyDir: {}}
- {name: limited, emptyDir: {sizeLimit: 8Mi}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
`, `
command: ["sleep", "3600"]
volumeMounts: [{name: plain, mountPath: /plain}, {name: limited, mountPath: /limited}, {name: memory, mountPath: /memory}]
`))
	waitPod(t, "empty", "a ready pod", ready)
	// A tmpfs keeps its sticky bit, as with a kubelet.
	for dir, mode := range map[string]string{"/plain": "2777", "/limited": "2777", "/memory": "3777"} {
		if out := kubectl(t, "exec", "empty", "--", "sh", "-c", "touch "+dir+"/f && stat -c '%a %g' "+dir+" && stat -c '%u %g' "+dir+"/f"); out != mode+" 4711\n1234 4711\n" {
			t.Errorf("%s is %q", dir, out)
		}
	}
	out, code := kubectlCode(t, "", "exec", "empty", "--", "sh", "-c", "dd if=/dev/urandom of=/memory/big bs=1M count=16 conv=fsync; r=$?; rm -f /memory/big; exit $r")
	if code == 0 {
		t.Errorf("/memory holds more than its limit: %s", out)
	}
	kubectl(t, "exec", "empty", "--", "dd", "if=/dev/urandom", "of=/limited/big", "bs=1M", "count=16", "conv=fsync")
	waitPod(t, "empty", "an evicted pod", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted" && p.Status.Message == `Usage of EmptyDir volume "limited" exceeds the limit "8Mi". `
	})
}
