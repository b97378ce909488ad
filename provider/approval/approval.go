// Package approval approves the serving certificates that our nodes ask for.
//
// The API server talks to a kubelet's port over TLS, and Kubernetes leaves it to
// somebody else to say which node may have a certificate for which address.
// Clusters whose administrators approve by hand (kubectl certificate approve),
// or have an approver for all nodes, do not need this one.
//
// Its surprising rule: it never denies. A request that it does not approve may
// be for another approver, or for a human.
package approval

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Logger takes what an operator should read.
type Logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// Config is what an approver is made of. All but Allowed is required.
type Config struct {
	Requests certificatesclient.CertificateSigningRequestInterface
	Nodes    corev1client.NodeInterface
	Allowed  []netip.Prefix // networks of the nodes' addresses; none means any
	Log      Logger
}

// again is how often requests that were not approved are looked at anew: the
// node may have changed.
const again = 30 * time.Second

// Run approves what may be approved until ctx ends.
func Run(ctx context.Context, c Config) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	defer queue.ShutDown()
	serving := fields.OneTermEqualSelector("spec.signerName", certificatesv1.KubeletServingSignerName).String()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = serving
			return c.Requests.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = serving
			return c.Requests.Watch(ctx, o)
		},
	}
	informer := cache.NewSharedInformer(source, &certificatesv1.CertificateSigningRequest{}, again)
	enqueue := func(object any) {
		if r, ok := object.(*certificatesv1.CertificateSigningRequest); ok && undecided(r) {
			queue.Add(r.Name)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, object any) { enqueue(object) },
	}); err != nil {
		return fmt.Errorf("approval: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx)
		queue.ShutDown()
	}()
	defer func() { <-ended }()
	for {
		name, quit := queue.Get()
		if quit {
			return nil
		}
		err := c.decide(ctx, name)
		queue.Done(name)
		switch {
		case err == nil:
			queue.Forget(name)
		case ctx.Err() == nil:
			c.Log.Warnf("request %s: %v; trying again", name, err)
			queue.AddRateLimited(name)
		}
	}
}

// undecided reports whether nobody has approved or denied r.
func undecided(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Conditions) == 0 && len(r.Status.Certificate) == 0
}

// decide approves one request if it may be. It asks the API server, not a
// cache: what a node is must be known as it is now.
func (c Config) decide(ctx context.Context, name string) error {
	r, err := c.Requests.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !undecided(r) {
		return nil
	}
	nodes, err := c.Nodes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if why := Judge(r, nodes.Items, c.Allowed); why != nil {
		c.Log.Infof("request %s of %s is left to others: %v", name, r.Spec.Username, why)
		return nil
	}
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "ReddwarfNode", Message: "the serving certificate of a node of ours, for its own addresses",
	})
	if _, err := c.Requests.UpdateApproval(ctx, name, r, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	c.Log.Infof("request %s of %s is approved", name, r.Spec.Username)
	return nil
}
