// Package objects reads the ConfigMaps and Secrets that the pods of this node
// refer to, and no others. Each is watched by its own name, because that is
// all that the Node authorizer allows: a node cannot list the secrets of a
// cluster.
package objects

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Kind is a kind of object that pods refer to.
type Kind string

// The kinds.
const (
	ConfigMap Kind = "configmaps"
	Secret    Kind = "secrets"
)

// Key names one object.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// readTimeout bounds a read that goes to the API server because no watch has
// the object yet.
const readTimeout = 10 * time.Second

// Cache holds the objects that registered pods refer to. Its methods may be
// called from any goroutine.
type Cache struct {
	client  kubernetes.Interface
	changed func(Key)

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	entries map[Key]*entry
	pods    map[types.UID][]Key
	wg      sync.WaitGroup
}

type entry struct {
	users    int
	informer cache.SharedIndexInformer
	stop     context.CancelFunc // nil until Run
}

// New returns a Cache that calls changed, which must not block, whenever a
// watched object was added, updated or deleted. changed may be nil.
func New(client kubernetes.Interface, changed func(Key)) *Cache {
	if changed == nil {
		changed = func(Key) {}
	}
	return &Cache{client: client, changed: changed, entries: map[Key]*entry{}, pods: map[types.UID][]Key{}}
}

// Run watches until ctx ends, and returns when every watch has ended.
func (c *Cache) Run(ctx context.Context) {
	c.mu.Lock()
	c.ctx = ctx
	for _, e := range c.entries {
		c.startLocked(e)
	}
	c.mu.Unlock()

	<-ctx.Done()
	c.mu.Lock()
	c.ctx = nil
	c.mu.Unlock()
	c.wg.Wait()
}

// Register watches what pod refers to until Unregister. Registering a pod
// again takes its references anew.
func (c *Cache) Register(pod *corev1.Pod) {
	keys := References(pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.pods[pod.UID]
	c.pods[pod.UID] = keys
	for _, k := range keys {
		c.acquireLocked(k)
	}
	for _, k := range before {
		c.releaseLocked(k)
	}
}

// Unregister ends the watches that only this pod needed.
func (c *Cache) Unregister(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.pods[uid] {
		c.releaseLocked(k)
	}
	delete(c.pods, uid)
}

// ConfigMap returns a ConfigMap, which the caller must not change. The error
// is the API server's: not found, or forbidden where no pod of this node
// refers to the object.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return read(ctx, c, Key{ConfigMap, namespace, name}, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return c.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// Secret returns a Secret, as ConfigMap does.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return read(ctx, c, Key{Secret, namespace, name}, func(ctx context.Context) (*corev1.Secret, error) {
		return c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// read takes the object from its watch, or from the API server while there is
// no watch that has caught up.
func read[T any](ctx context.Context, c *Cache, k Key, get func(context.Context) (T, error)) (T, error) {
	var zero T
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil || !e.informer.HasSynced() {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		return get(ctx)
	}
	o, ok, err := e.informer.GetStore().GetByKey(k.Namespace + "/" + k.Name)
	if err != nil {
		return zero, fmt.Errorf("objects: read %s %s/%s: %w", k.Kind, k.Namespace, k.Name, err)
	}
	if !ok {
		return zero, apierrors.NewNotFound(corev1.Resource(strings.TrimSuffix(string(k.Kind), "s")), k.Name)
	}
	typed, ok := o.(T)
	if !ok {
		return zero, fmt.Errorf("objects: the watch of %s %s/%s holds a %T", k.Kind, k.Namespace, k.Name, o)
	}
	return typed, nil
}

func (c *Cache) acquireLocked(k Key) {
	e := c.entries[k]
	if e == nil {
		e = &entry{informer: c.informer(k)}
		c.entries[k] = e
		if c.ctx != nil {
			c.startLocked(e)
		}
	}
	e.users++
}

func (c *Cache) releaseLocked(k Key) {
	e := c.entries[k]
	if e == nil {
		return
	}
	if e.users--; e.users > 0 {
		return
	}
	if e.stop != nil {
		e.stop()
	}
	delete(c.entries, k)
}

func (c *Cache) startLocked(e *entry) {
	ctx, stop := context.WithCancel(c.ctx)
	e.stop = stop
	c.wg.Go(func() { e.informer.RunWithContext(ctx) })
}

// informer watches one object by its name.
func (c *Cache) informer(k Key) cache.SharedIndexInformer {
	byName := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.Name).String()
	}
	var i cache.SharedIndexInformer
	if k.Kind == Secret {
		i = coreinformers.NewFilteredSecretInformer(c.client, k.Namespace, 0, cache.Indexers{}, byName)
	} else {
		i = coreinformers.NewFilteredConfigMapInformer(c.client, k.Namespace, 0, cache.Indexers{}, byName)
	}
	notify := func(o any) {
		if immutable(o) {
			c.settle(k)
		}
		c.changed(k)
	}
	i.AddEventHandler(cache.ResourceEventHandlerFuncs{ //nolint:errcheck // fails only for an informer that has stopped
		AddFunc:    notify,
		UpdateFunc: func(before, after any) { notify(after) },
		DeleteFunc: notify,
	})
	return i
}

// immutable reports whether o will never change. It can still be deleted, which
// pods that show it do not hear of, as on a kubelet.
func immutable(o any) bool {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	case *corev1.Secret:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}

// settle ends the watch of an object that will not change and keeps what it
// has seen, for as long as a pod refers to it.
func (c *Cache) settle(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[k]; e != nil && e.stop != nil {
		e.stop()
	}
}

// Claim gets a claim of a pod of this node.
func (c *Cache) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
}

// PersistentVolume gets a volume that is bound to such a claim.
func (c *Cache) PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
}
