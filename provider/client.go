package provider

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// PodsGetter returns the client that virtual-kubelet's pod controller must be
// given. Removals and statuses that the library wants to write are taken over
// by the provider: the library removes a pod's object when its grace period is
// over, or at once if no container seems to run, whatever is left on the host.
func (p *Provider) PodsGetter() corev1client.PodsGetter { return podsGetter{p} }

type podsGetter struct{ p *Provider }

// Pods implements corev1client.PodsGetter.
func (g podsGetter) Pods(namespace string) corev1client.PodInterface {
	return podClient{g.p.c.Pods.Pods(namespace), g.p}
}

type podClient struct {
	corev1client.PodInterface
	p *Provider
}

// Delete holds a removal without grace back until the pod has left the host:
// the pod's worker removes the object then. Pods that the provider does not
// know are removed as asked.
func (c podClient) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	w := c.p.held(options)
	if w == nil || w.name != name {
		return c.PodInterface.Delete(ctx, name, options)
	}
	if w.deleting() {
		return nil
	}
	pod, err := c.PodInterface.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err // the library tries again
	}
	if string(pod.UID) != w.uid {
		pod = w.object()
	}
	w.requestDeletion(deletionGrace(pod))
	return nil
}

// held returns the worker whose pod the options would remove at once.
func (p *Provider) held(o metav1.DeleteOptions) *worker {
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds != 0 || o.Preconditions == nil || o.Preconditions.UID == nil {
		return nil
	}
	return p.worker(string(*o.Preconditions.UID))
}

// UpdateStatus writes nothing for pods that the provider knows: their status
// is the publisher's, which merges what others wrote instead of overwriting
// it. For others, the library's own word (that the provider failed) is all
// there is; it is bound to the pod's UID by the API server.
func (c podClient) UpdateStatus(ctx context.Context, pod *corev1.Pod, options metav1.UpdateOptions) (*corev1.Pod, error) {
	if c.p.worker(string(pod.UID)) != nil {
		c.p.status.enqueue(string(pod.UID))
		return pod, nil
	}
	return c.PodInterface.UpdateStatus(ctx, pod, options)
}
