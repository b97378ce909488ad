package config

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func base(dir string) Config {
	return Config{
		Dir: dir, Bind: netip.MustParseAddr("198.51.100.1"), Advertise: netip.MustParseAddr("198.51.100.1"), Port: 6443,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"),
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want []string // parts of the error; none means valid
	}{
		{"good", func(*Config) {}, nil},
		{"no advertise", func(c *Config) { c.Advertise = netip.Addr{} }, nil},
		{"relative dir", func(c *Config) { c.Dir = "d" }, []string{"absolute"}},
		{"no bind", func(c *Config) { c.Bind = netip.Addr{} }, []string{"bind"}},
		{"port", func(c *Config) { c.Port = 70000 }, []string{"port 70000"}},
		{"host bits", func(c *Config) { c.PodCIDR = netip.MustParsePrefix("10.244.1.1/16") }, []string{"write 10.244.0.0/16"}},
		{"too small", func(c *Config) { c.PodCIDR = netip.MustParsePrefix("10.244.0.0/25") }, []string{"/24 at least"}},
		{"overlap", func(c *Config) { c.ServiceCIDR = netip.MustParsePrefix("10.244.0.0/20") }, []string{"overlaps"}},
		{"all at once", func(c *Config) { *c = Config{} }, []string{"dir", "bind", "port", "service-cidr", "pod-cidr"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := base("/d")
			tt.edit(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Validate() = %v, want %q", err, tt.want)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestAPIServerArgs(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want []string
		not  []string
	}{
		{"advertised", func(*Config) {}, []string{"--advertise-address=198.51.100.1", "--bind-address=198.51.100.1"}, []string{"--endpoint-reconciler-type=none"}},
		{"loopback", func(c *Config) {
			c.Bind, c.Advertise = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")
		},
			[]string{"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"}, nil},
		{"none", func(c *Config) { c.Bind, c.Advertise = netip.MustParseAddr("127.0.0.1"), netip.Addr{} },
			[]string{"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"}, nil},
		{"feature gates", func(c *Config) { c.FeatureGates = "A=true,B=false" }, []string{"--feature-gates=A=true,B=false"}, nil},
		{"no feature gates", func(*Config) {}, nil, []string{"--feature-gates="}},
		{"as promised", func(*Config) {}, []string{
			"--etcd-servers=https://127.0.0.1:1", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--enable-bootstrap-token-auth=true", "--kubelet-certificate-authority=/d/pki/ca.crt",
			"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := base("/d")
			tt.edit(&c)
			got := c.APIServerArgs("https://127.0.0.1:1")
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("no %s", w)
				}
			}
			for _, n := range tt.not {
				if slices.Contains(got, n) {
					t.Errorf("unexpected %s", n)
				}
			}
		})
	}
}

// Every file that an argument names must be one that WriteCredentials writes.
func TestArgsNameWrittenFiles(t *testing.T) {
	c := base(t.TempDir())
	if err := c.WriteCredentials(); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, arg := range slices.Concat(c.APIServerArgs("x"), c.ControllerManagerArgs(), c.SchedulerArgs()) {
		_, value, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(value, c.Dir) {
			continue
		}
		count++
		info, err := os.Stat(value)
		if err != nil {
			t.Errorf("%s: %v", arg, err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", value, info.Mode())
		}
	}
	if count < 20 {
		t.Errorf("only %d files were named", count)
	}
}

func TestServerCertificate(t *testing.T) {
	c := base(t.TempDir())
	if err := c.WriteCredentials(); err != nil {
		t.Fatal(err)
	}
	roots := roots(t, c.PKI("ca.crt"))
	check := func(host string) error {
		pair, err := tls.LoadX509KeyPair(c.PKI("apiserver.crt"), c.PKI("apiserver.key"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		return err
	}
	for _, host := range []string{"127.0.0.1", "localhost", "198.51.100.1", "10.96.0.1", "kubernetes.default.svc"} {
		if err := check(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if check("198.51.100.2") == nil {
		t.Error("the certificate is good for a foreign address")
	}
	// A second start with another address keeps the authority and changes the certificate.
	c.Bind, c.Advertise = netip.MustParseAddr("198.51.100.2"), netip.Addr{}
	if err := c.WriteCredentials(); err != nil {
		t.Fatal(err)
	}
	if err := check("198.51.100.2"); err != nil {
		t.Error(err)
	}
	if check("198.51.100.1") == nil {
		t.Error("the old address is still in the certificate")
	}
}

func TestKubeconfig(t *testing.T) {
	c := base(t.TempDir())
	if err := c.WriteCredentials(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(c.Kubeconfig(Admin))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if rc.Host != "https://198.51.100.1:6443" {
		t.Errorf("server %s", rc.Host)
	}
	wantClient(t, c.PKI("ca.crt"), rc.CertData, rc.KeyData, "kubernetes-admin", "system:masters")
	moved, err := WithServer(data, "https://127.0.0.1:16443")
	if err != nil {
		t.Fatal(err)
	}
	rc2, err := clientcmd.RESTConfigFromKubeConfig(moved)
	if err != nil {
		t.Fatal(err)
	}
	if rc2.Host != "https://127.0.0.1:16443" || string(rc2.CertData) != string(rc.CertData) {
		t.Errorf("moved: %s", rc2.Host)
	}
	if _, err := WithServer([]byte("{"), "x"); err == nil {
		t.Error("nonsense was read as a kubeconfig")
	}
}

func TestWriteNode(t *testing.T) {
	c := base(t.TempDir())
	if err := c.WriteCredentials(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "node")
	node := Node{Name: "illumos-1", IP: netip.MustParseAddr("198.51.100.11")}
	if err := WriteNode(c.Dir, out, c.URL(), node); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	wantClient(t, filepath.Join(out, "ca.crt"), rc.CertData, rc.KeyData, "system:node:illumos-1", "system:nodes")
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "kubelet.crt"), filepath.Join(out, "kubelet.key"))
	if err != nil {
		t.Fatal(err)
	}
	for host, good := range map[string]bool{"198.51.100.11": true, "illumos-1": true, "198.51.100.1": false} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots(t, filepath.Join(out, "ca.crt")), DNSName: host})
		if (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := WriteNode(c.Dir, out, c.URL(), Node{Name: "x"}); err == nil {
		t.Error("a node without an address was accepted")
	}
	if err := WriteNode(t.TempDir(), out, c.URL(), node); err == nil {
		t.Error("a folder without an authority was accepted")
	}
}

func roots(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s has no certificate", path)
	}
	return pool
}

func wantClient(t *testing.T, ca string, cert, key []byte, user, group string) {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots(t, ca), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Error(err)
	}
	if s := pair.Leaf.Subject; s.CommonName != user || !slices.Equal(s.Organization, []string{group}) {
		t.Errorf("subject %v, want %s in %s", s, user, group)
	}
}
