package main

import (
	"os"
	"runtime/debug"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// heapGrowth is how much the heap may grow between two garbage collections, in
// percent. The agent's heap is small and its processors are the pods': half of
// Go's default saves about a third of the heap for a few milliseconds a minute.
const heapGrowth = 50

// saveMemory sets the garbage collector's target, unless the operator did.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// lean drops what nobody here reads from an object before a cache keeps it: the
// record of who wrote which field is often the larger half of a pod. It is
// given objects that are not shared yet.
func lean(o any) (any, error) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return o, nil
}
