package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// status returns the status of one of a pod's own containers.
func status(p *corev1.Pod, name string) corev1.ContainerStatus {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == name {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// TestNames: what a pod is called inside.
func TestNames(t *testing.T) {
	apply(t, pod("names", busyboxImage, `
restartPolicy: Never
hostname: box
subdomain: boxes
setHostnameAsFQDN: true
shareProcessNamespace: true
hostAliases: [{ip: 192.0.2.7, hostnames: [alias.example, alias]}]
`, `command: ["sh", "-c", "hostname; hostname -f; cat /etc/hostname; cat /etc/hosts"]`))
	apply(t, pod("overridden", busyboxImage, `
restartPolicy: Never
hostname: box
hostnameOverride: other.example
`, `command: ["sh", "-c", "hostname; grep other /etc/hosts"]`))
	p := waitPod(t, "names", "its end", finished)
	const fqdn = "box.boxes.default.svc.cluster.local"
	out := kubectl(t, "logs", "names")
	for _, want := range []string{fqdn + "\n" + fqdn + "\n" + fqdn + "\n", p.Status.PodIP + "\t" + fqdn + "\tbox\n", "192.0.2.7\talias.example\talias\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("it sees %q, without %q", out, want)
		}
	}
	p = waitPod(t, "overridden", "its end", finished)
	if out := kubectl(t, "logs", "overridden"); out != "other.example\n"+p.Status.PodIP+"\tother.example\n" {
		t.Errorf("with an overriding name it sees %q", out)
	}
}

// TestEnds: what containers say when they end, and what ends a pod.
func TestEnds(t *testing.T) {
	apply(t, pod("ends", busyboxImage, "restartPolicy: Never\nvolumes: [{name: count, emptyDir: {}}]", `
command: ["sh", "-c", "echo of its own >/custom; exit 3"]
terminationMessagePath: /custom
`)+indent(`
- name: logs
  image: `+busyboxImage+`
  command: ["sh", "-c", "echo the reason; exit 4"]
  terminationMessagePolicy: FallbackToLogsOnError
- name: rules
  image: `+busyboxImage+`
  command: ["sh", "-c", "echo x >>/count/x; test $(wc -l </count/x) -ge 3 || exit 42; exit 5"]
  restartPolicy: Never
  restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
  volumeMounts: [{name: count, mountPath: /count}]
`, "  "))
	apply(t, pod("deadline", busyboxImage, "activeDeadlineSeconds: 3\nterminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))

	p := waitPod(t, "ends", "its end", finished)
	for name, want := range map[string]corev1.ContainerStateTerminated{
		"main":  {ExitCode: 3, Reason: "Error", Message: "of its own\n"},
		"logs":  {ExitCode: 4, Reason: "Error", Message: "the reason\n"},
		"rules": {ExitCode: 5, Reason: "Error"},
	} {
		s := status(p, name)
		if e := s.State.Terminated; e == nil || e.ExitCode != want.ExitCode || e.Reason != want.Reason || e.Message != want.Message {
			t.Errorf("%s ended as %+v", name, s.State)
		}
		if restarts := map[string]int32{"rules": 2}[name]; s.RestartCount != restarts {
			t.Errorf("%s was restarted %d times, want %d", name, s.RestartCount, restarts)
		}
	}
	p = waitPod(t, "deadline", "its end", finished)
	if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "DeadlineExceeded" {
		t.Errorf("the pod with a deadline: %s %s", p.Status.Phase, p.Status.Reason)
	}
}

// TestRunInteractively is kubectl run -i --rm, which attaches to what it makes.
func TestRunInteractively(t *testing.T) {
	const place = `{"spec":{"tolerations":[{"key":"virtual-kubelet.io/provider","operator":"Exists"}],"nodeSelector":{"kubernetes.io/os":"illumos"}}}`
	out, code := kubectlCode(t, "echo typed $((6*7)); exit 3\n",
		"run", "interactive", "-i", "--rm", "--image="+busyboxImage, "--restart=Never", "--overrides="+place, "--", "sh")
	if !strings.Contains(out, "typed 42") || code != 3 {
		t.Errorf("it printed %q and ended with %d", out, code)
	}
	if _, err := getPod(t.Context(), "interactive"); err == nil {
		t.Error("the pod is still there")
	}
}

// TestSubPaths: files and directories of volumes, one that is made, and a link
// by which a container would like to see the zone.
func TestSubPaths(t *testing.T) {
	const manifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: parts}
data: {one: "of the ConfigMap", two: "unseen"}
`
	apply(t, manifest)
	apply(t, pod("subpaths", busyboxImage, `
restartPolicy: Never
volumes:
- {name: data, emptyDir: {}}
- {name: config, configMap: {name: parts}}
initContainers:
- name: prepare
  image: `+busyboxImage+`
  command: ["sh", "-c", "mkdir /data/real; echo of the volume >/data/real/file; ln -s real /data/link"]
  volumeMounts: [{name: data, mountPath: /data}]
`, `
env: [{name: WHO, value: made}]
command: ["sh", "-c", "cat /link/file /one /file; ls /etc/parts | grep -c two; echo x >/made/x && echo made; echo x 2>/dev/null >/readonly/x || echo read-only; stat -c %a /made"]
volumeMounts:
- {name: data, mountPath: /link, subPath: link}
- {name: data, mountPath: /file, subPath: real/file}
- {name: data, mountPath: /made, subPathExpr: $(WHO)/by/podinit}
- {name: data, mountPath: /readonly, subPath: real, readOnly: true}
- {name: config, mountPath: /one, subPath: one}
- {name: config, mountPath: /etc/parts/one, subPath: one}
`))
	apply(t, pod("escape", busyboxImage, `
terminationGracePeriodSeconds: 1
volumes: [{name: data, emptyDir: {}}]
initContainers:
- name: prepare
  image: `+busyboxImage+`
  command: ["sh", "-c", "ln -s / /data/root; ln -s ../../.. /data/up"]
  volumeMounts: [{name: data, mountPath: /data}]
`, `
command: ["sleep", "3600"]
volumeMounts: [{name: data, mountPath: /data}]
`)+indent(`
- name: root
  image: `+busyboxImage+`
  command: ["sleep", "3600"]
  volumeMounts: [{name: data, mountPath: /sub, subPath: root}]
- name: up
  image: `+busyboxImage+`
  command: ["sleep", "3600"]
  volumeMounts: [{name: data, mountPath: /sub, subPath: up}]
`, "  "))
	p := waitPod(t, "subpaths", "its end", finished)
	if out := kubectl(t, "logs", "subpaths"); p.Status.Phase != corev1.PodSucceeded ||
		out != "of the volume\nof the ConfigMapof the volume\n0\nmade\nread-only\n777\n" {
		t.Errorf("%s: %q", describe(p), out)
	}
	p = waitPod(t, "escape", "two containers that are refused", func(p *corev1.Pod) bool {
		refused := func(name string) bool {
			w := status(p, name).State.Waiting
			return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "subPath")
		}
		return refused("root") && refused("up")
	})
	if s := status(p, "main"); s.State.Running == nil {
		t.Errorf("the other container is %+v", s.State)
	}
	// It is tried again, so it heals, and has not been restarted then.
	kubectl(t, "exec", "escape", "-c", "main", "--", "sh", "-c", "rm /data/root /data/up; mkdir /data/root /data/up")
	p = waitPod(t, "escape", "a ready pod", ready)
	if s := status(p, "root"); s.RestartCount != 0 {
		t.Errorf("it was restarted %d times", s.RestartCount)
	}
}

// TestEnvironmentFromAFile that an earlier container of the pod has written.
func TestEnvironmentFromAFile(t *testing.T) {
	apply(t, pod("envfile", busyboxImage, `
restartPolicy: Never
volumes: [{name: conf, emptyDir: {}}]
initContainers:
- name: writer
  image: `+busyboxImage+`
  command: ["sh", "-c", "echo \"who='the whole world' # of it\" >/conf/env"]
  volumeMounts: [{name: conf, mountPath: /conf}]
`, `
env:
- {name: WHO, valueFrom: {fileKeyRef: {volumeName: conf, path: env, key: who}}}
- {name: NONE, valueFrom: {fileKeyRef: {volumeName: conf, path: env, key: none, optional: true}}}
command: ["sh", "-c", "echo hello $(WHO), ${NONE-nobody}"]
`))
	p := waitPod(t, "envfile", "its end", finished)
	if out := kubectl(t, "logs", "envfile"); out != "hello the whole world, nobody\n" {
		t.Errorf("%s: it printed %q", describe(p), out)
	}
}

// TestEviction and a deletion in the middle of a crash loop leave nothing.
func TestEviction(t *testing.T) {
	apply(t, pod("evicted", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	apply(t, pod("looping", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["false"]`))
	p := waitPod(t, "evicted", "a ready pod", ready)
	const eviction = `{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted", "namespace": "default"}}`
	if _, code := kubectlCode(t, eviction, "create", "--raw", "/api/v1/namespaces/default/pods/evicted/eviction", "-f", "-"); code != 0 {
		t.Fatalf("the eviction was refused: %d", code)
	}
	waitGone(t, p)
	p = waitPod(t, "looping", "a crash loop", func(p *corev1.Pod) bool { return waitingReason(p) == "CrashLoopBackOff" })
	kubectl(t, "delete", "pod", "looping", "--wait=false")
	waitGone(t, p)
}
