package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

// domain is not what every cluster has, so that it must have been discovered.
const domain = "lab.example"

// kubeletConfig is where kubeadm keeps what kubelets are told, and the right of
// nodes to read it.
const kubeletConfig = `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubelet-config, namespace: kube-system}
data:
  kubelet: |
    apiVersion: kubelet.config.k8s.io/v1beta1
    kind: KubeletConfiguration
    clusterDNS: [10.96.0.10]
    clusterDomain: ` + domain + `
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "kubeadm:kubelet-config", namespace: kube-system}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [kubelet-config], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "kubeadm:kubelet-config", namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:kubelet-config"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
`

// restartAgent is what an operator does after a change of the configuration.
func restartAgent(t *testing.T) {
	t.Helper()
	if err := host.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := host.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// resolves waits until a name has these addresses in the pod.
func resolves(t *testing.T, pod, name string, want ...string) {
	t.Helper()
	err := bed.Eventually(t.Context(), time.Minute, fmt.Sprintf("%s to be %q in %s", name, want, pod), func(ctx context.Context) error {
		out, err := from(ctx, pod, "resolve", name)
		if err == nil && strings.Join(strings.Fields(out), " ") != strings.Join(want, " ") {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	if err != nil {
		log, _ := bed.Kubectl(context.WithoutCancel(t.Context()), "-n", "kube-system", "logs", "-l", "k8s-app=kube-dns", "--tail=20")
		t.Errorf("%v\n%s", err, log)
	}
}

// TestDNS has CoreDNS run in zones of the host and answer its pods. The agent
// is told neither its address nor the cluster's domain.
func TestDNS(t *testing.T) {
	startProxy(t)
	apply(t, kubeletConfig)
	restartAgent(t)
	apply(t, testbed.CoreDNS(domain))
	if out, err := bed.Kubectl(t.Context(), "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=3m"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, kubectl(t, "-n", "kube-system", "get", "pods,events", "-o", "wide"))
	}
	member := strings.Replace(pod("dns-member", webImage, "hostname: first\nsubdomain: dns-head", ""), "{name: dns-member}", "{name: dns-member, labels: {app: dns}}", 1)
	apply(t, pod("dns-client", webImage, "", "")+"---\n"+member+"---\n"+
		service("dns-svc", "selector: {app: dns}\nports: [{port: 80, targetPort: 8080}]")+
		service("dns-head", "clusterIP: None\nselector: {app: dns}\nports: [{port: 8080}]")+
		service("dns-alias", "type: ExternalName\nexternalName: "+testbed.OutsideName))
	waitPod(t, "dns-client", "a ready pod", ready)
	address := waitPod(t, "dns-member", "a ready pod", ready).Status.PodIP
	vip := kubectl(t, "get", "service", "dns-svc", "-o", "jsonpath={.spec.clusterIP}")
	all := func(t *testing.T) {
		resolves(t, "dns-client", "kubernetes.default", "10.96.0.1")
		resolves(t, "dns-client", "dns-svc", vip)
		resolves(t, "dns-client", "dns-svc.default.svc."+domain+".", vip)
		resolves(t, "dns-client", "dns-head", address)
		resolves(t, "dns-client", "first.dns-head", address)
		resolves(t, "dns-client", "dns-alias", testbed.OutsideAddress)
		resolves(t, "dns-client", testbed.OutsideName, testbed.OutsideAddress)
	}
	all(t)
	if out, err := from(t.Context(), "dns-client", "resolve", "dns-nobody"); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("a name that nobody has: %q, %v", out, err)
	}
	answers(t, "a Service by its name", func(ctx context.Context) (string, error) {
		return from(ctx, "dns-client", "fetch", "http://dns-svc/")
	}, "first")
	t.Run("replaced", func(t *testing.T) {
		before := kubectl(t, "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o", "name")
		kubectl(t, "-n", "kube-system", "delete", "pods", "-l", "k8s-app=kube-dns", "--wait=true")
		kubectl(t, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=3m")
		for name := range strings.Lines(kubectl(t, "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o", "name")) {
			if strings.Contains(before, name) {
				t.Errorf("%s was not replaced", name)
			}
		}
		all(t)
	})
	t.Run("rollout", func(t *testing.T) { unbroken(t, vip) })
}

// unbroken asks all the time while one pod after the other is replaced: a
// cluster's DNS must not pause then, which takes the lame ducks' five seconds
// and rules that lose an endpoint before it ends.
func unbroken(t *testing.T, vip string) {
	t.Helper()
	kubectl(t, "-n", "kube-system", "rollout", "restart", "deployment/coredns")
	done := make(chan error, 1)
	go func() {
		_, err := bed.Kubectl(t.Context(), "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=3m")
		done <- err
	}()
	for asked := 0; ; asked++ {
		select {
		case err := <-done:
			if err != nil || asked == 0 {
				t.Errorf("after %d questions: %v", asked, err)
			}
			return
		default:
		}
		// A resolver asks twice.
		if out, err := from(t.Context(), "dns-client", "resolve", "dns-svc"); err != nil || strings.TrimSpace(out) != vip {
			t.Errorf("question %d: %q, %v", asked, out, err)
		}
	}
}
