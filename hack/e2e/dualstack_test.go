package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

// TestDualStack gives the pods of a node addresses of both families. The
// cluster's Services and its nodes have IPv4 only; so the operator says which.
func TestDualStack(t *testing.T) {
	four, six := netip.MustParsePrefix("10.250.7.0/24"), netip.MustParsePrefix("fd00:10:250:7::/64")
	h, err := bed.AddHost(t.Context(), "dual1", testbed.HostOptions{AgentFlags: []string{"--pod-cidr", four.String() + "," + six.String(), "--node-routes=false"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.StopAgent()
		bed.Kubectl(context.Background(), "delete", "node", "dual1", "--ignore-not-found")
	})
	probe := ", readinessProbe: {httpGet: {path: /healthz, port: 8080}}, env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]"
	apply(t, webOn("dual1", "dual-a", probe))
	apply(t, webOn("dual1", "dual-b", probe))
	ips := func(name string) (v4, v6 string) {
		t.Helper()
		p := waitPod(t, name, "a ready pod", ready)
		if len(p.Status.PodIPs) != 2 || p.Status.PodIP != p.Status.PodIPs[0].IP ||
			!four.Contains(netip.MustParseAddr(p.Status.PodIPs[0].IP)) || !six.Contains(netip.MustParseAddr(p.Status.PodIPs[1].IP)) {
			t.Fatalf("%s has the addresses %v", name, p.Status.PodIPs)
		}
		return p.Status.PodIPs[0].IP, p.Status.PodIPs[1].IP
	}
	a4, a6 := ips("dual-a")
	b4, b6 := ips("dual-b")
	for _, tt := range []struct{ from, url, want string }{
		{"dual-a", "http://" + b4 + ":8080/", "hostname: dual-b\nremote: " + a4 + ":"},
		{"dual-a", "http://[" + b6 + "]:8080/", "hostname: dual-b\nremote: [" + a6 + "]:"},
		{"dual-b", "http://[" + a6 + "]:8080/", "hostname: dual-a\nremote: [" + b6 + "]:"},
		{"dual-b", "http://dual-b:8080/", "hostname: dual-b"}, // by its hosts file
	} {
		err := bed.Eventually(t.Context(), time.Minute, tt.url, func(ctx context.Context) error {
			out, err := bed.Kubectl(ctx, "exec", tt.from, "-c", "main", "--", "/web", "fetch", tt.url)
			if err == nil && !strings.HasPrefix(out, tt.want) {
				t.Errorf("%s from %s is answered by %q, want %q", tt.url, tt.from, out, tt.want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if out := kubectl(t, "exec", "dual-a", "-c", "main", "--", "/web", "env"); !strings.Contains(out, "IPS="+a4+","+a6+"\n") {
		t.Errorf("the environment is %s", out)
	}
	if out := kubectl(t, "exec", "dual-a", "-c", "main", "--", "/web", "resolve", "dual-a"); out != a4+"\n"+a6+"\n" {
		t.Errorf("its own name is %q", out)
	}
	inside := kubectl(t, "exec", "dual-a", "-c", "shell", "--", "ip", "-o", "addr")
	for _, want := range []string{" " + a4 + "/24 ", " " + a6 + "/64 "} {
		if !strings.Contains(inside, want) {
			t.Errorf("inside the zone there is no%s:\n%s", want, inside)
		}
	}
	t.Run("spoofing", func(t *testing.T) {
		const stolen = "fd00:10:250:7::beef"
		link := strings.Fields(kubectl(t, "exec", "dual-a", "-c", "shell", "--", "sh", "-c", "ip -o addr show to "+a6+" | cut -d' ' -f2"))
		if len(link) != 1 {
			t.Fatalf("the pod's interface is %q", link)
		}
		if out, code := kubectlCode(t, "", "exec", "dual-a", "-c", "shell", "--", "ip", "addr", "add", stolen+"/64", "dev", link[0]); code != 0 {
			t.Fatalf("the simulated zone cannot even try: %s", out)
		}
		err := bed.Eventually(t.Context(), time.Minute, "the stolen address to be usable", func(ctx context.Context) error {
			out, err := bed.Kubectl(ctx, "exec", "dual-a", "-c", "shell", "--", "ip", "-o", "addr", "show", "to", stolen)
			if err == nil && (out == "" || strings.Contains(out, "tentative")) {
				err = fmt.Errorf("it is %q", out)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if out, code := kubectlCode(t, "", "exec", "dual-a", "-c", "shell", "--", "ping", "-c", "2", "-W", "3", "-I", stolen, b6); code == 0 {
			t.Errorf("a pod sends as %s:\n%s", stolen, out)
		}
		if out, code := kubectlCode(t, "", "exec", "dual-a", "-c", "shell", "--", "ping", "-c", "2", "-W", "5", "-I", a6, b6); code != 0 {
			t.Errorf("with its own address: %s", out)
		}
	})
	t.Run("native", func(t *testing.T) {
		apply(t, nativeClass)
		apply(t, pod("dual-native", image("reddwarf/web-native:1"), "terminationGracePeriodSeconds: 1\nnodeName: dual1\nruntimeClassName: reddwarf-native", ""))
		p := waitPod(t, "dual-native", "a ready pod", ready)
		if len(p.Status.PodIPs) != 1 || !four.Contains(netip.MustParseAddr(p.Status.PodIP)) {
			t.Errorf("a native zone has %v, and podinit gives it IPv4 only", p.Status.PodIPs)
		}
	})
	t.Run("agent killed", func(t *testing.T) {
		if err := h.KillAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		apply(t, webOn("dual1", "dual-c", probe))
		c4, c6 := ips("dual-c")
		for _, taken := range []string{a4, a6, b4, b6} {
			if c4 == taken || c6 == taken {
				t.Errorf("%s was given twice", taken)
			}
		}
	})
	var pods []*corev1.Pod
	for _, name := range []string{"dual-a", "dual-b"} {
		p, err := getPod(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	kubectl(t, "delete", "pod", "dual-a", "dual-b", "--wait=true")
	for _, p := range pods {
		if out, err := h.Run(t.Context(), "zoneadm", "list", "-cp"); err != nil || strings.Contains(out, string(p.UID)) {
			t.Errorf("the zone of %s is there: %s, %v", p.Name, out, err)
		}
	}
}
