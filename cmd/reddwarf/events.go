package main

import (
	"context"

	"k8s.io/client-go/tools/record"
)

// eventsPerPod is for how many different events of each pod the agent remembers
// that they were sent, so that one that repeats is counted and not sent again. A
// container that crashes and is probed repeats six.
const eventsPerPod = 10

// newBroadcaster returns what sends the pods' events. Its default memory is for
// 4096 events, which those of pods that are gone fill: 5 MiB for nothing.
func newBroadcaster(ctx context.Context, pods int64) record.EventBroadcaster {
	return record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		LRUCacheSize: eventsPerPod * int(max(pods, 1)),
	}))
}
