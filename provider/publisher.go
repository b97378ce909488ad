package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/util/workqueue"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
)

// publisher writes the pods' statuses to the API server, by UID, as patches of
// what is ours, and for as long as it takes.
type publisher struct {
	p     *Provider
	queue workqueue.TypedRateLimitingInterface[string]

	mu   sync.Mutex
	sent map[string]*corev1.Pod // newest answer of the API server, by UID; of pods that have a worker
}

const (
	publishers    = 4
	publishEvery  = 30 * time.Second // to notice what others wrote over
	publishTime   = 10 * time.Second // for one request
	lateStatus    = time.Second
	firstRepeat   = 50 * time.Millisecond
	longestRepeat = 30 * time.Second
)

func newPublisher(p *Provider) *publisher {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRepeat, longestRepeat)
	return &publisher{p: p, queue: workqueue.NewTypedRateLimitingQueue(limiter), sent: map[string]*corev1.Pod{}}
}

// enqueue makes the status of a pod be looked at soon.
func (b *publisher) enqueue(uid string) { b.queue.Add(uid) }

// enqueueLate does so unless something new is to be told within a moment: a
// status on its way to the API server holds the next one of its pod back.
func (b *publisher) enqueueLate(uid string) { b.queue.AddAfter(uid, lateStatus) }

// run publishes until ctx ends.
func (b *publisher) run(ctx context.Context) {
	var group sync.WaitGroup
	for range publishers {
		group.Go(func() {
			for b.one(ctx) {
			}
		})
	}
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			for _, w := range b.p.all() {
				b.enqueue(w.uid)
			}
		}
	}
	b.queue.ShutDown()
	group.Wait()
}

func (b *publisher) one(ctx context.Context) bool {
	uid, shutdown := b.queue.Get()
	if shutdown {
		return false
	}
	defer b.queue.Done(uid)
	w := b.p.worker(uid)
	if w == nil {
		b.queue.Forget(uid)
		return true
	}
	if err := b.publish(ctx, w); err != nil {
		if ctx.Err() == nil {
			b.p.c.Log.Warnf("pod %s/%s: status: %v", w.namespace, w.name, err)
		}
		b.queue.AddRateLimited(uid)
		return true
	}
	b.queue.Forget(uid)
	return true
}

// keep remembers an answer. A worker that has been dropped meanwhile is not there to
// have it forgotten.
func (b *publisher) keep(w *worker, answer *corev1.Pod) {
	answer.ManagedFields = nil // nobody reads them, and they are often half of a pod
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.p.worker(w.uid) == w {
		b.sent[w.uid] = answer
	}
}

// forget drops the answer, as its pod's worker is dropped or it is too old.
func (b *publisher) forget(uid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sent, uid)
}

// publish brings the API server's status of a pod up to date. A pod that it no
// longer has, or has another of that name for, needs none.
func (b *publisher) publish(ctx context.Context, w *worker) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	base, err := b.base(ctx, w)
	if err != nil || base == nil {
		return err
	}
	o := w.observed()
	if finished(base.Status.Phase) && o.State.End == nil {
		return w.endedElsewhere(base)
	}
	pod := *o.Pod
	pod.Status, pod.Generation = base.Status, max(base.Generation, o.Pod.Generation)
	o.Pod = &pod
	status := translate.Status(o)
	patch, err := statusPatch(base, status)
	if err != nil {
		return err
	}
	if patch != nil {
		answer, err := b.p.c.Pods.Pods(w.namespace).Patch(ctx, w.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsInvalid(err):
			b.forget(w.uid) // the cached pod is too old: the next look decides
			if _, gone := b.live(ctx, w); gone {
				return nil
			}
			return err
		case err != nil:
			return err
		}
		b.keep(w, answer)
	}
	if translate.Over(o.State) && !o.State.Acknowledged {
		return w.change(func(st *ledger.State) { st.Acknowledged = st.End != nil })
	}
	return nil
}

func finished(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// endedElsewhere takes over that somebody else (the pod garbage collector, an
// eviction) declared the pod finished: it is not run on in secret.
func (w *worker) endedElsewhere(base *corev1.Pod) error {
	err := w.change(func(st *ledger.State) {
		if st.End == nil {
			st.End = &ledger.End{Phase: base.Status.Phase, Reason: base.Status.Reason, Message: base.Status.Message, At: time.Now()}
		}
	})
	w.poke()
	return err
}

// base returns the newest version of the API server's pod that is known
// without asking, or asks. It is nil if the pod is gone.
func (b *publisher) base(ctx context.Context, w *worker) (*corev1.Pod, error) {
	b.mu.Lock()
	sent := b.sent[w.uid]
	b.mu.Unlock()
	listed, err := b.p.c.Lister.Pod(w.namespace, w.name)
	if err == nil && string(listed.UID) == w.uid {
		if sent != nil && newer(sent, listed) {
			return sent, nil
		}
		return listed, nil
	}
	live, gone := b.live(ctx, w)
	if gone {
		b.forget(w.uid)
		return nil, nil
	}
	if live == nil {
		return nil, fmt.Errorf("the API server does not say whether it has the pod")
	}
	return live, nil
}

// live asks the API server for the pod, and whether it is certainly gone.
func (b *publisher) live(ctx context.Context, w *worker) (pod *corev1.Pod, gone bool) {
	live, err := b.p.fetch(ctx, w.namespace, w.name)
	if apierrors.IsNotFound(err) || (err == nil && string(live.UID) != w.uid) {
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	return live, false
}

// newer compares resource versions, which are comparable numbers. Where one is
// not, the cache is believed.
func newer(a, b *corev1.Pod) bool {
	x, errA := strconv.ParseUint(a.ResourceVersion, 10, 64)
	y, errB := strconv.ParseUint(b.ResourceVersion, 10, 64)
	return errA == nil && errB == nil && x > y
}

// statusPatch returns the patch from what the API server has to status, nil if
// there is no difference. It carries the UID, so that it cannot hit another
// pod of the same name, and no condition that did not change, so that those of
// others are left to them.
func statusPatch(base *corev1.Pod, status corev1.PodStatus) ([]byte, error) {
	// Most looks find nothing new, and comparing costs much less than a patch.
	if equality.Semantic.DeepEqual(base.Status, status) {
		return nil, nil
	}
	before, err := json.Marshal(corev1.Pod{Status: base.Status})
	if err != nil {
		return nil, err
	}
	bare, err := json.Marshal(corev1.Pod{Status: status})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, bare, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	if string(patch) == "{}" {
		return nil, nil
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: base.UID}, Status: status})
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
}

// farewell writes a pod's last status and then removes its object: nothing of
// the pod is left on the host.
//
// A pod that was deleted before it ran has failed, as with a kubelet: who keeps its
// object by a finalizer must see how it ended.
func (b *publisher) farewell(ctx context.Context, w *worker) error {
	pod := w.object()
	err := w.change(func(st *ledger.State) {
		if st.End == nil {
			e := result(st, pod, time.Now())
			st.End = &e
		}
	})
	if err != nil {
		return err
	}
	if err := b.publish(ctx, w); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	options := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(w.uid)}
	err = b.p.c.Pods.Pods(w.namespace).Delete(ctx, w.name, options)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	return nil
}
