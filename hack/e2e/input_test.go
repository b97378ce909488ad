package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

func waitingReason(p *corev1.Pod) string {
	if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
		return ""
	}
	return p.Status.ContainerStatuses[0].State.Waiting.Reason
}

func TestUnknownImage(t *testing.T) {
	apply(t, pod("noimage", image("no/such:1"), "", ""))
	waitPod(t, "noimage", "ErrImagePull or ImagePullBackOff", func(p *corev1.Pod) bool {
		r := waitingReason(p)
		return r == "ErrImagePull" || r == "ImagePullBackOff"
	})
}

func TestInvalidImageName(t *testing.T) {
	apply(t, pod("badname", `"UPPER CASE:::"`, "", ""))
	waitPod(t, "badname", "InvalidImageName", func(p *corev1.Pod) bool { return waitingReason(p) == "InvalidImageName" })
}

func TestNeverPull(t *testing.T) {
	apply(t, pod("never", image("reddwarf/not-here:1"), "", "imagePullPolicy: Never"))
	waitPod(t, "never", "ErrImageNeverPull", func(p *corev1.Pod) bool { return waitingReason(p) == "ErrImageNeverPull" })
}

func TestMissingProgram(t *testing.T) {
	apply(t, pod("noprogram", busyboxImage, "restartPolicy: Never", `command: ["/no/such/program"]`))
	p := waitPod(t, "noprogram", "phase Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s == nil || s.ExitCode == 0 || !strings.Contains(s.Message, "/no/such/program") {
		t.Errorf("state = %+v", s)
	}
}

func TestEnvironmentArrivesVerbatim(t *testing.T) {
	values := map[string]string{
		"QUOTES":  `it's "quoted" \ and 'more'`,
		"LINES":   "one\ntwo\n\nthree\n",
		"SHELL_":  "; rm -rf / && $(id) `id` | cat > /x & # !",
		"UTF":     "žluťoučký 犬 🐄",
		"EMPTY":   "",
		"PERCENT": "%s %d \x01",
	}
	var env []corev1.EnvVar
	for k, v := range values {
		env = append(env, corev1.EnvVar{Name: k, Value: v})
	}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, pod("env", webImage, "terminationGracePeriodSeconds: 1", "env: "+string(text)))
	p := waitPod(t, "env", "a ready pod", ready)
	out := onHost(t, "wget", "-qO-", "-T", "5", "http://"+p.Status.PodIP+":8080/env")
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for k, want := range values {
		want = strings.ReplaceAll(want, "$(id)", "$(id)") // an unknown reference stays as it is
		if got[k] != want {
			t.Errorf("%s = %q, want %q", k, got[k], want)
		}
	}
}

func TestLongestName(t *testing.T) {
	name := strings.Repeat("a", 62) + "." + strings.Repeat("b", 62) + "." + strings.Repeat("c", 62) + "." + strings.Repeat("d", 64-1) + "x"
	name = name[:253]
	apply(t, pod(name, busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, name, "a ready pod", ready)
	if out, code := kubectlCode(t, "", "exec", name, "--", "hostname"); code != 0 || strings.TrimSpace(out) == "" || len(strings.TrimSpace(out)) > 63 {
		t.Errorf("hostname = %q, code %d", out, code)
	}
}

func TestPrivateRegistry(t *testing.T) {
	private := testbed.PrivateRegistry + "/busybox:1"
	apply(t, pod("denied", private, "", `command: ["sleep", "3600"]`))
	waitPod(t, "denied", "a pull that is refused", func(p *corev1.Pod) bool {
		r := waitingReason(p)
		return r == "ErrImagePull" || r == "ImagePullBackOff"
	})
	kubectl(t, "create", "secret", "docker-registry", "pull", "--docker-server="+testbed.PrivateRegistry,
		"--docker-username="+testbed.RegistryUser, "--docker-password="+testbed.RegistryPassword)
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "secret", "pull") })
	apply(t, pod("allowed", private, "imagePullSecrets: [{name: pull}]\nterminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, "allowed", "a ready pod", ready)
}

func TestRefusedFieldsSaySo(t *testing.T) {
	apply(t, pod("hostnet", busyboxImage, "hostNetwork: true", `command: ["sleep", "3600"]`))
	p := waitPod(t, "hostnet", "phase Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if !strings.Contains(p.Status.Message, "hostNetwork") {
		t.Errorf("message %q does not name the field", p.Status.Message)
	}
}
