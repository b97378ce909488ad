package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

const nativeClass = `apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: reddwarf-native}
handler: reddwarf-native
`

// TestNativeBrand runs pods in zones of our own brand on every distribution.
// What runs in them are programs of Linux, the host being a simulated one.
func TestNativeBrand(t *testing.T) {
	apply(t, nativeClass)
	t.Run("omnios", func(t *testing.T) { testNative(t, host, "runtimeClassName: reddwarf-native", "") })
	for _, distro := range []string{"openindiana", "smartos"} {
		t.Run(distro, func(t *testing.T) {
			h, err := bed.AddHost(t.Context(), distro, testbed.HostOptions{Distro: distro})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", distro) })
			t.Cleanup(func() { h.StopAgent() })
			testNative(t, h, "", `annotations: {"reddwarf.io/zone-brand": reddwarf}`)
		})
	}
}

// testNative runs a pod on h that gets its brand by its spec or its metadata.
func testNative(t *testing.T, h *testbed.Host, spec, metadata string) {
	name := "native-" + h.Name
	manifest := pod(name, image("reddwarf/web-native:1"), "terminationGracePeriodSeconds: 5\nnodeName: "+h.Name+"\n"+spec, "")
	apply(t, strings.Replace(manifest, "metadata: {name: "+name+"}", "metadata: {name: "+name+", "+metadata+"}", 1))
	p := waitPod(t, name, "a ready pod", ready)
	zone := "rdw-" + string(p.UID)

	run := func(args ...string) string {
		t.Helper()
		out, err := h.Run(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := run("zoneadm", "-z", zone, "list", "-p"); !strings.Contains(out, ":reddwarf:excl") {
		t.Errorf("the zone is %s", out)
	}
	if out := run("wget", "-qO-", "-T", "5", "http://"+p.Status.PodIP+":8080/"); !strings.Contains(out, name) {
		t.Errorf("the pod answers with %q", out)
	}
	if out := kubectl(t, "logs", name); !strings.Contains(out, "listening on") {
		t.Errorf("the log is %q", out)
	}
	if _, code := kubectlCode(t, "", "exec", name, "--", "/web", "exit", "7"); code != 7 {
		t.Errorf("exit code %d", code)
	}

	// The address was set inside, where the global zone's is not known.
	want := fmt.Sprintf("%s/24", p.Status.PodIP)
	if out := kubectl(t, "exec", name, "--", "/usr/sbin/ipadm", "show-addr", "-p", "-o", "addr"); !strings.Contains(out, "127.0.0.1/8\n") || !strings.Contains(out, want+"\n") || strings.Count(out, "\n") != 2 {
		t.Errorf("the zone has the addresses %q, want %s", out, want)
	}
	if out := kubectl(t, "exec", name, "--", "/usr/bin/zonename"); strings.TrimSpace(out) != zone {
		t.Errorf("the zone calls itself %q", out)
	}
	// The host's system is there, and nobody can write to it.
	for _, dir := range []string{"/usr", "/lib", "/sbin"} {
		out, code := kubectlCode(t, "", "exec", name, "--", "/usr/bin/busybox", "ls", dir)
		if code != 0 || out == "" {
			t.Errorf("%s has %q", dir, out)
		}
		if _, code := kubectlCode(t, "", "exec", name, "--", "/usr/bin/busybox", "touch", dir+"/x"); code == 0 {
			t.Errorf("%s can be written to", dir)
		}
		mounts := kubectl(t, "exec", name, "--", "/usr/bin/busybox", "cat", "/proc/self/mounts")
		if !strings.Contains(mounts, " "+dir+" ") {
			t.Errorf("%s is no mount: %s", dir, mounts)
		}
		for line := range strings.Lines(mounts) {
			if f := strings.Fields(line); f[1] == dir && f[3] != "ro" && !strings.HasPrefix(f[3], "ro,") {
				t.Errorf("%s is mounted %s", dir, f[3])
			}
		}
	}

	kubectl(t, "delete", "pod", name, "--wait=true")
	if out := run("zoneadm", "list", "-cp"); strings.Contains(out, zone) {
		t.Errorf("a zone is left: %s", out)
	}
}

// An image for Linux is nothing for a native zone, and the pod says so.
func TestNativeBrandRefusesLinux(t *testing.T) {
	manifest := pod("wrong-os", webImage, "os: {name: linux}", "")
	apply(t, strings.Replace(manifest, "metadata: {name: wrong-os}", `metadata: {name: wrong-os, annotations: {"reddwarf.io/zone-brand": reddwarf}}`, 1))
	p := waitPod(t, "wrong-os", "a failed pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "ZoneBrandNotAvailable" {
		t.Errorf("reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
}
