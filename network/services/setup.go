package services

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// sliceIndex finds the EndpointSlices of a Service.
const sliceIndex = "service"

// IndexSlice returns the values of an EndpointSlice in the index that
// [Config.Client] has.
func IndexSlice(o client.Object) []string {
	if name := serviceOf(o); name != "" {
		return []string{name}
	}
	return nil
}

// patience is how long controllers wait for the API server. A proxy without
// one leaves all rules as they are, so it has all the time.
const patience = 365 * 24 * time.Hour

// SetupWithManager has mgr watch Services, EndpointSlices and the node for p,
// and run it. Where s names no networks of Services the cluster's ServiceCIDRs
// are watched, too. Every node has its own proxy, so it needs no leader.
func (p *Proxy) SetupWithManager(mgr manager.Manager, node string, s Settings) error {
	// Not here: the manager does not start, and under a signal not end, before
	// the informers that it has by then have heard from the API server.
	p.prepare = func(ctx context.Context) error {
		return mgr.GetFieldIndexer().IndexField(ctx, &discoveryv1.EndpointSlice{}, sliceIndex, IndexSlice)
	}
	// Their names are for metrics that nobody sees, and tests start programs twice.
	o := controller.Options{CacheSyncTimeout: patience, SkipNameValidation: new(true)}
	err := builder.ControllerManagedBy(mgr).
		Named("services").
		For(&corev1.Service{}).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(ownerOf)).
		WithOptions(o).
		Complete(p)
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	w := &nodeWatcher{proxy: p, client: mgr.GetClient(), node: node, settings: s, discover: len(s.Services) == 0}
	b := builder.ControllerManagedBy(mgr).Named("node").For(&corev1.Node{}).WithOptions(o)
	if w.discover {
		b = b.Watches(&networkingv1.ServiceCIDR{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: node}}}
		}))
	}
	if err := errors.Join(b.Complete(w), mgr.Add(p)); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (p *Proxy) NeedLeaderElection() bool { return false }

// ownerOf returns the Service of an EndpointSlice.
func ownerOf(_ context.Context, slice client.Object) []reconcile.Request {
	name := serviceOf(slice)
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: slice.GetNamespace(), Name: name}}}
}

// nodeWatcher tells a Proxy of its node.
type nodeWatcher struct {
	proxy    *Proxy
	client   client.Reader
	node     string
	discover bool

	mu       sync.Mutex
	settings Settings
}

// Reconcile implements reconcile.Reconciler. A node that is deleted keeps its
// rules: its pods may still be there.
func (w *nodeWatcher) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req.Name != w.node {
		return reconcile.Result{}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.settings
	if w.discover {
		var list networkingv1.ServiceCIDRList
		if err := w.client.List(ctx, &list); err != nil {
			return reconcile.Result{}, fmt.Errorf("services: networks of cluster addresses: %w", err)
		}
		s.Services = serviceNetworks(list.Items)
	}
	var node corev1.Node
	if err := w.client.Get(ctx, req.NamespacedName, &node); apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("services: node %s: %w", w.node, err)
	}
	n, err := TranslateNode(&node, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, w.proxy.SetNode(n)
}

// serviceNetworks returns the networks of ServiceCIDRs. One that is being
// deleted counts until it is gone: it may still have Services.
func serviceNetworks(all []networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range all {
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}
