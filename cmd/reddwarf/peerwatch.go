package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"reddwarf.io/reddwarf/provider/peers"
)

// askEvery is how often the API server is asked again for what it did not give.
const askEvery = 10 * time.Second

// errNotRead means that nodes have not been read yet.
var errNotRead = errors.New("the nodes have not been read yet")

// peerWatch follows all nodes of the cluster. A node's own rights do not allow
// that: the Node authorizer lets it read itself only, so an administrator has to
// grant it. Until then there is an error that says how.
type peerWatch struct {
	api     kubernetes.Interface
	changed func()

	mu     sync.Mutex
	err    error
	lister corelisters.NodeLister // once all were read
}

func newPeerWatch(api kubernetes.Interface, changed func()) *peerWatch {
	return &peerWatch{api: api, changed: changed, err: errNotRead}
}

// list returns all nodes.
func (w *peerWatch) list() ([]*corev1.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lister == nil {
		return nil, w.err
	}
	return w.lister.List(labels.Everything())
}

func (w *peerWatch) set(lister corelisters.NodeLister, err error) {
	w.mu.Lock()
	w.lister, w.err = lister, err
	w.mu.Unlock()
	w.changed()
}

// run follows until ctx ends.
func (w *peerWatch) run(ctx context.Context) error {
	// An informer that may not list would complain every few seconds.
	for {
		_, err := w.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			break
		}
		if apierrors.IsForbidden(err) {
			w.set(nil, fmt.Errorf("other nodes cannot be read, so their pods are not reached from here: grant it with `kubectl create clusterrole reddwarf:peers --verb=get,list,watch --resource=nodes` "+
				"and `kubectl create clusterrolebinding reddwarf:peers --clusterrole=reddwarf:peers --group=system:nodes`, or set --node-routes=false: %w", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(askEvery):
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(w.api, 0, informers.WithTransform(func(o any) (any, error) {
		if n, ok := o.(*corev1.Node); ok {
			peers.Lean(n)
		}
		return o, nil
	}))
	nodes := factory.Core().V1().Nodes()
	informer := nodes.Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.changed() },
		UpdateFunc: func(before, now any) { w.updated(before, now) },
		DeleteFunc: func(any) { w.changed() },
	})
	if err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	w.set(nodes.Lister(), nil)
	<-ctx.Done()
	return ctx.Err()
}

// updated passes on what changes routes; a node is written every few seconds
// for other reasons.
func (w *peerWatch) updated(before, now any) {
	a, okA := before.(*corev1.Node)
	b, okB := now.(*corev1.Node)
	if okA && okB && peers.Same(a, b) {
		return
	}
	w.changed()
}
