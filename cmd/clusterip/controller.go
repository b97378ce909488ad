package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

// controller is the program. run builds each part and passes it on.
type controller struct {
	config
	log  *slog.Logger
	host command.Host

	metrics *metrics
	health  *health
	events  events.EventRecorder
	advice  []string // what the operator was told last; of the proxy's goroutine
}

func (c *controller) run(ctx context.Context) error {
	config, err := c.rest()
	if err != nil {
		return err
	}
	config.UserAgent = "reddwarf-clusterip/" + version
	config.ContentType = runtime.ContentTypeProtobuf
	if err := c.findUplink(ctx); err != nil {
		return err
	}
	mgr, err := manager.New(config, manager.Options{
		Logger:         logr.FromSlogHandler(c.log.Handler()),
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper(), nil },
		Cache:          services.Cache(c.NodeName),
		Metrics:        metricsserver.Options{BindAddress: "0"}, // our own page has what matters
	})
	if err != nil {
		return err
	}
	c.metrics, c.health = newMetrics(), &health{late: max(4*c.Period, 5*time.Minute)}
	c.events = mgr.GetEventRecorder("clusterip")
	proxy := services.New(services.Config{Client: mgr.GetClient(), Loader: ipnat.NewLoader(c.host), Delay: c.Delay, Period: c.Period, Warn: c.warn, Done: c.done})
	if err := proxy.SetupWithManager(mgr, c.NodeName, c.settings()); err != nil {
		return err
	}
	if c.Listen != "" {
		err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return serve(ctx, c.Listen, c.metrics, c.health) }))
		if err != nil {
			return err
		}
	}
	c.log.Info("starting", "node", c.NodeName, "gateway", c.Gateway, "uplink", c.Uplink, "listen", c.Listen)
	err = mgr.Start(ctx)
	if err == nil && c.DaemonSet != "" {
		// ctx has ended: that is why the controller does.
		err = c.leave(context.WithoutCancel(ctx), config, proxy)
	}
	return err
}

// findUplink fills in the interface of the default route. A host without one
// serves its own pods only.
func (c *controller) findUplink(ctx context.Context) error {
	if c.Uplink != "" {
		return nil
	}
	u, err := network.New(c.host, network.Config{Gateway: c.Gateway}).Uplink(ctx)
	if err != nil {
		if c.Egress {
			return fmt.Errorf("--egress needs an uplink: %w", err)
		}
		c.log.Warn("no uplink: NodePorts, external and load balancers' addresses are for this host's pods only; set --uplink", "error", err)
		return nil
	}
	c.Uplink = u.Interface
	return nil
}

// mapper knows the kinds that are read here, so that no API server has to be
// asked what it has: the controller also starts without one.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion})
	m.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	m.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"), meta.RESTScopeRoot)
	return m
}

// warn tells a Service's owner what this host cannot do for it.
func (c *controller) warn(svc *corev1.Service, p ipnat.Problem) {
	c.metrics.problems.WithLabelValues(p.Reason).Inc()
	c.log.Warn("a service wants what this host cannot do", "service", p.Service, "reason", p.Reason, "message", p.Message)
	// What the cache holds has lost its kind.
	c.event(&corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID, ResourceVersion: svc.ResourceVersion},
		p.Reason, "node "+c.NodeName+": "+p.Message)
}

func (c *controller) event(about runtime.Object, reason, message string) {
	c.events.Eventf(about, nil, corev1.EventTypeWarning, reason, "ProgramRules", "%s", message)
}

// done takes the outcome of each change of rules.
func (c *controller) done(o services.Outcome) {
	c.metrics.observe(o)
	c.health.observe(o.Err)
	switch {
	case o.Err != nil:
		c.log.Error("rules could not be changed; trying again", "full", o.Full, "error", o.Err)
	case o.Repair:
		c.log.Warn("rules were not as they were left, and are repaired", "added", o.Added, "removed", o.Removed, "rules", o.Rules)
	case o.Added+o.Removed > 0:
		c.log.Info("rules changed", "added", o.Added, "removed", o.Removed, "rules", o.Rules, "full", o.Full, "took", o.Took)
	}
	if o.Err == nil && o.Full {
		c.advise(o.Tables.Advice)
	}
	if o.Full {
		// Reading all rules has left as much garbage as they are long, and the
		// host's memory is the pods'.
		debug.FreeOSMemory()
	}
}

// advise tells the operator what only he may do, once for each advice.
func (c *controller) advise(advice []string) {
	for _, a := range advice {
		if !slices.Contains(c.advice, a) {
			c.log.Warn("a table of the kernel is too small", "advice", a)
			c.event(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: c.NodeName, UID: ""}, "PacketFilterTableTooSmall", a)
		}
	}
	c.advice = advice
}
