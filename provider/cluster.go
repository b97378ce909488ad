package provider

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/core/v1"

	"reddwarf.io/reddwarf/provider/objects"
)

// NewCluster returns the Cluster that reads ConfigMaps and Secrets by their
// names, and Services from an informer's cache.
// Until that has synced, there is an error instead of too few.
func NewCluster(cache *objects.Cache, tokens *objects.Tokens, services listers.ServiceLister, synced func() bool) Cluster {
	return cluster{cache, tokens, services, synced}
}

type cluster struct {
	*objects.Cache
	*objects.Tokens
	services listers.ServiceLister
	synced   func() bool
}

// Services implements Cluster.
func (c cluster) Services(namespace string) ([]*corev1.Service, error) {
	if !c.synced() {
		return nil, errors.New("services have not yet been read at least once")
	}
	return c.services.Services(namespace).List(labels.Everything())
}

// Unregister implements Cluster.
func (c cluster) Unregister(uid types.UID) {
	c.Cache.Unregister(uid)
	c.Tokens.Forget(uid)
}

// ObjectChanged makes the pods of a namespace look at their volumes again. It
// does not block, so that it can be given to objects.New.
func (p *Provider) ObjectChanged(key objects.Key) {
	for _, w := range p.all() {
		if w.namespace != key.Namespace {
			continue
		}
		w.mu.Lock()
		w.stale = true
		w.mu.Unlock()
		w.poke()
	}
}

// NewPodLister returns the PodLister over the cache of an informer that holds
// the pods of this node.
func NewPodLister(pods listers.PodLister, synced func() bool) PodLister {
	return podLister{pods, synced}
}

type podLister struct {
	pods   listers.PodLister
	synced func() bool
}

// Pod implements PodLister.
func (l podLister) Pod(namespace, name string) (*corev1.Pod, error) {
	return l.pods.Pods(namespace).Get(name)
}

// Has implements PodLister.
func (l podLister) Has(uid string) bool {
	all, err := l.pods.List(labels.Everything())
	if err != nil {
		return true // not known to be gone
	}
	for _, p := range all {
		if string(p.UID) == uid {
			return true
		}
	}
	return false
}

// Synced implements PodLister.
func (l podLister) Synced() bool { return l.synced() }
