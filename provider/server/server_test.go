package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestAccess(t *testing.T) {
	h := start(t, "scraper get metrics", "reader get pods", "checker get healthz", "viewer get proxy",
		"@ops get metrics", "@token-users get healthz", "@system:authenticated get configz")
	cert := func(name string, edit ...func(*x509.Certificate)) *tls.Certificate {
		return h.ca.issue(t, name, 5, x509.ExtKeyUsageClientAuth, edit...)
	}
	member := func(c *x509.Certificate) { c.Subject.Organization = []string{"dev", "ops"} }
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	tomorrow := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	}
	nameless := func(c *x509.Certificate) { c.Subject.CommonName = "" }
	foreign := newAuthority(t)
	for _, tt := range []struct {
		name   string
		certs  []*tls.Certificate
		token  string
		method string
		path   string
		status int
	}{
		{"anonymous", nil, "", "GET", "/pods", 401},
		{"anonymous healthz", nil, "", "GET", "/healthz", 401},
		{"anonymous metrics", nil, "", "GET", "/metrics", 401},
		{"anonymous exec", nil, "", "POST", "/exec/ns/web/c?command=id&output=1", 401},
		{"anonymous nowhere", nil, "", "GET", "/nowhere", 401},
		{"bad token", nil, "nonsense", "GET", "/pods", 401},
		{"foreign certificate", []*tls.Certificate{foreign.issue(t, "admin", 5, x509.ExtKeyUsageClientAuth)}, "", "GET", "/pods", 401},
		{"server certificate", []*tls.Certificate{h.ca.issue(t, "admin", 5, x509.ExtKeyUsageServerAuth)}, "", "GET", "/pods", 401},
		{"expired certificate", []*tls.Certificate{cert("admin", expired)}, "", "GET", "/pods", 401},
		{"expired certificate and a token", []*tls.Certificate{cert("admin", expired)}, "T-admin", "GET", "/pods", 200},
		{"certificate of tomorrow", []*tls.Certificate{cert("admin", tomorrow)}, "", "GET", "/pods", 401},
		{"certificate without a name", []*tls.Certificate{cert("", member, nameless)}, "", "GET", "/metrics", 401},
		{"token for somebody else", nil, "V-admin", "GET", "/pods", 401},
		{"organization is a group", []*tls.Certificate{cert("joe", member)}, "", "GET", "/metrics", 200},
		{"group is not every right", []*tls.Certificate{cert("joe", member)}, "", "GET", "/pods", 403},
		{"no member", []*tls.Certificate{cert("joe")}, "", "GET", "/metrics", 403},
		{"group of a token", nil, "T-joe", "GET", "/healthz", 200},
		{"authenticated by certificate", []*tls.Certificate{cert("joe")}, "", "GET", "/configz", 404}, // allowed, but there is none
		{"authenticated by token", nil, "T-joe", "GET", "/configz", 404},
		{"right by certificate", []*tls.Certificate{cert("admin")}, "", "GET", "/pods", 200},
		{"right by token", nil, "T-admin", "GET", "/pods", 200},
		{"no right", []*tls.Certificate{cert("nobody")}, "", "GET", "/pods", 403},
		{"no right by token", nil, "T-nobody", "GET", "/containerLogs/ns/web/c", 403},
		{"metrics only", nil, "T-scraper", "GET", "/metrics", 200},
		{"metrics is not pods", nil, "T-scraper", "GET", "/pods", 403},
		{"fine right for pods", nil, "T-reader", "GET", "/pods", 200},
		{"fine right for running pods", nil, "T-reader", "GET", "/runningpods/", 200},
		{"pods is not stats", nil, "T-reader", "GET", "/stats/summary", 403},
		{"fine right for healthz", nil, "T-checker", "GET", "/healthz", 200},
		{"healthz is not logs", nil, "T-checker", "GET", "/containerLogs/ns/web/c", 403},
		{"get proxy reads logs", nil, "T-viewer", "GET", "/containerLogs/ns/web/c", 200},
		{"get proxy is no exec", nil, "T-viewer", "GET", "/exec/ns/web/c?command=id&output=1", 403},
		{"get proxy is no forward", nil, "T-viewer", "GET", "/portForward/ns/web", 403},
		{"stats", nil, "T-admin", "GET", "/stats/summary", 200},
		{"no logs directory", nil, "T-admin", "GET", "/logs/", 404},
		{"no profiling", nil, "T-admin", "GET", "/debug/pprof/", 404},
		{"no run", nil, "T-admin", "POST", "/run/ns/web/c?cmd=id", 404},
		{"no root", nil, "T-admin", "GET", "/", 404},
		{"resource metrics", nil, "T-admin", "GET", "/metrics/resource", 200},
		{"put", nil, "T-admin", "PUT", "/pods", 405},
		{"post to pods", nil, "T-admin", "POST", "/pods", 405},
		{"dots", nil, "T-scraper", "GET", "/metrics/../pods", 400},
		{"double slash", nil, "T-admin", "GET", "//pods", 400},
		{"escaped slash", nil, "T-scraper", "GET", "/metrics%2f..%2fpods", 400},
		{"unknown pod", nil, "T-admin", "GET", "/containerLogs/ns/nothere/c", 404},
		{"unknown container", nil, "T-admin", "GET", "/containerLogs/ns/web/nothere", 404},
		{"unknown uid", nil, "T-admin", "POST", "/exec/ns/web/uid-9/c?command=id&output=1", 404},
		{"exec without streams", nil, "T-admin", "POST", "/exec/ns/web/uid-1/c?command=id", 400},
		{"exec without a command", nil, "T-admin", "POST", "/exec/ns/web/c?output=1", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, h.url+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			path, query, _ := strings.Cut(tt.path, "?")
			req.URL.Opaque = "//" + req.URL.Host + path // as it is, unlike a parsed path
			req.URL.RawQuery = query
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			resp, err := h.client(t, tt.certs...).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close() //nolint:errcheck // nothing is read
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s: %d, want %d", tt.method, tt.path, resp.StatusCode, tt.status)
			}
		})
	}
}

// An API server that does not answer must not open the door.
func TestAccessWithoutReviews(t *testing.T) {
	h := start(t)
	h.api.mu.Lock()
	h.api.broken = true
	h.api.mu.Unlock()
	status, _ := get(t, h.admin(t), h.url+"/pods")
	if status != http.StatusInternalServerError {
		t.Errorf("status %d, want 500", status)
	}
}

func TestAttributes(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		want         []string // "verb subresource"
	}{
		{"GET", "/pods", []string{"get pods", "get proxy"}},
		{"GET", "/pods/", []string{"get pods", "get proxy"}},
		{"GET", "/podsandmore", []string{"get proxy"}},
		{"GET", "/runningpods/", []string{"get pods", "get proxy"}},
		{"GET", "/healthz", []string{"get healthz", "get proxy"}},
		{"GET", "/configz", []string{"get configz", "get proxy"}},
		{"GET", "/stats/summary", []string{"get stats"}},
		{"GET", "/metrics", []string{"get metrics"}},
		{"GET", "/metrics/resource", []string{"get metrics"}},
		{"GET", "/logs/x", []string{"get log"}},
		{"POST", "/checkpoint/ns/p/c", []string{"create checkpoint"}},
		{"GET", "/flagz", []string{"get configz"}},
		{"GET", "/containerLogs/ns/p/c", []string{"get proxy"}},
		{"POST", "/exec/ns/p/c", []string{"create proxy"}},
		{"GET", "/exec/ns/p/c", []string{"create proxy"}},
		{"GET", "/attach/ns/p/c", []string{"create proxy"}},
		{"GET", "/portForward/ns/p", []string{"create proxy"}},
		{"DELETE", "/pods", nil},
		{"HEAD", "/pods", nil},
		{"CONNECT", "/pods", nil},
	} {
		var got []string
		for _, a := range attributes("n", &user.DefaultInfo{Name: "u"}, tt.method, tt.path) {
			got = append(got, a.Verb+" "+a.Subresource)
			if a.Name != "n" || a.Resource != "nodes" || a.APIVersion != "v1" || !a.ResourceRequest || a.User.GetName() != "u" {
				t.Errorf("%s %s: %+v", tt.method, tt.path, a)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{
		NodeName: "n", Pods: newFakePods(), Auth: &Auth{},
		Certificate: func() (*tls.Certificate, error) { return nil, errors.New("none") },
	}
	for name, edit := range map[string]func(*Config){
		"no authentication":     func(c *Config) { c.Auth = nil },
		"empty authentication":  func(*Config) {},
		"no serving certificat": func(c *Config) { c.Certificate = nil },
	} {
		c := good
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewAuth(nil, nil); err == nil {
		t.Error("NewAuth without anything: accepted")
	}
}

func TestPodsAndStats(t *testing.T) {
	h := start(t)
	c := h.admin(t)
	for path, want := range map[string][]string{"/pods": {"web", "done"}, "/runningpods": {"web"}} {
		_, body := get(t, c, h.url+path)
		var list corev1.PodList
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
		if list.Kind != "PodList" || list.APIVersion != "v1" || !slices.Equal(names, want) {
			t.Errorf("%s: %s %s %v", path, list.Kind, list.APIVersion, names)
		}
	}
	if _, body := get(t, c, h.url+"/stats/summary"); !strings.Contains(body, `"nodeName":"node-1"`) {
		t.Errorf("stats %s", body)
	}
	if _, body := get(t, c, h.url+"/healthz"); body != "ok" {
		t.Errorf("healthz %q", body)
	}
	if _, body := get(t, c, h.url+"/metrics"); body != "metric 1\n" {
		t.Errorf("metrics %q", body)
	}
}

func TestCertificateRotates(t *testing.T) {
	h := start(t)
	serial := func() int64 {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), &tls.Config{RootCAs: h.ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // only looked at
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d, want 2", got)
	}
	h.certs.Lock()
	h.certs.serving = h.ca.issue(t, "node-1", 77, x509.ExtKeyUsageServerAuth)
	h.certs.Unlock()
	if got := serial(); got != 77 {
		t.Errorf("serial %d after the rotation, want 77", got)
	}
}

func TestOldTLSRefused(t *testing.T) {
	h := start(t)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"),
		&tls.Config{RootCAs: h.ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		conn.Close() //nolint:errcheck // the test has failed
		t.Error("TLS 1.1 was accepted")
	}
}

// A kubelet lets streams be idle for four hours; virtual-kubelet's default would
// be half a minute.
func TestTimeouts(t *testing.T) {
	if idleTimeout != 4*time.Hour || creationTimeout != 30*time.Second {
		t.Errorf("idle %v, creation %v", idleTimeout, creationTimeout)
	}
}

func TestServeEndsRunningStreams(t *testing.T) {
	h := start(t)
	entered := make(chan struct{})
	h.pods.exec = func(ctx context.Context, _ string, _ []string, _ AttachIO) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() {
		result <- stream(t.Context(), h.spdy(t, "/exec/ns/web/c", "command=x&output=1"), streams{out: &strings.Builder{}})
	}()
	<-entered
	h.stop()
	if err := <-h.ended; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if err := <-result; err == nil {
		t.Error("the stream ended as if all was well")
	}
}
