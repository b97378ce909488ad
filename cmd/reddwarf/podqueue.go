package main

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// podLimiter is how long virtual-kubelet waits before it takes up what changed
// of a pod: not at all, unless the last try failed. Its own limiter holds the
// first try of every change back, too, and lets ten changes of all pods a second
// through once a hundred have come together.
func podLimiter() workqueue.TypedRateLimiter[any] {
	return promptly{workqueue.NewTypedItemExponentialFailureRateLimiter[any](5*time.Millisecond, 1000*time.Second)}
}

type promptly struct {
	workqueue.TypedRateLimiter[any]
}

// When implements workqueue.TypedRateLimiter.
func (p promptly) When(item any) time.Duration {
	after := p.TypedRateLimiter.When(item)
	if p.NumRequeues(item) == 1 {
		return 0
	}
	return after
}

// failuresOnly is given to virtual-kubelet for its events. That a pod was handed
// to the provider tells its users nothing, no kubelet says it, and it costs the
// API server a request while the pod is being started.
type failuresOnly struct{ record.EventRecorder }

// Event implements record.EventRecorder.
func (f failuresOnly) Event(object runtime.Object, kind, reason, message string) {
	if kind != corev1.EventTypeNormal {
		f.EventRecorder.Event(object, kind, reason, message)
	}
}
