package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/testapi"
	"reddwarf.io/reddwarf/zones/command"
)

// world is the program with an API server and a simulated host.
type world struct {
	t      *testing.T
	api    *testapi.Server
	host   *host.Model
	listen string
	log    *bytes.Buffer // read after the end only
	stop   func()
}

func newWorld(t *testing.T, objects ...testapi.Object) *world {
	t.Helper()
	w := &world{t: t, api: testapi.New(objects...), host: host.NewModel(), log: &bytes.Buffer{}}
	t.Cleanup(w.host.Close)
	t.Cleanup(w.api.Close)
	for _, line := range []string{"dladm create-etherstub -t reddwarf0", "dladm create-vnic -t -l reddwarf0 rdwgw0", "ipadm create-addr -t -T static -a 10.244.1.1/24 rdwgw0/v4"} {
		w.must("", strings.Fields(line)...)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		t.Fatal(err)
	}
	w.listen = ln.Addr().String()
	ln.Close()
	return w
}

func (w *world) must(stdin string, argv ...string) string {
	w.t.Helper()
	out, err := w.host.Run(w.t.Context(), command.Cmd{Name: argv[0], Args: argv[1:], Stdin: stdin})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out)
}

// start runs the program until the end of the test, or until w.stop.
func (w *world) start() {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", w.api.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	c := config{Kubeconfig: file, NodeName: "n1", Gateway: "rdwgw0", Uplink: "net0", ClusterCIDR: []string{"10.244.0.0/16"}, Listen: w.listen,
		Delay: 20 * time.Millisecond, Period: 300 * time.Millisecond, LogLevel: "info"}
	if err := c.validate(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- (&controller{config: c, log: slog.New(slog.NewTextHandler(w.log, nil)), host: w.host}).run(ctx)
	}()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("run = %v", err)
		}
		w.stop = func() {}
	}
	w.t.Cleanup(func() {
		w.stop()
		if w.t.Failed() {
			w.t.Logf("log:\n%s", w.log)
		}
	})
}

// eventually waits until try has nothing to say.
func (w *world) eventually(what string, try func() string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		said := try()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("waited a minute for %s: %s", what, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// targets waits until the redirects on the gateway lead to these.
func (w *world) targets(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.eventually("redirects", func() string {
		out, err := w.host.Run(w.t.Context(), command.New("ipnat", "-lR"))
		if err != nil {
			return err.Error()
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 8 && f[0] == "rdr" && f[1] == "rdwgw0" && strings.Contains(line, "rdwsvc") {
				got = append(got, f[6])
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Sprintf("they lead to %q, not to %q", got, want)
		}
		return ""
	})
}

func (w *world) get(path string) (int, string) {
	r, err := http.Get("http://" + w.listen + path) //nolint:noctx // on the loopback
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(body)
}

// page waits until a page has some text.
func (w *world) page(path, want string) {
	w.t.Helper()
	w.eventually(path, func() string {
		if code, body := w.get(path); !strings.Contains(body, want) {
			return fmt.Sprintf("want %q, got %d %s", want, code, body)
		}
		return ""
	})
}

func testNode() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "198.51.100.11"}}}}
}

func web(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}}}
	for _, e := range edit {
		e(s)
	}
	return s
}

func slice(at ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}}
	for _, a := range at {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: new("n1")})
	}
	return s
}

func cidr(networks ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: networks}}
}

// TestFollowsTheCluster is the program from its start to its end: with the
// packet filter off, through changes, a flush and an API server that is away.
func TestFollowsTheCluster(t *testing.T) {
	w := newWorld(t, testNode(), web(), slice("10.244.1.5"), cidr("10.96.0.0/16"))
	w.start()
	w.targets("10.244.1.5")
	w.page("/readyz", "ok")
	w.page("/healthz", "ok")
	w.page("/metrics", "reddwarf_clusterip_rules 6\n")
	if out := w.must("", "route", "-n", "get", "10.96.1.1"); !strings.Contains(out, "REJECT") {
		t.Errorf("cluster addresses without a Service go to\n%s", out)
	}

	changed := slice("10.244.1.5", "10.244.1.6")
	changed.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
	w.api.Set(changed)
	w.targets("10.244.1.5", "10.244.1.6")
	w.page("/metrics", "kubeproxy_network_programming_duration_seconds_count 1\n")

	foreign := "rdr net0 198.51.100.11/32 port 9000 -> 10.1.1.1 port 443 tcp\n"
	w.must("", "ipnat", "-C")
	w.must(foreign, "ipnat", "-f", "-")
	w.targets("10.244.1.5", "10.244.1.6")
	w.page("/metrics", "reddwarf_clusterip_drift_repairs_total 1\n")
	w.page("/metrics", "reddwarf_clusterip_foreign_rules 1\n")

	// The service's start flushes, after the filter was enabled without it.
	w.must("", "svcadm", "enable", "-s", "svc:/network/ipfilter:default")
	w.targets("10.244.1.5", "10.244.1.6")

	w.api.Away(true)
	time.Sleep(time.Second) // some periods in which nothing may happen
	w.targets("10.244.1.5", "10.244.1.6")
	w.must("", "ipnat", "-C")
	w.targets("10.244.1.5", "10.244.1.6")
	w.page("/readyz", "ok")
	w.api.Away(false)
	w.api.Set(slice("10.244.1.7"))
	w.targets("10.244.1.7")

	w.stop()
	w.targets("10.244.1.7")
	w.api.Away(true)
	w.start() // without an API server
	w.page("/readyz", "not in line yet")
	w.targets("10.244.1.7")
	w.api.Away(false)
	w.api.Delete(web())
	w.targets()
	if r := w.api.Refused(); len(r) > 0 {
		t.Errorf("requests that a read-only program should not make: %q", r)
	}
}

// TestTellsWhatItCannot sends an event about the Service.
func TestTellsWhatItCannot(t *testing.T) {
	w := newWorld(t, testNode(), web(func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "sctp", Protocol: corev1.ProtocolSCTP, Port: 9})
	}), slice("10.244.1.5"), cidr())
	w.start()
	w.targets("10.244.1.5")
	w.eventually("an event", func() string {
		for _, e := range w.api.Events() {
			if e.Reason == "UnsupportedProtocol" && e.Regarding.Name == "web" && strings.Contains(e.Note, "node n1: port 9: ") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", w.api.Events())
	})
	w.page("/metrics", `reddwarf_clusterip_service_problems_total{reason="UnsupportedProtocol"} 1`)
}

func TestErrorsAreCounted(t *testing.T) {
	w := newWorld(t, testNode(), web(), slice("10.244.1.5"), cidr())
	if err := w.host.Fail("ipnat *", 1, "/dev/ipnat: open: No such file or directory\n"); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.page("/readyz", "ipnat is not available")
	w.eventually("errors", func() string {
		if _, body := w.get("/metrics"); strings.Contains(body, `errors_total{kind="no_device"} 0`) {
			return body
		}
		return ""
	})
	w.host.ClearFaults()
	w.targets("10.244.1.5")
	w.page("/readyz", "ok")
}

func TestCleanup(t *testing.T) {
	w := newWorld(t, testNode(), web(), slice("10.244.1.5"), cidr("10.96.0.0/16"))
	w.must("", "ipf", "-E")
	foreign := "rdr net0 198.51.100.11/32 port 9000 -> 10.1.1.1 port 443 tcp"
	w.must(foreign+"\n", "ipnat", "-f", "-")
	w.start()
	w.targets("10.244.1.5")
	w.page("/readyz", "ok")
	w.stop()
	for range 2 {
		cmd := cleanupCommand(w.host)
		cmd.SetArgs([]string{"--service-cidr", "10.96.0.0/16", "--pod-cidr", "10.244.1.0/24"})
		cmd.SetOut(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.must("", "ipnat", "-lR"); !strings.HasPrefix(got, "List of active MAP/Redirect filters:\n"+foreign+"\n\n") {
			t.Errorf("rules after the clean-up:\n%s", got)
		}
		if out, _ := w.host.Run(t.Context(), command.New("route", "-n", "get", "10.96.1.1")); strings.Contains(string(out), "REJECT") {
			t.Errorf("a route is left:\n%s", out)
		}
	}
}

func TestConfigListsAllFaults(t *testing.T) {
	c := config{NodeName: "N_1", PodCIDR: []string{"10.244.0.1/24"}, ClusterCIDR: []string{"10.0.0.0/8", "11.0.0.0/8"}, Listen: "nowhere", Period: time.Second, LogLevel: "loud"}
	err := c.validate()
	for _, want := range []string{"--node-name", "--pod-cidr", "--cluster-cidr", "--listen", "--min-sync-period", "--log-level"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: nothing of %s", err, want)
		}
	}
}

// TestServiceAccount is for a host pod: its files are not where a pod's are.
func TestServiceAccount(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	c := config{ServiceAccount: t.TempDir()}
	if _, err := c.rest(); err == nil {
		t.Error("no token, and no error")
	}
	for _, name := range []string{"token", "ca.crt"} {
		if err := os.WriteFile(filepath.Join(c.ServiceAccount, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := c.rest(); err != nil || r.Host != "https://[fd00::1]:443" || r.BearerTokenFile != c.ServiceAccount+"/token" {
		t.Errorf("rest = %+v, %v", r, err)
	}
	c.Server = "https://198.51.100.1:6443"
	if r, err := c.rest(); err != nil || r.Host != c.Server {
		t.Errorf("rest with --server = %+v, %v", r, err)
	}
}
