package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"

	"reddwarf.io/reddwarf/provider/objects"
)

// clients speak to the API server as this node. The lease has a connection
// budget of its own: a burst of pods must not make the node look dead.
type clients struct {
	api    kubernetes.Interface
	lease  kubernetes.Interface
	events kubernetes.Interface
}

// newClients uses a kubelet's limits: 50 requests a second, 100 at once. wrap
// may be nil.
func newClients(kubeconfig string, wrap transport.WrapperFunc) (*rest.Config, clients, error) {
	base, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, clients{}, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
	}
	base.UserAgent = "reddwarf/" + version
	// As a kubelet: objects cost both sides less in this form than as JSON.
	base.ContentType = runtime.ContentTypeProtobuf
	base.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	base.Wrap(wrap)
	var c clients
	for _, one := range []struct {
		to    *kubernetes.Interface
		qps   float32
		burst int
	}{{&c.api, 50, 100}, {&c.lease, 5, 10}, {&c.events, 50, 100}} {
		config := rest.CopyConfig(base)
		config.QPS, config.Burst = one.qps, one.burst
		config.Timeout = 0 // watches and logs last; calls set their own deadlines
		if *one.to, err = kubernetes.NewForConfig(config); err != nil {
			return nil, clients{}, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
		}
	}
	return base, c, nil
}

// watches are what the agent follows: this node and its pods, all Services
// (their addresses are in containers' environment), and the objects that pods
// refer to.
type watches struct {
	factory  informers.SharedInformerFactory // pods of this node
	services informers.SharedInformerFactory
	self     informers.SharedInformerFactory // this node
	// none is never started: virtual-kubelet wants informers of ConfigMaps and
	// Secrets, which a node may not list; with its own resolution off it never
	// reads them.
	none informers.SharedInformerFactory

	pods    coreinformers.PodInformer
	objects *objects.Cache
	tokens  *objects.Tokens
}

// newWatches starts nothing. changed is told of every object that changes.
func newWatches(api kubernetes.Interface, node string, changed func(objects.Key)) *watches {
	w := &watches{
		factory: informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithTransform(lean), informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		})),
		services: informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithTransform(lean)),
		self: informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithTransform(lean), informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", node).String()
		})),
		none:    informers.NewSharedInformerFactory(api, 0),
		objects: objects.New(api, changed),
		tokens:  objects.NewTokens(api),
	}
	w.pods = w.factory.Core().V1().Pods()
	w.pods.Informer()
	w.services.Core().V1().Services().Informer()
	w.self.Core().V1().Nodes().Informer()
	return w
}

// onPods calls f with each version of a pod that is seen.
func (w *watches) onPods(f func(*corev1.Pod)) error {
	see := func(o any) {
		if pod, ok := o.(*corev1.Pod); ok {
			f(pod)
		}
	}
	_, err := w.pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: see, UpdateFunc: func(_, now any) { see(now) },
	})
	return err
}

// labels returns the labels of the node of that name, nil while they are not
// known.
func (w *watches) labels(node string) map[string]string {
	n, err := w.self.Core().V1().Nodes().Lister().Get(node)
	if err != nil {
		return nil
	}
	return n.Labels
}

// run follows until ctx ends, and returns when every watch has ended.
func (w *watches) run(ctx context.Context) error {
	w.factory.StartWithContext(ctx)
	w.services.StartWithContext(ctx)
	w.self.StartWithContext(ctx)
	w.objects.Run(ctx)
	w.factory.Shutdown()
	w.services.Shutdown()
	w.self.Shutdown()
	return nil
}
