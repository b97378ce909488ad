package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// sink is an API server for events.
type sink struct {
	taken   chan struct{}
	created atomic.Int64
}

func (s *sink) take(e *corev1.Event) (*corev1.Event, error) {
	e = e.DeepCopy()
	e.ResourceVersion = "12345"
	s.taken <- struct{}{}
	return e, nil
}

// Create implements record.EventSink.
func (s *sink) Create(e *corev1.Event) (*corev1.Event, error) {
	s.created.Add(1)
	return s.take(e)
}

// Update implements record.EventSink.
func (s *sink) Update(e *corev1.Event) (*corev1.Event, error) { return s.take(e) }

// Patch implements record.EventSink.
func (s *sink) Patch(e *corev1.Event, _ []byte) (*corev1.Event, error) { return s.take(e) }

// TestEventsOfGonePods lets thousands of pods come and go: what is kept of their
// events is bounded. Without the bound it is 5.5 MiB here.
func TestEventsOfGonePods(t *testing.T) {
	broadcaster := newBroadcaster(t.Context(), 110)
	defer broadcaster.Shutdown()
	s := &sink{taken: make(chan struct{})}
	broadcaster.StartRecordingToSink(s)
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: "illumos-host-1"})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range 5000 {
		ref := &corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("deployment-7c9f8d6b5-%05d", i),
			UID: types.UID(fmt.Sprintf("0a1b2c3d-0000-4000-8000-%012d", i)), FieldPath: "spec.containers{web}",
		}
		for _, e := range [][2]string{
			{"Pulled", `Container image "registry.example/reddwarf/web:1" already present on machine`},
			{"Created", "Container created"}, {"Started", "Container started"}, {"Killing", "Stopping container web"},
		} {
			recorder.Event(ref, corev1.EventTypeNormal, e[0], e[1])
			<-s.taken
		}
	}
	if kept := heap() - before; kept > 3<<20 {
		t.Errorf("%d KiB are kept of the events of pods that are gone", kept>>10)
	} else {
		t.Logf("%d KiB are kept", kept>>10)
	}
}

// TestRepeatedEvents: of as many pods as the node takes, an event that repeats is
// counted, whatever else happened since.
func TestRepeatedEvents(t *testing.T) {
	const pods, kinds = 110, 6
	broadcaster := newBroadcaster(t.Context(), pods)
	defer broadcaster.Shutdown()
	s := &sink{taken: make(chan struct{})}
	broadcaster.StartRecordingToSink(s)
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: "illumos-host-1"})
	for round := range 3 {
		for i := range pods * kinds {
			uid := types.UID(fmt.Sprint(i % pods))
			recorder.Event(&corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "pod-" + string(uid), UID: uid},
				corev1.EventTypeWarning, fmt.Sprintf("Reason%d", i/pods), "the same")
			<-s.taken
		}
		if got, want := s.created.Load(), int64(pods*kinds); got != want {
			t.Errorf("after round %d, %d events were created, want %d", round, got, want)
		}
	}
}
