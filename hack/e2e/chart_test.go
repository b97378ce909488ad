package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

// release is the chart's in these tests.
const release = "reddwarf"

// helm runs helm as the administrator.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helmErr(t.Context(), args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func helmErr(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, os.Getenv("REDDWARF_HELM"), append(args, "--namespace", hostNamespace, "--kubeconfig", bed.Kubeconfig())...)
	c.Env = append(os.Environ(), "HELM_CACHE_HOME="+bed.Dir, "HELM_CONFIG_HOME="+bed.Dir, "HELM_DATA_HOME="+bed.Dir)
	out, err := c.CombinedOutput()
	return string(out), err
}

// rules returns the controller's rules on the host: it redirects, and marks
// what it maps with frag. The agent's rule for what leaves the cluster is another.
// There are none while ipfilter is off, of which ipnat complains.
func rules(t *testing.T) string {
	t.Helper()
	out, err := host.Run(t.Context(), "ipnat", "-lR")
	if err != nil && !strings.Contains(err.Error(), "I/O error") {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "rdr ") || strings.Contains(line, " frag") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "")
}

// What the chart makes, by kind.
var chartKinds = strings.Join([]string{
	"daemonsets", "deployments", "jobs", "pods", "serviceaccounts", "roles", "rolebindings", "networkpolicies", "services",
	"clusterroles", "clusterrolebindings", "runtimeclasses", "priorityclasses", "storageclasses",
	"validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
}, ",")

const webService = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: chart-web}
spec:
  replicas: 2
  selector: {matchLabels: {app: chart-web}}
  template:
    metadata: {labels: {app: chart-web}}
    spec:
      runtimeClassName: reddwarf-lx
      containers: [{name: web, image: "%s", ports: [{containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: chart-web}
spec:
  selector: {app: chart-web}
  ports: [{port: 80, targetPort: 8080}]
`

const branded = `
apiVersion: v1
kind: Pod
metadata: {name: branded, annotations: {reddwarf.io/zone-brand: %s}}
spec:
  containers: [{name: main, image: "%s"}]
`

func TestHelmChart(t *testing.T) {
	chart := os.Getenv("REDDWARF_CHART")
	if chart == "" || os.Getenv("REDDWARF_HELM") == "" {
		t.Fatal("REDDWARF_CHART and REDDWARF_HELM are not set: run this through hack/e2e.sh")
	}
	settings := []string{
		"--set", "image.repository=" + image("reddwarf/host"), "--set", "image.tag=dev",
		"--set", "clusterip.clusterCIDRs={10.244.0.0/16}", "--set", "approver.enabled=true", "--set", "approver.nodeNetworks={198.51.100.0/24}",
	}
	helm(t, append([]string{"install", release, chart, "--create-namespace", "--wait", "--timeout", "4m"}, settings...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if out, err := helmErr(ctx, "uninstall", release, "--ignore-not-found", "--wait"); err != nil {
			t.Errorf("clean up: %v\n%s", err, out)
		}
		if _, err := bed.Kubectl(ctx, "delete", "namespace", hostNamespace, "--ignore-not-found"); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	// The class alone brings the pods to this node.
	apply(t, fmt.Sprintf(webService, webImage))
	kubectl(t, "rollout", "status", "deployment/chart-web", "--timeout=2m")
	apply(t, pod("chart-client", webImage, "", `command: ["/web", "sleep", "1000"]`))
	kubectl(t, "wait", "--for=condition=Ready", "pod/chart-client", "--timeout=2m")
	reach := func(t *testing.T) {
		t.Helper()
		vip := kubectl(t, "get", "service", "chart-web", "-o", "jsonpath={.spec.clusterIP}")
		eventually(t, time.Minute, "an answer from the service", func(context.Context) error {
			if out, code := kubectlCode(t, "", "exec", "chart-client", "--", "/web", "fetch", "http://"+vip+"/"); code != 0 {
				return fmt.Errorf("fetch %s: exit code %d: %s", vip, code, out)
			}
			return nil
		})
	}
	t.Run("a service answers", reach)
	if rules(t) == "" {
		t.Error("the controller has made no rules, so this test shows nothing")
	}
	t.Run("a brand chooses the node", testBrandAdmission)
	t.Run("serving certificates are approved", testApprover)
	t.Run("upgrade and rollback", func(t *testing.T) {
		helm(t, append([]string{"upgrade", release, chart, "--wait", "--timeout", "4m", "--set", "clusterip.logLevel=debug"}, settings...)...)
		level := func() string {
			return kubectl(t, "get", "daemonset", "-n", hostNamespace, "reddwarf-clusterip", "-o", "jsonpath={.spec.template.spec.containers[0].command}")
		}
		if !strings.Contains(level(), "--log-level=debug") {
			t.Errorf("the upgrade did not arrive: %s", level())
		}
		kubectl(t, "rollout", "status", "-n", hostNamespace, "daemonset/reddwarf-clusterip", "--timeout=2m")
		reach(t)
		if !strings.Contains(rules(t), "rdr ") {
			t.Error("the rules did not stay over the update")
		}
		helm(t, "rollback", release, "1", "--wait", "--timeout", "4m")
		if !strings.Contains(level(), "--log-level=info") {
			t.Errorf("the rollback did not arrive: %s", level())
		}
		kubectl(t, "rollout", "status", "-n", hostNamespace, "daemonset/reddwarf-clusterip", "--timeout=2m")
		reach(t)
	})
	t.Run("uninstall leaves nothing", func(t *testing.T) {
		helm(t, "uninstall", release, "--wait", "--timeout", "4m")
		eventually(t, time.Minute, "the chart's objects to be gone", func(context.Context) error {
			left := kubectl(t, "get", chartKinds, "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name")
			if strings.TrimSpace(left) != "" {
				return fmt.Errorf("left: %s", strings.Fields(left))
			}
			return nil
		})
		if after := rules(t); after != "" {
			t.Errorf("rules that are still there:\n%s", after)
		}
		routes, err := host.Run(t.Context(), "netstat", "-rn")
		if err == nil && strings.Contains(routes, "10.96.0.0") {
			t.Errorf("the route that refuses services is still there:\n%s", routes)
		}
	})
}

// testBrandAdmission creates pods that ask for a brand and say no more.
func testBrandAdmission(t *testing.T) {
	out, err := bed.KubectlIn(t.Context(), fmt.Sprintf(branded, "lx", busyboxImage), "create", "--dry-run=server", "-o",
		`jsonpath={.spec.nodeSelector} {.spec.tolerations[?(@.key=="virtual-kubelet.io/provider")].value}`, "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"reddwarf.io/brand.lx":"true"} reddwarf`; strings.TrimSpace(out) != want {
		t.Errorf("the pod became %q, want %q", out, want)
	}
	_, err = bed.KubectlIn(t.Context(), fmt.Sprintf(branded, "solaris10", busyboxImage), "create", "--dry-run=server", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "want lx or reddwarf") {
		t.Errorf("an unknown brand: %v", err)
	}
}

// testApprover asks for serving certificates as the node does.
func testApprover(t *testing.T) {
	for _, tt := range []struct {
		name, address string
		approved      bool
	}{{"own", host.IP, true}, {"foreign", testbed.APIServer, false}} {
		name := "chart-csr-" + tt.name
		manifest := fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: %s}
spec: {request: %s, signerName: kubernetes.io/kubelet-serving, usages: ["digital signature", "server auth"]}
`, name, servingRequest(t, host.Name, tt.address))
		if _, err := bed.KubectlIn(t.Context(), manifest, "create", "--as", "system:node:"+host.Name, "--as-group", "system:nodes", "--as-group", "system:authenticated", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = bed.Kubectl(context.Background(), "delete", "csr", name) })
	}
	eventually(t, time.Minute, "the request for the node's own address to be approved", func(context.Context) error {
		if got := kubectl(t, "get", "csr", "chart-csr-own", "-o", "jsonpath={.status.conditions[*].type}"); got != "Approved" {
			return fmt.Errorf("conditions: %q", got)
		}
		return nil
	})
	// The other one was there first or at the same time, so it has been looked at.
	eventually(t, time.Minute, "the approver to say why it leaves the other", func(context.Context) error {
		if log := kubectl(t, "logs", "-n", hostNamespace, "deployment/reddwarf-approver"); !strings.Contains(log, "chart-csr-foreign of system:node:"+host.Name+" is left to others") {
			return fmt.Errorf("log: %s", log)
		}
		return nil
	})
	if got := kubectl(t, "get", "csr", "chart-csr-foreign", "-o", "jsonpath={.status.conditions[*].type}"); got != "" {
		t.Errorf("the request for the API server's address has conditions %q", got)
	}
}

// servingRequest is a request for a node's serving certificate, in base64.
func servingRequest(t *testing.T, node, address string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}},
		IPAddresses: []net.IP{net.ParseIP(address)},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
