package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// cluster connects as the administrator, or else as this node.
func (l *leaving) cluster() (kubernetes.Interface, error) {
	kubeconfig := l.Kubeconfig
	if l.adminKubeconfig != "" {
		kubeconfig = l.adminKubeconfig
	}
	_, c, err := newClients(kubeconfig, nil)
	return c.api, err
}

// drain cordons the node and, while an agent runs that ends them, evicts its
// pods, as kubectl drain does. Pods of DaemonSets stay: they would come back.
func (l *leaving) drain(ctx context.Context, api kubernetes.Interface) error {
	_, err := api.CoreV1().Nodes().Patch(ctx, l.NodeName, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the cluster has forgotten it
	}
	if err != nil {
		return fmt.Errorf("cordon: %w", err)
	}
	l.say("node %s is cordoned", l.NodeName)
	if unlock, err := lockHost(l.RunDir); err == nil {
		unlock()
		l.say("no agent runs, so pods are not waited for")
		return nil
	}
	for asked := map[types.UID]bool{}; ; {
		left, err := l.evict(ctx, api, asked)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pods %s: %w", strings.Join(left, ", "), context.Cause(ctx))
		case <-time.After(time.Second):
		}
	}
}

// evict asks each pod once to go, again where a budget did not allow it, and
// returns those that are still there.
func (l *leaving) evict(ctx context.Context, api kubernetes.Interface, asked map[types.UID]bool) ([]string, error) {
	pods, err := api.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", l.NodeName).String()})
	if err != nil {
		return nil, err
	}
	var left []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if c := metav1.GetControllerOf(p); c != nil && c.Kind == "DaemonSet" {
			continue
		}
		left = append(left, p.Namespace+"/"+p.Name)
		if p.DeletionTimestamp != nil || asked[p.UID] {
			continue
		}
		err := api.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
		})
		switch {
		case err == nil:
			asked[p.UID] = true
			l.say("evicted pod %s/%s", p.Namespace, p.Name)
		case apierrors.IsTooManyRequests(err), apierrors.IsNotFound(err), apierrors.IsConflict(err):
		default:
			return nil, fmt.Errorf("evict pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	slices.Sort(left)
	return left, nil
}

// deregister deletes the Node and its Lease. Pods that are still bound to it
// are deleted at once: their zones are about to be removed.
func (l *leaving) deregister(ctx context.Context, api kubernetes.Interface) error {
	pods, err := api.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", l.NodeName).String()})
	if err != nil {
		return err
	}
	now := int64(0)
	for i := range pods.Items {
		p := &pods.Items[i]
		err := api.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	err = api.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(ctx, l.NodeName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("lease: %w", err)
	}
	err = api.CoreV1().Nodes().Delete(ctx, l.NodeName, metav1.DeleteOptions{})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		l.say("node %s is no longer in the cluster", l.NodeName)
		return nil
	case apierrors.IsForbidden(err) && l.adminKubeconfig == "":
		l.say("A node must not delete itself. Run\n  kubectl delete node %s", l.NodeName)
		return nil
	}
	return errors.Join(errors.New("the Node is still there"), err)
}
