package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"
)

// ErrUntrusted means that the API server could not prove to be the one that
// the token and the CA's hash are from.
var ErrUntrusted = errors.New("the API server is not the expected one")

// Discovery is what an operator gives a new node, as to kubeadm join.
type Discovery struct {
	Server   string   // https://HOST:PORT
	Token    string   // a bootstrap token, ID.SECRET
	CAHashes []string // of the CA's public key, sha256:HEX; at least one
}

var (
	bootstrapToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	caHash         = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Discover finds the cluster's CA through the public cluster-info of the API
// server and returns how to reach the server with the token. It trusts only
// certificates with one of the given hashes, and of the public information
// only what is signed with the token. Discovery without a hash is refused:
// with the token alone, anybody who has it could pose as the cluster.
func Discover(ctx context.Context, d Discovery) (*rest.Config, error) {
	token := bootstrapToken.FindStringSubmatch(d.Token)
	if token == nil {
		return nil, errors.New("identity: the token is not of the form ID.SECRET, six and sixteen letters and digits")
	}
	if !strings.HasPrefix(d.Server, "https://") {
		return nil, fmt.Errorf("identity: server %q: want https://HOST:PORT", d.Server)
	}
	if len(d.CAHashes) == 0 {
		return nil, errors.New("identity: the hash of the cluster's CA is required (sha256:…), or a kubeconfig with the CA")
	}
	for _, h := range d.CAHashes {
		if !caHash.MatchString(h) {
			return nil, fmt.Errorf("identity: CA hash %q: want sha256: and 64 digits", h)
		}
	}
	// The first look is at whoever answers; nothing secret is sent.
	text, err := clusterInfo(ctx, &rest.Config{Host: d.Server, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, token[1], token[2])
	if err != nil {
		return nil, err
	}
	found, err := readClusterInfo(text, d.CAHashes)
	if err != nil {
		return nil, err
	}
	// The second is at a server that the pinned CA vouches for.
	again, err := clusterInfo(ctx, found, token[1], token[2])
	if err != nil {
		return nil, err
	}
	if again != text {
		return nil, fmt.Errorf("identity: cluster-info: %w: it is another one over a verified connection", ErrUntrusted)
	}
	found.BearerToken = d.Token
	return found, nil
}

// clusterInfo returns the kubeconfig that the cluster shows to all, if it is
// signed with the token.
func clusterInfo(ctx context.Context, c *rest.Config, id, secret string) (string, error) {
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	m, err := client.CoreV1().ConfigMaps("kube-public").Get(ctx, "cluster-info", metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("identity: cluster-info: %w", err)
	}
	text := m.Data["kubeconfig"]
	signature, ok := m.Data["jws-kubeconfig-"+id]
	if !ok {
		return "", fmt.Errorf("identity: cluster-info: %w: it is not signed with token %s, which may have expired", ErrUntrusted, id)
	}
	if !signed(text, signature, id, secret) {
		return "", fmt.Errorf("identity: cluster-info: %w: the signature is not by token %s", ErrUntrusted, id)
	}
	return text, nil
}

// signed checks a JSON web signature (RFC 7515) with detached content and the
// algorithm HS256, which is what the cluster's bootstrap signer makes.
func signed(content, signature, id, secret string) bool {
	parts := strings.Split(signature, ".")
	if len(parts) != 3 || parts[1] != "" {
		return false
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return false
	}
	var h struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	if json.Unmarshal(head, &h) != nil || h.Alg != "HS256" || h.Kid != id {
		return false
	}
	got, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(content))))
	return hmac.Equal(got, mac.Sum(nil))
}

// readClusterInfo returns the server that the kubeconfig names, trusting those
// of its CA certificates that have one of the hashes.
func readClusterInfo(text string, hashes []string) (*rest.Config, error) {
	c, err := clientcmd.Load([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("identity: cluster-info: %w", err)
	}
	if len(c.Clusters) != 1 {
		return nil, fmt.Errorf("identity: cluster-info: %d clusters, want one", len(c.Clusters))
	}
	var found *rest.Config
	for _, cluster := range c.Clusters {
		if !strings.HasPrefix(cluster.Server, "https://") {
			return nil, fmt.Errorf("identity: cluster-info: server %q", cluster.Server)
		}
		ca, err := pinned(cluster.CertificateAuthorityData, hashes)
		if err != nil {
			return nil, err
		}
		found = &rest.Config{Host: cluster.Server, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
	}
	return found, nil
}

// pinned returns those of the certificates that have one of the hashes.
func pinned(bundle []byte, hashes []string) ([]byte, error) {
	all, err := cert.ParseCertsPEM(bundle)
	if err != nil {
		return nil, fmt.Errorf("identity: cluster-info: CA: %w", err)
	}
	var trusted []byte
	for _, c := range all {
		if slices.Contains(hashes, HashCA(c)) {
			trusted = append(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
	}
	if len(trusted) == 0 {
		return nil, fmt.Errorf("identity: cluster-info: %w: no CA certificate has the given hash", ErrUntrusted)
	}
	return trusted, nil
}

// HashCA returns the hash of a CA's public key as kubeadm prints it.
func HashCA(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}
