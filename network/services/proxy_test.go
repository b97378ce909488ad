package services_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

var (
	_ reconcile.Reconciler           = (*services.Proxy)(nil)
	_ manager.Runnable               = (*services.Proxy)(nil)
	_ manager.LeaderElectionRunnable = (*services.Proxy)(nil)
)

func node() services.Node {
	w := ipnat.Networks{Gateway: addr("10.244.1.1"), Pods: netip.MustParsePrefix("10.244.1.0/24")}
	return services.Node{Node: ipnat.Node{Name: "n1", Gateway: "rdwgw0", IPv4: &w}}
}

// cluster is a proxy with an API server's cache and a simulated host.
type cluster struct {
	t        *testing.T
	client   client.Client
	host     *host.Model
	proxy    *services.Proxy
	warnings []string

	mu   sync.Mutex
	told []services.Outcome // by the proxy's goroutine
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	c := &cluster{t: t, client: fake.NewClientBuilder().WithObjects(objects...).WithIndex(&discoveryv1.EndpointSlice{}, "service", services.IndexSlice).Build(), host: host.NewModel()}
	t.Cleanup(c.host.Close)
	c.start()
	return c
}

// start makes a proxy that knows nothing, as after a restart.
func (c *cluster) start() {
	c.t.Helper()
	c.proxy = services.New(services.Config{Client: c.client, Loader: ipnat.NewLoader(c.host), Delay: time.Second, Period: time.Minute,
		Done: c.done,
		Warn: func(_ *corev1.Service, p ipnat.Problem) { c.warnings = append(c.warnings, p.String()) }})
	if err := c.proxy.SetNode(node()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) done(o services.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, o)
}

// outcomes returns what was told when all is quiet.
func (c *cluster) outcomes() []services.Outcome {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.told)
}

// run runs the proxy until the end of the test's bubble.
func (c *cluster) run(f func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.proxy.Start(ctx) }()
	synctest.Wait()
	f()
	cancel()
	if err := <-ended; err != nil {
		c.t.Errorf("Start = %v", err)
	}
}

func (c *cluster) ipnat(stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.host.Run(c.t.Context(), command.Cmd{Name: "ipnat", Args: args, Stdin: stdin})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(out)
}

// gateway makes the interface of the pods.
func (c *cluster) gateway() {
	c.t.Helper()
	for _, line := range []string{"dladm create-etherstub -t reddwarf0", "dladm create-vnic -t -l reddwarf0 rdwgw0",
		"ipadm create-addr -t -T static -a 10.244.1.1/24 rdwgw0/v4"} {
		f := strings.Fields(line)
		if _, err := c.host.Run(c.t.Context(), command.New(f[0], f[1:]...)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// refused says whether the host rejects packets for an address.
func (c *cluster) refused(to string) bool {
	out, err := c.host.Run(c.t.Context(), command.New("route", "-n", "get", to))
	return err == nil && strings.Contains(string(out), "REJECT")
}

func endpointHints(zone string) *discoveryv1.EndpointHints {
	return &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
}

// targets returns where the redirects lead, in the order of the list.
func (c *cluster) targets() string {
	c.t.Helper()
	var out []string
	for line := range strings.Lines(c.ipnat("", "-lR")) {
		if f := strings.Fields(line); len(f) > 6 && f[0] == "rdr" {
			out = append(out, f[6])
		}
	}
	return strings.Join(out, " ")
}

// changed tells the proxy about web.
func (c *cluster) changed() {
	c.t.Helper()
	req := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "web"}}
	if _, err := c.proxy.Reconcile(c.t.Context(), req); err != nil {
		c.t.Fatal(err)
	}
}

// endpoints makes the slice of web name these.
func (c *cluster) endpoints(at ...string) {
	c.t.Helper()
	s := newSlice("web-1")
	if err := c.client.Get(c.t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		c.t.Fatal(err)
	}
	s.Endpoints = newSlice("web-1", at...).Endpoints
	if err := c.client.Update(c.t.Context(), s); err != nil {
		c.t.Fatal(err)
	}
	c.changed()
}

func (c *cluster) want(what, targets string, runs int) {
	c.t.Helper()
	synctest.Wait()
	if got := c.targets(); got != targets || len(c.outcomes()) != runs {
		c.t.Errorf("%s: redirected to %q after %d runs, want %q after %d: %+v", what, got, len(c.outcomes()), targets, runs, c.outcomes())
	}
	for _, o := range c.outcomes() {
		if o.Err != nil {
			c.t.Errorf("%s: %v", what, o.Err)
		}
	}
}

func TestProxyFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		c.run(func() {
			c.want("start, with the filter off", "10.244.1.5", 1)
			time.Sleep(2 * time.Second)
			c.endpoints("10.244.1.5", "10.244.1.6")
			c.want("the first change is made at once", "10.244.1.5 10.244.1.6", 2)
			if o := c.outcomes()[1]; o.Full || o.Added != 1 || o.Removed != 0 {
				t.Errorf("one endpoint: %+v", o)
			}
			for _, last := range []string{"10.244.1.7", "10.244.1.8", "10.244.1.9"} {
				c.endpoints("10.244.1.5", last)
			}
			c.want("the rest of a burst waits", "10.244.1.5 10.244.1.6", 2)
			time.Sleep(time.Second)
			c.want("and is made together", "10.244.1.5 10.244.1.9", 3)
			if o := c.outcomes()[2]; o.Added != 1 || o.Removed != 1 {
				t.Errorf("a burst: %+v", o)
			}
			if err := c.client.Delete(t.Context(), newService()); err != nil {
				t.Fatal(err)
			}
			c.changed()
			time.Sleep(time.Second)
			c.want("deleted", "", 4)
		})
	})
}

func TestProxyRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		c.run(func() {
			time.Sleep(2 * time.Second)
			c.ipnat("", "-C")
			time.Sleep(time.Minute)
			c.want("after a flush", "10.244.1.5", 2)
			if o := c.outcomes()[1]; !o.Repair || !o.Full || o.Added == 0 {
				t.Errorf("a repair: %+v", o)
			}
			c.ipnat("", "-C")
			c.endpoints("10.244.1.6")
			c.want("a change after a flush repairs at once", "10.244.1.6", 3)
			if o := c.outcomes()[2]; !o.Repair || !o.Full {
				t.Errorf("a repair: %+v", o)
			}
			if _, err := c.host.Run(t.Context(), command.New("ipf", "-D")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			c.want("after the filter was off", "10.244.1.6", 4)
		})
	})
}

// TestRestartTakesNothingAway starts a second proxy on a host with rules.
func TestRestartTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		c.run(func() {})
		before := c.ipnat("", "-lR")
		c.start()
		c.told = nil
		c.changed() // before it has read everything
		c.run(func() {
			if o := c.outcomes(); len(o) != 1 || o[0].Added+o[0].Removed != 0 || o[0].Err != nil || o[0].Repair {
				t.Errorf("after a restart: %+v", o)
			}
		})
		if after := c.ipnat("", "-lR"); after != before {
			t.Errorf("rules after a restart:\n%s\nbefore:\n%s", after, before)
		}
	})
}

func TestWithoutAPIServerRulesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		c.run(func() {})
		down := errors.New("the server is away")
		c.client = interceptor.NewClient(c.client.(client.WithWatch), interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return down }})
		c.start()
		c.told = nil
		c.run(func() {
			if o := c.outcomes(); len(o) != 1 || !errors.Is(o[0].Err, down) {
				t.Errorf("without an API server: %+v", o)
			}
		})
		if got := c.targets(); got != "10.244.1.5" {
			t.Errorf("rules lead to %q", got)
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		if err := c.host.Fail("ipnat *", 1, "/dev/ipnat: open: No such file or directory\n"); err != nil {
			t.Fatal(err)
		}
		c.run(func() {
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if n := len(c.outcomes()); n < 3 || n > 5 || !errors.Is(c.outcomes()[n-1].Err, ipnat.ErrNoDevice) {
				t.Errorf("%d tries in 20 s: %+v", n, c.outcomes())
			}
			c.host.ClearFaults()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := c.targets(); got != "10.244.1.5" {
				t.Errorf("rules lead to %q", got)
			}
		})
	})
}

func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "sctp", Protocol: corev1.ProtocolSCTP, Port: 9})
		}), newSlice("web-1", "10.244.1.5"))
		c.run(func() {
			c.endpoints("10.244.1.6")
			synctest.Wait()
			if len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "UnsupportedProtocol") {
				t.Errorf("warnings %q, want one", c.warnings)
			}
		})
	})
}

// TestLatencies measures from the change that an EndpointSlice tells of to the
// rules that follow from it, once.
func TestLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, newService(), newSlice("web-1", "10.244.1.5"))
		c.run(func() {
			time.Sleep(5 * time.Second)
			for _, at := range []time.Time{time.Now().Add(-2 * time.Second), time.Now().Add(-time.Hour)} {
				s := newSlice("web-1")
				if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
					t.Fatal(err)
				}
				s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
				s.Endpoints = newSlice("web-1", "10.244.1.6").Endpoints
				if err := c.client.Update(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				c.changed()
				c.changed()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			var all []time.Duration
			for _, o := range c.outcomes() {
				all = append(all, o.Latencies...)
			}
			if len(all) != 1 || all[0] != 2*time.Second {
				t.Errorf("latencies %v, want 2s alone: %+v", all, c.outcomes())
			}
		})
	})
}
