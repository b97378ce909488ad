package provider

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// CreatePod accepts a pod: its worker is started, and everything else happens
// later (see save for when it is recorded). A pod that this node cannot run is accepted too and
// fails with a reason. There is no error: virtual-kubelet would give up after
// twenty of them, and fail the pod at once if it never restarts.
func (p *Provider) CreatePod(ctx context.Context, pod *corev1.Pod) error {
	uid := string(pod.UID)
	p.mu.Lock()
	known, unreadable := p.workers[uid], p.corrupt[uid]
	p.mu.Unlock()
	switch {
	case known != nil:
		return known.update(pod)
	case unreadable:
		p.c.Events.Eventf(pod, corev1.EventTypeWarning, "LedgerUnreadable",
			"The node's record of this pod cannot be read; its zone, if it has one, is left alone until the pod is deleted")
		return nil
	}
	p.supersede(pod)
	// While the domain is not known, names are no longer than they will be.
	node, _ := p.withDomain(ctx, p.labelled()) //nolint:errcheck // it is asked for again when it is needed
	// Two pods that come at once must not both be given what is left.
	p.admission.Lock()
	defer p.admission.Unlock()
	st, outside := p.accept(pod, node)
	w := newWorker(p, pod.DeepCopy(), st)
	w.outside = outside
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.workers[uid]; ok {
		return nil // the same call twice at once
	}
	p.workers[uid] = w
	if p.start != nil {
		p.start(w)
	}
	return nil
}

// accept is the first record of a pod: its containers, or why it is refused. It
// reports whether others have to make room before the pod is let in.
func (p *Provider) accept(pod *corev1.Pod, node translate.Node) (st ledger.State, outside bool) {
	now := time.Now()
	st = ledger.State{Version: ledger.Version, UID: string(pod.UID), Accepted: now}
	if t := pod.Status.StartTime; t != nil && !t.IsZero() {
		st.Accepted = t.Time // of an agent whose record was lost
	}
	for _, c := range translate.EveryContainer(pod) {
		st.Containers = append(st.Containers, ledger.Container{Name: c.Name, Phase: podinit.Waiting})
	}
	why, outside := p.admit(pod, node)
	if why != nil {
		st.End = refusal(why, now)
	}
	return st, outside
}

// labelled is the node with the labels that it has by now.
func (p *Provider) labelled() translate.Node {
	node := p.c.Node
	if p.c.NodeLabels != nil {
		node.Labels = p.c.NodeLabels()
	}
	return node
}

// withDomain is the node with the cluster's domain.
func (p *Provider) withDomain(ctx context.Context, node translate.Node) (translate.Node, error) {
	if node.ClusterDomain != "" || p.c.ClusterDomain == nil {
		return node, nil
	}
	domain, err := p.c.ClusterDomain(ctx)
	if err != nil {
		return node, fmt.Errorf("the cluster's DNS domain: %w", err)
	}
	node.ClusterDomain = domain
	return node, nil
}

// portsTaken refuses a pod whose host ports another one has. The scheduler sees
// to that; a pod that was placed by its nodeName alone has not passed it.
func (p *Provider) portsTaken(pod *corev1.Pod) *translate.Refusal {
	for _, w := range p.all() {
		w.mu.Lock()
		other, over := w.pod, w.st.End != nil || w.st.Released
		w.mu.Unlock()
		if !over && translate.PortsOverlap(pod, other) {
			return &translate.Refusal{Reason: translate.ReasonNodePorts,
				Message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
		}
	}
	return nil
}

// supersede removes pods that had the name before: the API server gives a name
// to one pod at a time, so theirs are gone from it.
func (p *Provider) supersede(pod *corev1.Pod) {
	for _, w := range p.all() {
		if w.namespace == pod.Namespace && w.name == pod.Name && w.uid != string(pod.UID) {
			w.requestDeletion(grace(w.object()))
		}
	}
}

// UpdatePod takes over a newer version of a pod.
func (p *Provider) UpdatePod(ctx context.Context, pod *corev1.Pod) error {
	if w := p.worker(string(pod.UID)); w != nil {
		return w.update(pod)
	}
	return p.CreatePod(ctx, pod) // another pod has this name now
}

// PodSeen takes over what virtual-kubelet passes over when it compares a pod with
// the one it had: the resources of the whole pod, which could not be changed when
// it was written. All else of a pod, and pods that are not known yet, are left to
// the library.
func (p *Provider) PodSeen(pod *corev1.Pod) {
	w := p.worker(string(pod.UID))
	if w == nil || equality.Semantic.DeepEqual(w.object().Spec.Resources, pod.Spec.Resources) {
		return
	}
	if err := w.update(pod); err != nil {
		p.c.Log.Errorf("pod %s/%s: its new resources are not on disk: %v", pod.Namespace, pod.Name, err)
	}
}

// DeletePod asks for the pod's end and returns; the object leaves the API
// server when the zone is gone. A pod without deletion timestamp is one that
// the caller could not find any more, which is checked with the API server
// itself before anything is destroyed.
func (p *Provider) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	w := p.worker(string(pod.UID))
	if w == nil {
		return errNoPod(pod.Namespace, pod.Name)
	}
	if pod.DeletionTimestamp == nil {
		gone, err := p.vanished(ctx, pod)
		if err != nil {
			return fmt.Errorf("provider: pod %s/%s is kept, because the API server cannot say whether it is gone: %w", pod.Namespace, pod.Name, err)
		}
		if !gone {
			return fmt.Errorf("provider: pod %s/%s is kept, because the API server still has it", pod.Namespace, pod.Name)
		}
		w.requestDeletion(0) // nobody waits for a pod whose object was removed by force
		return nil
	}
	w.requestDeletion(deletionGrace(pod))
	return nil
}

// vanished asks the API server itself whether a pod is gone.
func (p *Provider) vanished(ctx context.Context, pod *corev1.Pod) (bool, error) {
	live, err := p.fetch(ctx, pod.Namespace, pod.Name)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, err
	}
	return live.UID != pod.UID, nil
}

func deletionGrace(pod *corev1.Pod) time.Duration {
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return grace(pod)
}

// GetPod returns the pod of that name with its present status. A pod that is
// being removed, or whose name belongs to another pod by now, is not found:
// virtual-kubelet asks by name, and would take it for the new one.
func (p *Provider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	w := p.named(namespace, name)
	if w == nil || w.deleting() {
		return nil, errNoPod(namespace, name)
	}
	if current, err := p.c.Lister.Pod(namespace, name); err == nil && string(current.UID) != w.uid {
		return nil, errNoPod(namespace, name)
	}
	return w.withStatus(), nil
}

// GetPodStatus returns the present status of the pod of that name.
func (p *Provider) GetPodStatus(_ context.Context, namespace, name string) (*corev1.PodStatus, error) {
	w := p.named(namespace, name)
	if w == nil {
		return nil, errNoPod(namespace, name)
	}
	return &w.withStatus().Status, nil
}

// GetPods returns all pods that are not being removed.
func (p *Provider) GetPods(context.Context) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	for _, w := range p.all() {
		if !w.deleting() {
			pods = append(pods, w.withStatus())
		}
	}
	return pods, nil
}

// Pods returns all pods that this node has anything of, for the kubelet API.
func (p *Provider) Pods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, w := range p.all() {
		pods = append(pods, w.withStatus())
	}
	return pods
}

// NotifyPods implements virtual-kubelet's PodNotifier. The function is not
// used: statuses are written by the provider's own publisher, because the
// library addresses pods by name, overwrites the conditions of others, and
// stops after twenty failures. Having the method keeps the library from
// polling.
func (p *Provider) NotifyPods(context.Context, func(*corev1.Pod)) {}
