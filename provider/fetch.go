package provider

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// fetch asks the API server itself for a pod of this node. A pod that is gone,
// or runs elsewhere by now, is an API NotFound error.
//
// It lists by name and node instead of getting: the Node authorizer answers a
// get of a pod that it does not know with Forbidden, which says nothing of
// whether the pod exists.
func (p *Provider) fetch(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	list, err := p.c.Pods.Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.AndSelectors(
		fields.OneTermEqualSelector("metadata.name", name),
		fields.OneTermEqualSelector("spec.nodeName", p.c.Node.Name),
	).String()})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return &list.Items[0], nil
}
