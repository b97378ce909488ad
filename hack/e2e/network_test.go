package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

// webOn is the manifest of a pod that answers HTTP on port 8080 and has a shell
// beside it.
func webOn(node, name, extra string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:%s
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: %s%s}
  - {name: shell, image: %s, command: ["sleep", "36000"], securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}}
`, name, onNode, node, webImage, extra, busyboxImage)
}

// outside is an HTTP server that is no part of the cluster; it answers with who
// asked.
func outside(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(testbed.APIServer, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "remote: %s\n", r.RemoteAddr)
	})}
	go s.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String() + "/"
}

// snapshot is everything of a host that Reddwarf may change, but for whether the
// packet filter is on: that is left as it is.
func snapshot(t *testing.T, h *testbed.Host) string {
	t.Helper()
	var b strings.Builder
	for _, cmd := range []string{
		"zoneadm list -cp", "zfs list -H -o name -t all", "dladm show-link -p -o link,class,over", "ipadm show-addr -p -o addrobj,addr",
		"ipadm show-prop -c -o property,current -p forwarding ipv4", "ipadm show-prop -c -o property,current -p _send_redirects ipv4",
		"ipadm show-ifprop -c -o property,current -p forwarding -m ipv4 net0", "route -n get 10.244.0.1", "route -n get 10.244.1.1", "route -n get 10.244.2.1",
		"ipnat -lR 2>/dev/null | grep -E '^(rdr|map) '", "ls /etc/zones", "ls /var/lib", "ls /var/log", "ls /etc/reddwarf /var/run/reddwarf /rpool/reddwarf",
	} {
		out, err := h.Run(t.Context(), "sh", "-c", cmd+" 2>&1 || true")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", cmd, out)
	}
	return b.String()
}

// TestNetworkOfNodes has two illumos hosts and one Linux node on a LAN: every
// pod reaches every other by its own address, and the world by its node's. Then
// one host leaves and is as it was before it came.
func TestNetworkOfNodes(t *testing.T) {
	ctx := t.Context()
	second, err := bed.NewHost(ctx, "e2e2", testbed.HostOptions{NoAgent: true})
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, second)
	if err := second.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		second.StopAgent()
		bed.Kubectl(context.Background(), "delete", "node", "e2e2", "--ignore-not-found")
	})
	kubectl(t, "wait", "--for=create", "node/e2e2", "--timeout=120s")
	kubectl(t, "wait", "--for=condition=Ready", "node/e2e2", "--timeout=120s")
	linux, err := bed.AddLinuxNode(ctx, "linux1", "198.51.100.50")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { linux.Remove(context.Background()) })
	if err := linux.Serve(8080); err != nil {
		t.Fatal(err)
	}
	pods := map[string]*corev1.Pod{}
	for name, node := range map[string]string{"net-a": "e2e1", "net-b": "e2e1", "net-c": "e2e2"} {
		extra := ""
		if name == "net-a" {
			extra = ", ports: [{containerPort: 8080, hostPort: 18080}]"
		}
		apply(t, webOn(node, name, extra))
		pods[name] = nil
	}
	for name := range pods {
		pods[name] = waitPod(t, name, "a ready pod", ready)
	}
	url := func(ip string) string { return "http://" + ip + ":8080/" }
	// get asks until there is an answer: routes follow nodes within moments.
	get := func(from, url, want string) {
		t.Helper()
		err := bed.Eventually(ctx, time.Minute, from+" to get "+want+" from "+url, func(ctx context.Context) error {
			var out string
			var err error
			if from == "linux1" {
				out, err = linux.InPod(ctx, "wget", "-qO-", "-T", "5", "-t", "1", url)
			} else {
				out, err = bed.Kubectl(ctx, "exec", from, "-c", "main", "--", "/web", "fetch", url)
			}
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("it gets %q", out)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	t.Run("between pods", func(t *testing.T) {
		if err := linux.SyncRoutes(ctx); err != nil {
			t.Fatal(err)
		}
		for from, p := range pods {
			for _, to := range pods {
				get(from, url(to.Status.PodIP), "remote: "+p.Status.PodIP+":")
			}
			get(from, url(linux.PodIP), "remote: "+p.Status.PodIP+":")
			get("linux1", url(p.Status.PodIP), "remote: "+linux.PodIP+":")
		}
	})
	world := outside(t)
	t.Run("to the world", func(t *testing.T) {
		get("net-a", world, "remote: "+host.IP+":")
		get("net-c", world, "remote: "+second.IP+":")
	})
	t.Run("host port", func(t *testing.T) {
		at := fmt.Sprintf("http://%s:18080/", host.IP)
		get("linux1", at, "hostname: net-a")
		get("net-c", at, "hostname: net-a")
		get("net-b", at, "hostname: net-a") // turns around on the gateway
		resp, err := http.Get(at)           //nolint:noctx // by a test
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	t.Run("spoofing", func(t *testing.T) { spoof(t, pods) })
	t.Run("repair", func(t *testing.T) {
		onHost(t, "sh", "-c", "echo | ipnat -C; route -n delete "+cidrOf(pods["net-c"])+" "+second.IP+"; ipadm set-ifprop -t -p forwarding=off -m ipv4 net0")
		get("net-a", url(pods["net-c"].Status.PodIP), "remote: "+pods["net-a"].Status.PodIP+":")
		get("net-a", world, "remote: "+host.IP+":")
	})
	t.Run("leave", func(t *testing.T) { leave(t, second, before) })
}

// cidrOf is the /24 that a pod's address is of.
func cidrOf(p *corev1.Pod) string {
	return p.Status.PodIP[:strings.LastIndex(p.Status.PodIP, ".")] + ".0/24"
}

// spoof sends from an address that is not the pod's own. The pod may configure
// its interface as it likes; the host has to drop what comes of it.
func spoof(t *testing.T, pods map[string]*corev1.Pod) {
	t.Helper()
	in := func(args ...string) (string, int) {
		return kubectlCode(t, "", append([]string{"exec", "net-b", "-c", "shell", "--"}, args...)...)
	}
	target := pods["net-a"].Status.PodIP
	if out, code := in("ping", "-c", "2", "-W", "5", target); code != 0 {
		t.Fatalf("with its own address: %s", out)
	}
	stolen := cidrOf(pods["net-b"])
	stolen = strings.TrimSuffix(stolen, "0/24") + "250"
	link, code := in("sh", "-c", "ip -o addr show to "+pods["net-b"].Status.PodIP+" | cut -d' ' -f2")
	if code != 0 || strings.TrimSpace(link) == "" {
		t.Fatalf("the pod's interface is %q", link)
	}
	if out, code := in("ip", "addr", "add", stolen+"/24", "dev", strings.TrimSpace(link)); code != 0 {
		t.Fatalf("the simulated zone cannot even try: %s", out)
	}
	if out, code := in("ping", "-c", "3", "-W", "3", "-I", stolen, target); code == 0 {
		t.Errorf("a pod sends as %s:\n%s", stolen, out)
	}
	if out, code := in("ping", "-c", "2", "-W", "5", target); code != 0 {
		t.Errorf("with its own address afterwards: %s", out)
	}
}

// leave runs `reddwarf leave` on a host with a running pod and agent.
func leave(t *testing.T, h *testbed.Host, before string) {
	t.Helper()
	ctx := t.Context()
	done := make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, bed.Program("reddwarf"), "leave", "--node-name", h.Name, "--kubeconfig", h.Path("identity/kubeconfig"),
			"--admin-kubeconfig", bed.Kubeconfig(), "--timeout", "4m")
		done <- err
	}()
	err := bed.Eventually(ctx, 2*time.Minute, "the node to be drained", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "node", h.Name, "-o", "json")
		if err != nil {
			return err
		}
		var n corev1.Node
		if err := json.Unmarshal([]byte(out), &n); err != nil {
			return err
		}
		left, err := bed.Kubectl(ctx, "get", "pods", "-A", "-o", "name", "--field-selector", "spec.nodeName="+h.Name)
		if err == nil && (!n.Spec.Unschedulable || left != "") {
			err = fmt.Errorf("unschedulable %v, pods %q", n.Spec.Unschedulable, left)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, h); after != before {
		t.Errorf("the host is not as it was:\n%s\nwant\n%s", after, before)
	}
	if out, code := kubectlCode(t, "", "get", "node", h.Name); code == 0 {
		t.Errorf("the Node is still there: %s", out)
	}
}

// TestDoctor asks a host that is a node what it lacks, and then one that has
// been told nonsense.
func TestDoctor(t *testing.T) {
	ask := []string{bed.Program("reddwarf"), "doctor", "--try", "--node-name", host.Name,
		"--kubeconfig", host.Path("identity/kubeconfig"), "--podinit-lx", bed.Program("podinit-linux")}
	links := onHost(t, "dladm", "show-link", "-p", "-o", "link,class")
	out, err := host.Run(t.Context(), ask...)
	if err != nil || strings.Contains(out, "FAIL") || strings.Count(out, "ok ") < 11 {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	if after := onHost(t, "dladm", "show-link", "-p", "-o", "link,class"); after != links {
		t.Errorf("links before and after:\n%s\n%s", links, after)
	}
	out, err = host.Run(t.Context(), append(ask, "--pool", "nopool", "--kubeconfig", "/nowhere", "--podinit-lx", "/nowhere")...)
	if err == nil {
		t.Errorf("doctor finds nothing wrong:\n%s", out)
	}
	for _, want := range []string{"FAIL  podinit: \"/nowhere\" for brand lx is no program; install", "FAIL  pool: pool nopool", "`zpool list`", "FAIL  API server", "`reddwarf join`"} {
		if !strings.Contains(out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
}
