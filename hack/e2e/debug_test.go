package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// tool returns the status of an ephemeral container, empty while it has none.
func tool(p *corev1.Pod, name string) corev1.ContainerStatus {
	for _, s := range p.Status.EphemeralContainerStatuses {
		if s.Name == name {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// TestDebug brings a shell into a pod whose image has none, while it runs.
func TestDebug(t *testing.T) {
	apply(t, pod("debugged", webImage, `
terminationGracePeriodSeconds: 1
volumes: [{name: data, emptyDir: {}}]
`, `volumeMounts: [{name: data, mountPath: /data}]`))
	before := waitPod(t, "debugged", "a ready pod", ready)
	zones := zoneIDs(t)

	out, code := kubectlCode(t, "echo pids $(pidof web); wget -qO- http://127.0.0.1:8080/ >/dev/null && echo reached; echo kept >/kept; cat /kept; exit 4\n",
		"debug", "-i", "debugged", "--image="+busyboxImage, "--target=main", "--container=first", "--", "sh")
	for _, want := range []string{"reached", "kept"} {
		if !strings.Contains(out, want) {
			t.Errorf("the shell (code %d) printed %q, without %q", code, out, want)
		}
	}
	if !strings.Contains(out, "pids ") || strings.Contains(out, "pids \n") {
		t.Errorf("the shell does not see the processes of the container that it is to debug: %q", out)
	}
	waitPod(t, "debugged", "the end of the ephemeral container", func(p *corev1.Pod) bool {
		e := tool(p, "first").State.Terminated
		return e != nil && e.ExitCode == 4
	})
	if out := kubectl(t, "logs", "debugged", "-c", "first"); !strings.Contains(out, "reached") {
		t.Errorf("its log is %q", out)
	}

	// On a terminal, as most people do it: script(1) gives kubectl one.
	terminal := strings.Join(bed.KubectlCommand(t.Context(), "debug", "-it", "debugged", "--image="+busyboxImage,
		"--container=second", "--", "sh", "-c", "'tty; read line; echo got $line'").Args, " ")
	cmd := exec.CommandContext(t.Context(), "script", "-qec", terminal, "/dev/null")
	cmd.Stdin = strings.NewReader("typed\n")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "got typed") {
		t.Errorf("on a terminal: %v, %q", err, out)
	}

	// One that stays: exec works in it, and it outlives the agent.
	kubectl(t, "debug", "debugged", "--image="+busyboxImage, "--container=third", "--", "sleep", "3600")
	p := waitPod(t, "debugged", "a running ephemeral container", func(p *corev1.Pod) bool { return tool(p, "third").State.Running != nil })
	id := tool(p, "third").ContainerID
	if err := host.KillAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := host.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := bed.Eventually(t.Context(), time.Minute, "exec by the new agent", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "exec", "debugged", "-c", "third", "--", "sh", "-c", "touch /x && ls / | grep -c '^x$'")
		if err == nil && out != "1\n" {
			err = fmt.Errorf("exec printed %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	kubectl(t, "label", "pod", "debugged", "seen=again") // the new agent writes a status
	p = waitPod(t, "debugged", "the label", func(p *corev1.Pod) bool { return p.Labels["seen"] == "again" })
	if s := tool(p, "third"); s.State.Running == nil || s.ContainerID != id {
		t.Errorf("after the agent's restart it is %+v", s)
	}
	if s := mainStatus(p); s.RestartCount != 0 || s.ContainerID != mainStatus(before).ContainerID || !ready(p) {
		t.Errorf("the pod itself is %s", describe(p))
	}
	name := "rdw-" + string(p.UID)
	if was, is := zones[name], zoneIDs(t)[name]; was != is || was == "" {
		t.Errorf("zone %s has id %q, had %q", name, is, was)
	}
	for _, event := range []string{"Pulled", "Created", "Started"} {
		waitEvent(t, "debugged", event)
	}
	kubectl(t, "delete", "pod", "debugged")
	waitGone(t, p)
}

// TestDebugOfAHangingInit: it comes before the pod's own containers.
func TestDebugOfAHangingInit(t *testing.T) {
	apply(t, pod("hanging", busyboxImage, `
terminationGracePeriodSeconds: 1
initContainers: [{name: stuck, image: `+busyboxImage+`, command: [sleep, "3600"]}]
`, `command: [sleep, "3600"]`))
	waitPod(t, "hanging", "a running init container", func(p *corev1.Pod) bool {
		return len(p.Status.InitContainerStatuses) == 1 && p.Status.InitContainerStatuses[0].State.Running != nil
	})
	kubectl(t, "debug", "hanging", "--image="+busyboxImage, "--container=tool", "--", "sleep", "3600")
	p := waitPod(t, "hanging", "a running ephemeral container", func(p *corev1.Pod) bool { return tool(p, "tool").State.Running != nil })
	if p.Status.Phase != corev1.PodPending {
		t.Errorf("the pod is %s", p.Status.Phase)
	}
}

// TestDebugWithWhatIsRefused: the container says why, and the pod goes on.
func TestDebugWithWhatIsRefused(t *testing.T) {
	apply(t, pod("undebugged", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, "undebugged", "a ready pod", ready)
	kubectl(t, "debug", "undebugged", "--image="+busyboxImage, "--container=tool", "--profile=sysadmin", "--", "true")
	waitEvent(t, "undebugged", "Failed: Error: ephemeral container uses what this node cannot do")
	p := waitPod(t, "undebugged", "the reason", func(p *corev1.Pod) bool { return tool(p, "tool").State.Waiting != nil })
	if why := tool(p, "tool").State.Waiting; why.Reason != "UnsupportedByNode" || !ready(p) {
		t.Errorf("it waits for %+v, and the pod is %s", why, describe(p))
	}
}
