package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestTerminal runs a command on a terminal: script(1) gives kubectl one.
func TestTerminal(t *testing.T) {
	apply(t, pod("terminal", busyboxImage, "terminationGracePeriodSeconds: 1", `command: ["sleep", "3600"]`))
	waitPod(t, "terminal", "a ready pod", ready)
	kubectl := strings.Join(bed.KubectlCommand(t.Context(), "exec", "-it", "terminal", "--").Args, " ")
	// kubectl sends the size when the program runs already, as to a kubelet.
	sized := `i=0; until stty size 2>/dev/null | grep -q 33 || [ $i = 50 ]; do i=$((i+1)); sleep 0.1; done`
	cmd := exec.CommandContext(t.Context(), "script", "-qec",
		"stty rows 33 cols 99; "+kubectl+` sh -c 'tty; `+sized+`; stty size; exit 7'`, "/dev/null")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want exit code 7", err)
	}
	for _, want := range []string{"/dev/pts/", "33 99"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
}

func TestAttach(t *testing.T) {
	apply(t, pod("attach", busyboxImage, "restartPolicy: Never", "stdin: true\nstdinOnce: true\ncommand: [\"cat\"]"))
	waitPod(t, "attach", "a ready pod", ready)
	out, code := kubectlCode(t, "typed by hand\n", "attach", "-i", "attach")
	if code != 0 || !strings.Contains(out, "typed by hand") {
		t.Errorf("attach printed %q, code %d", out, code)
	}
	// stdinOnce: the first session's end is the end of the input, and so of cat.
	waitPod(t, "attach", "phase Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
}

func TestPortForward(t *testing.T) {
	apply(t, pod("forward", webImage, "terminationGracePeriodSeconds: 1", ""))
	waitPod(t, "forward", "a ready pod", ready)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := bed.KubectlCommand(ctx, "port-forward", "pod/forward", "18080:8080")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	err := bed.Eventually(t.Context(), 30*time.Second, "an answer through the forwarded port", func(ctx context.Context) error {
		for range 3 { // a connection each: they must not take each other down
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:18080/", nil)
			if err != nil {
				return err
			}
			req.Close = true
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil {
				return err
			}
			if !strings.Contains(string(body), "forward") {
				return fmt.Errorf("answer %q", body)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKubeletAPIIsClosed asks the agent itself without an identity.
func TestKubeletAPIIsClosed(t *testing.T) {
	for _, path := range []string{"/pods", "/healthz", "/metrics", "/containerLogs/default/x/main", "/debug/pprof/", "/logs/"} {
		out, err := exec.CommandContext(t.Context(), "wget", "-S", "-qO-", "--no-check-certificate", "-T", "5", "-t", "1", "https://"+host.IP+":10250"+path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "401") {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
	if _, err := exec.CommandContext(t.Context(), "wget", "-qO-", "-T", "2", "-t", "1", "http://"+host.IP+":10255/pods").CombinedOutput(); err == nil {
		t.Error("there is a port without TLS")
	}
}
