package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// proxy is the controller of Services on the host.
type proxy struct {
	t    *testing.T
	stop func() error
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{t: t}
	p.start()
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := host.Run(ctx, bed.Program("clusterip"), "cleanup", "--service-cidr", serviceCIDR(t), "--pod-cidr", podCIDR(ctx, t))
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
		if rules, err := host.Run(ctx, "ipnat", "-lR"); err != nil || strings.Contains(rules, "rdwsvc") {
			t.Errorf("rules after %s: %v\n%s", out, err, rules)
		}
	})
	return p
}

func (p *proxy) start() {
	p.t.Helper()
	stop, err := host.StartProgram("clusterip", "--kubeconfig", bed.Kubeconfig(), "--node-name", host.Name, "--uplink", "net0", "--cluster-cidr", "10.244.0.0/16")
	if err != nil {
		p.t.Fatal(err)
	}
	p.stop = stop
}

func podCIDR(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := bed.Kubectl(ctx, "get", "node", host.Name, "-o", "jsonpath={.spec.podCIDR}")
	if err != nil {
		t.Error(err)
	}
	return out
}

func serviceCIDR(t *testing.T) string {
	t.Helper()
	out, err := bed.Kubectl(context.Background(), "get", "servicecidr", "kubernetes", "-o", "jsonpath={.spec.cidrs[0]}")
	if err != nil {
		t.Error(err)
	}
	return out
}

// from runs a client in a pod.
func from(ctx context.Context, pod string, args ...string) (string, error) {
	return bed.Kubectl(ctx, append([]string{"exec", pod, "--", "/web"}, args...)...)
}

// hostnames asks times, and returns how often each pod answered.
func hostnames(times int, ask func() (string, error)) (map[string]int, error) {
	got := map[string]int{}
	for range times {
		answer, err := ask()
		if err != nil {
			return got, err
		}
		name, ok := strings.CutPrefix(strings.SplitN(answer, "\n", 2)[0], "hostname: ")
		if !ok {
			return got, fmt.Errorf("an answer of a stranger: %q", answer)
		}
		got[name]++
	}
	return got, nil
}

// answers waits until exactly these pods answer, each of them.
func answers(t *testing.T, what string, ask func(context.Context) (string, error), want ...string) {
	t.Helper()
	err := bed.Eventually(t.Context(), time.Minute, what, func(ctx context.Context) error {
		got, err := hostnames(3*len(want), func() (string, error) { return ask(ctx) })
		if err != nil {
			return err
		}
		for _, name := range want {
			if got[name] == 0 {
				return fmt.Errorf("%v answer, want %q", got, want)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%v answer, want %q", got, want)
		}
		return nil
	})
	if err != nil {
		rules, _ := host.Run(context.WithoutCancel(t.Context()), "ipnat", "-l")
		t.Fatalf("%v\n%s", err, rules)
	}
}

func service(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec:\n%s---\n", name, indent(spec, "  "))
}

func server(name, arguments string) string {
	labels := "metadata: {name: " + name + ", labels: {app: svc}}"
	return strings.Replace(pod(name, webImage, "", arguments), "metadata: {name: "+name+"}", labels, 1) + "---\n"
}

// TestServices has two pods that are servers and clients, on one host: a pod
// that asks for the cluster address may reach its neighbour or itself.
func TestServices(t *testing.T) {
	p := startProxy(t)
	apply(t, server("svc-a", "")+server("svc-b", "")+
		strings.Replace(server("svc-udp", "args: [answer]"), "app: svc", "app: svc-udp", 1)+
		service("svc", "selector: {app: svc}\nports: [{port: 80, targetPort: 8080}]")+
		service("svc-udp", "selector: {app: svc-udp}\nports: [{port: 53, targetPort: 8080, protocol: UDP}]")+
		service("svc-sticky", "selector: {app: svc}\nsessionAffinity: ClientIP\nports: [{port: 80, targetPort: 8080}]")+
		service("svc-node", "type: NodePort\nselector: {app: svc}\nports: [{port: 80, targetPort: 8080, nodePort: 30080}]")+
		service("svc-none", "selector: {app: svc-nobody}\nports: [{port: 80}]"))
	waitReady(t, "app=svc", 2)
	waitReady(t, "app=svc-udp", 1)
	vip := func(name string) string {
		return kubectl(t, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
	}
	ip := vip("svc")
	ask := func(ctx context.Context) (string, error) { return from(ctx, "svc-a", "fetch", "http://"+ip+"/") }

	answers(t, "the cluster address to reach the client itself and its neighbour", ask, "svc-a", "svc-b")
	udp := vip("svc-udp")
	answers(t, "UDP", func(ctx context.Context) (string, error) { return from(ctx, "svc-a", "ask", udp+":53") }, "svc-udp")

	t.Run("no endpoints", func(t *testing.T) {
		none := vip("svc-none")
		err := bed.Eventually(t.Context(), time.Minute, "a refusal", func(ctx context.Context) error {
			if answer, err := from(ctx, "svc-a", "fetch", "http://"+none+"/"); err == nil || !strings.Contains(err.Error(), "connection refused") {
				return fmt.Errorf("%q, %w", answer, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("affinity", func(t *testing.T) {
		sticky := vip("svc-sticky")
		err := bed.Eventually(t.Context(), time.Minute, "one endpoint for one client", func(ctx context.Context) error {
			got, err := hostnames(6, func() (string, error) { return from(ctx, "svc-a", "fetch", "http://"+sticky+"/") })
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%v answer one client", got)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("node port", func(t *testing.T) {
		at := "http://" + host.IP + ":30080/"
		answers(t, "the node port from outside", fetchOutside(at), "svc-a", "svc-b")
		answers(t, "the node port from a pod", func(ctx context.Context) (string, error) { return from(ctx, "svc-b", "fetch", at) }, "svc-a", "svc-b")
	})
	t.Run("hairpin", func(t *testing.T) { withoutHairpin(t, p, ask) })

	open := connect(t, host.IP+":30080")
	kubectl(t, "label", "pod", "svc-b", "app-")
	answers(t, "an endpoint to go", ask, "svc-a")
	kubectl(t, "label", "pod", "svc-b", "app=svc")
	answers(t, "an endpoint to come back", ask, "svc-a", "svc-b")
	open.again(t)

	// Somebody restarts the packet filter: its method flushes all rules.
	onHost(t, "svcadm", "enable", "-s", "svc:/network/ipfilter:default")
	onHost(t, "svcadm", "restart", "svc:/network/ipfilter:default")
	answers(t, "the rules to be asserted again", ask, "svc-a", "svc-b")
}

// connection stays open while rules change.
type connection struct {
	net.Conn
	answer *bufio.Reader
	first  string // who has answered
}

func connect(t *testing.T, to string) *connection {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	open := &connection{Conn: c, answer: bufio.NewReader(c)}
	open.first = open.ask(t)
	return open
}

func (c *connection) ask(t *testing.T) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // a read fails instead
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: svc\r\n\r\n"); err != nil {
		t.Fatalf("an open connection: %v", err)
	}
	resp, err := http.ReadResponse(c.answer, nil)
	if err != nil {
		t.Fatalf("an open connection: %v", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("an open connection: %v", err)
	}
	return string(body)
}

// again asks over the same connection: the same pod must answer.
func (c *connection) again(t *testing.T) {
	t.Helper()
	if got := c.ask(t); got != c.first {
		t.Errorf("an open connection was answered by %q, now by %q", c.first, got)
	}
}

func fetchOutside(url string) func(context.Context) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close() //nolint:errcheck // only read
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
}

// withoutHairpin shows what the map rule on the gateway is for: without it the
// endpoint answers its neighbour past the host, who does not know it. The rules
// stay when the controller ends, but for the one that is taken away here.
func withoutHairpin(t *testing.T, p *proxy, ask func(context.Context) (string, error)) {
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	answers(t, "rules without a controller", ask, "svc-a", "svc-b")
	var hairpin string
	for line := range strings.Lines(onHost(t, "ipnat", "-lR")) {
		if strings.HasPrefix(line, "map rdwgw0 ") && strings.Contains(line, " portmap tcp/udp ") {
			hairpin = line
		}
	}
	if hairpin == "" {
		t.Fatal("no map rule on the gateway")
	}
	if _, err := host.RunIn(t.Context(), hairpin, "ipnat", "-r", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one goes to the neighbour, one to the client itself
		if answer, err := ask(t.Context()); err == nil {
			t.Errorf("without the map rule: %q", answer)
		}
	}
	p.start()
	answers(t, "the controller to bring the rule back", ask, "svc-a", "svc-b")
}
