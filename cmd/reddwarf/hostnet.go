package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/provider/peers"
)

// lookEvery is how often the host's network is looked at unasked.
const lookEvery = 30 * time.Second

// The reasons of events on the Node, beside those of package peers.
const (
	reasonNetwork    = "NetworkNotReady"
	reasonTranslator = "EgressNotReady"
	reasonRoute      = "RouteFailed"
	reasonForbidden  = "NodesForbidden"
)

// hostNetwork keeps the host's part of the pod network as it should be: links
// and addresses, forwarding, routes to other nodes, and the translation of what
// leaves the cluster. It looks at everything from time to time, and at once when
// nodes change or a link could not be made.
type hostNetwork struct {
	links  *network.Host
	nat    *network.NAT
	filter *ipnat.Loader

	self       peers.Self
	nodeIPs    []netip.Addr
	gateways   []netip.Prefix
	masquerade bool

	peers  *peerWatch    // nil where others see to routes
	wake   chan struct{} // capacity 1
	events record.EventRecorder
	log    *logrus.Entry
	said   []peers.Problem // what is wrong and was told
}

// poke makes it look soon.
func (n *hostNetwork) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// start makes the links, however long it takes: without them no pod can run.
func (n *hostNetwork) start(ctx context.Context) error {
	for {
		_, problems, err := n.setup(ctx)
		if n.tell(problem(problems, reasonNetwork, err)); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// run keeps everything as it should be until ctx ends.
func (n *hostNetwork) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for all := true; ; {
		problems := n.look(ctx, all)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.tell(problems)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.wake:
			all = false
		case <-tick.C:
			all = true
		}
	}
}

// look makes everything so, and returns what it could not. Unless all is set,
// routes that were made are taken to be there.
func (n *hostNetwork) look(ctx context.Context, all bool) []peers.Problem {
	plan, problems, err := n.setup(ctx)
	problems = problem(problems, reasonNetwork, err)
	if n.peers == nil {
		return problem(problems, reasonTranslator, n.translate(ctx, plan, nil, nil))
	}
	nodes, err := n.peers.list()
	if errors.Is(err, errNotRead) {
		return problems // what an earlier agent made stays until then
	}
	problems = problem(problems, reasonForbidden, err)
	routes, refused := peers.Routes(nodes, n.self)
	problems = append(problems, refused...)
	if err == nil && plan.Uplink != "" {
		problems = problem(problems, reasonRoute, n.links.SyncRoutes(ctx, routes, all))
	}
	return problem(problems, reasonTranslator, n.translate(ctx, plan, nodes, routes))
}

// setup makes links, addresses and forwarding. It finds the uplink anew each
// time: its address may come from DHCP. Pods can run without one.
func (n *hostNetwork) setup(ctx context.Context) (network.Plan, []peers.Problem, error) {
	plan := network.Plan{Gateways: n.gateways}
	var problems []peers.Problem
	uplink, err := n.links.Uplink(ctx, n.nodeIPs...)
	switch {
	case err == nil:
		plan.Uplink, plan.MTU, n.self.Uplink = uplink.Interface, uplink.MTU, uplink.Address
	case errors.Is(err, network.ErrNotFound):
		n.self.Uplink = netip.Prefix{}
		problems = problem(nil, reasonNetwork, fmt.Errorf("pods reach nothing but this host, because it has no way out: %w", err))
	default:
		return plan, nil, err
	}
	return plan, problems, n.links.Setup(ctx, plan)
}

// translate makes the rules for what leaves the cluster, and those of host
// ports.
func (n *hostNetwork) translate(ctx context.Context, plan network.Plan, nodes []*corev1.Node, routes []network.Route) error {
	var egress *network.Egress
	i := slices.IndexFunc(n.gateways, func(p netip.Prefix) bool { return p.Addr().Is4() })
	if n.masquerade && i >= 0 && plan.Uplink != "" {
		cluster, err := peers.Cluster(nodes, n.self, routes)
		if err != nil {
			return err
		}
		egress = &network.Egress{Uplink: plan.Uplink, Address: n.self.Uplink.Addr(), Pods: n.gateways[i].Masked(), Cluster: cluster}
	}
	n.nat.Plan(plan, egress)
	if egress != nil || n.nat.InUse() {
		if err := n.filter.Enable(ctx); err != nil {
			return err
		}
	}
	return n.nat.Sync(ctx)
}

// problem adds what is wrong, where something is. Errors that were joined are
// told one by one.
func problem(list []peers.Problem, reason string, err error) []peers.Problem {
	if err == nil {
		return list
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only what is joined here, nothing deeper
		for _, e := range several.Unwrap() {
			list = problem(list, reason, e)
		}
		return list
	}
	return append(slices.Clip(list), peers.Problem{Reason: reason, Message: err.Error()})
}

// tell says what is newly wrong, as an event of the Node, and what is over.
func (n *hostNetwork) tell(now []peers.Problem) {
	ref := nodeReference(n.self.Name)
	for _, p := range now {
		if !slices.Contains(n.said, p) {
			n.log.Warnf("%s: %s", p.Reason, p.Message)
			n.events.Eventf(ref, corev1.EventTypeWarning, p.Reason, "%s", p.Message)
		}
	}
	for _, p := range n.said {
		if !slices.Contains(now, p) {
			n.log.Infof("no longer: %s: %s", p.Reason, p.Message)
		}
	}
	n.said = now
}

// mendingLinks makes the host's network be looked at when a link of a pod
// cannot be made: the etherstub may be gone.
type mendingLinks struct {
	*network.Host
	n *hostNetwork
}

// EnsureVNIC makes a VNIC.
func (m mendingLinks) EnsureVNIC(ctx context.Context, v network.VNIC) error {
	err := m.Host.EnsureVNIC(ctx, v)
	if err != nil {
		m.n.poke()
	}
	return err
}
