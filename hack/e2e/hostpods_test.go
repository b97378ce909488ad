package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostNamespace is the one whose pods the agent lets into the global zone.
const hostNamespace = "host-tools"

const hostClass = `
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: reddwarf-host}
handler: reddwarf-host
---
apiVersion: v1
kind: Namespace
metadata: {name: ` + hostNamespace + `}
`

// hostPod returns a host pod's manifest.
func hostPod(namespace, name, command string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  runtimeClassName: reddwarf-host
  hostNetwork: true%s
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: %s
    command: ["/bin/sh", "-c", %q]
`, name, namespace, onNode, image("reddwarf/hosttools:1"), command)
}

// eventually waits until check finds nothing wrong.
func eventually(t *testing.T, most time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	if err := bed.Eventually(t.Context(), most, what, check); err != nil {
		t.Fatal(err)
	}
}

// field returns one field of a pod.
func field(t *testing.T, namespace, pod, path string) string {
	t.Helper()
	return kubectl(t, "get", "pod", "-n", namespace, pod, "-o", "jsonpath={"+path+"}")
}

func TestHostPod(t *testing.T) {
	apply(t, hostClass)
	apply(t, hostPod(hostNamespace, "tools",
		`dladm show-etherstub; zoneadm list; ls /var/run/secrets/kubernetes.io/serviceaccount; echo api=$KUBERNETES_SERVICE_HOST; echo done; exec sleep 1000`))
	kubectl(t, "wait", "-n", hostNamespace, "--for=condition=Ready", "pod/tools", "--timeout=2m")
	if ip := field(t, hostNamespace, "tools", ".status.podIP"); ip != host.IP {
		t.Errorf("podIP %q, want the host's own, %s", ip, host.IP)
	}
	var log string
	eventually(t, time.Minute, "the container's output", func(context.Context) error {
		log = kubectl(t, "logs", "-n", hostNamespace, "tools")
		if !strings.Contains(log, "done\n") {
			return fmt.Errorf("so far: %q", log)
		}
		return nil
	})
	for _, want := range []string{"reddwarf0\n", "global\n", "token\n", "api=198.51.100.1\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the container did not print %q:\n%s", want, log)
		}
	}
	if out, code := kubectlCode(t, "", "exec", "-n", hostNamespace, "tools", "--", "/bin/sh", "-c", "zonename; exit 7"); code != 7 || strings.TrimSpace(out) != "global" {
		t.Errorf("exec: %q, exit code %d", out, code)
	}

	ps := strings.Fields(lineWith(onHost(t, filepath.Join(os.Getenv("REDDWARF_BIN"), "reddwarf"), "ps"), "tools"))
	if want := []string{hostNamespace, "tools", "running", "0", "host", "global"}; !slices.Equal(ps, want) {
		t.Errorf("reddwarf ps prints %q, want %q", ps, want)
	}

	t.Run("outlives the agent", func(t *testing.T) {
		before := field(t, hostNamespace, "tools", ".status.containerStatuses[0].state.running.startedAt")
		process, err := host.Run(t.Context(), "pgrep", "-f", "podinit-linux host")
		if err != nil {
			t.Fatal(err)
		}
		if err := host.KillAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := host.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "the new agent to answer for the pod", func(context.Context) error {
			if out, code := kubectlCode(t, "", "exec", "-n", hostNamespace, "tools", "--", "/bin/true"); code != 0 {
				return fmt.Errorf("exec: %s", out)
			}
			return nil
		})
		if again, err := host.Run(t.Context(), "pgrep", "-f", "podinit-linux host"); err != nil || again != process {
			t.Errorf("podinit was process %s and is %s (%v)", process, again, err)
		}
		if after := field(t, hostNamespace, "tools", ".status.containerStatuses[0].state.running.startedAt"); after != before || before == "" {
			t.Errorf("started at %q before and %q after", before, after)
		}
		if n := field(t, hostNamespace, "tools", ".status.containerStatuses[0].restartCount"); n != "0" {
			t.Errorf("restarted %s times", n)
		}
	})

	t.Run("survives its podinit", func(t *testing.T) {
		if _, err := host.Run(t.Context(), "pkill", "-9", "-f", "podinit-linux host"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Minute, "the container to run again", func(context.Context) error {
			if n := field(t, hostNamespace, "tools", ".status.containerStatuses[0].restartCount"); n != "1" {
				return fmt.Errorf("restarted %s times", n)
			}
			if ready := field(t, hostNamespace, "tools", ".status.containerStatuses[0].ready"); ready != "true" {
				return fmt.Errorf("ready: %s", ready)
			}
			return nil
		})
		// It does other things first.
		eventually(t, time.Minute, "the container's program", func(ctx context.Context) error {
			_, err := host.Run(ctx, "pgrep", "-f", "^sleep 1000")
			return err
		})
		if out, err := host.Run(t.Context(), "pgrep", "-fc", "^sleep 1000"); strings.TrimSpace(out) != "1" {
			t.Errorf("%s processes of the container, want one (%v)", strings.TrimSpace(out), err)
		}
	})

	t.Run("leaves nothing", func(t *testing.T) {
		uid := field(t, hostNamespace, "tools", ".metadata.uid")
		kubectl(t, "delete", "pod", "-n", hostNamespace, "tools", "--wait=true", "--timeout=1m")
		for _, what := range []string{"podinit-linux host", "^sleep 1000"} {
			if out, err := host.Run(t.Context(), "pgrep", "-fa", what); err == nil {
				t.Errorf("still running: %s", out)
			}
		}
		out, err := host.Run(t.Context(), "zfs", "list", "-H", "-o", "name,mountpoint")
		if err != nil || strings.Contains(out, uid) {
			t.Errorf("datasets (%v):\n%s", err, out)
		}
	})
}

func TestHostPodIsRefused(t *testing.T) {
	apply(t, hostClass)
	for name, manifest := range map[string]string{
		"elsewhere":    hostPod("default", "elsewhere", "true"),
		"own-network":  strings.Replace(hostPod(hostNamespace, "own-network", "true"), "hostNetwork: true", "hostNetwork: false", 1),
		"with-a-limit": hostPod(hostNamespace, "with-a-limit", "true") + "    resources: {limits: {memory: 64Mi}}\n",
	} {
		apply(t, manifest)
		namespace := hostNamespace
		want := "UnsupportedByNode"
		if name == "elsewhere" {
			namespace, want = "default", "HostPodNotAllowed"
		}
		eventually(t, time.Minute, name+" to be refused", func(context.Context) error {
			if got := field(t, namespace, name, ".status.phase") + " " + field(t, namespace, name, ".status.reason"); got != "Failed "+want {
				return fmt.Errorf("it is %s, want Failed %s", got, want)
			}
			return nil
		})
	}
}
