package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

const bootstrapToken = "abcdef.0123456789abcdef"

// kubeadmInit is what `kubeadm init` puts into a cluster so that nodes can join
// it by a bootstrap token: the public information about the cluster, and the
// right to ask for a node's certificate and have it approved.
const kubeadmInit = `
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: abcdef
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: "true"
  usage-bootstrap-signing: "true"
  auth-extra-groups: system:bootstrappers:kubeadm:default-node-token
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: cluster-info, namespace: kube-public}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: cluster-info, namespace: kube-public}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: cluster-info}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: node-bootstrapper}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: node-autoapprove}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers:kubeadm:default-node-token"}]
`

// TestJoin adds a host with nothing but a bootstrap token, the CA's hash and a
// file of settings.
func TestJoin(t *testing.T) {
	ca := kubectl(t, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
	block, _ := pem.Decode([]byte(ca))
	if block == nil {
		t.Fatalf("the cluster's CA is %q", ca)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	hash := "sha256:" + hex.EncodeToString(sum[:])

	apply(t, kubeadmInit)
	info := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: https://%s:6443\n    certificate-authority-data: %s\n",
		testbed.APIServer, base64.StdEncoding.EncodeToString([]byte(ca)))
	if err := os.WriteFile(info, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", "kube-public", "create", "configmap", "cluster-info", "--from-file=kubeconfig="+info)
	t.Cleanup(func() { bed.Kubectl(context.Background(), "-n", "kube-public", "delete", "configmap", "cluster-info") })
	err = bed.Eventually(t.Context(), time.Minute, "the cluster's information to be signed", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "-n", "kube-public", "get", "configmap", "cluster-info", "-o", "jsonpath={.data}")
		if err == nil && !strings.Contains(out, "jws-kubeconfig-abcdef") {
			err = fmt.Errorf("it holds %s", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	join := []string{"--token", bootstrapToken, "--discovery-token-ca-cert-hash"}
	wrong := append(join, "sha256:"+strings.Repeat("0", 64))
	_, err = host.Run(t.Context(), append([]string{bed.Program("reddwarf"), "join", testbed.APIServer + ":6443", "--node-name", "x", "--identity-dir", "/etc/wrong"}, wrong...)...)
	if err == nil || !strings.Contains(err.Error(), "hash") {
		t.Errorf("joining with the wrong hash: %v", err)
	}

	joined, err := bed.AddHost(t.Context(), "joined", testbed.HostOptions{
		Join: append(join, hash), Distro: "smartos", Settings: "max-pods: 7\nnode-labels: {example.com/rack: r1}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", "joined") })
	t.Cleanup(func() { joined.StopAgent() })
	if got := kubectl(t, "get", "node", "joined", "-o", `jsonpath={.status.capacity.pods} {.metadata.labels.example\.com/rack}`); got != "7 r1" {
		t.Errorf("pods and rack of the node are %q, want what its settings say: 7 r1", got)
	}

	// The serving certificate waits for an approval; then logs can be read.
	err = bed.Eventually(t.Context(), time.Minute, "a request for a serving certificate", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "csr", "-o", `jsonpath={range .items[?(@.spec.signerName=="kubernetes.io/kubelet-serving")]}{.metadata.name}{"\n"}{end}`)
		if err == nil && strings.TrimSpace(out) == "" {
			err = fmt.Errorf("there is none")
		}
		if err == nil {
			_, err = bed.Kubectl(ctx, append([]string{"certificate", "approve"}, strings.Fields(out)...)...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, pod("onjoined", busyboxImage, "terminationGracePeriodSeconds: 1\nnodeName: joined", `command: ["sh", "-c", "echo hello; sleep 3600"]`))
	waitPod(t, "onjoined", "a ready pod", ready)
	err = bed.Eventually(t.Context(), time.Minute, "the log over a signed certificate", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "logs", "onjoined")
		if err == nil && out != "hello\n" {
			err = fmt.Errorf("the log says %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
