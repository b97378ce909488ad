package services

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// causes collects when the changes of endpoints were caused, for measuring how
// long it takes until they are in force.
type causes struct {
	since time.Time                       // older ones say nothing of this program
	seen  map[string]map[string]time.Time // by Service and slice
	fresh []time.Time
}

func newCauses() causes {
	return causes{since: time.Now(), seen: map[string]map[string]time.Time{}}
}

// note takes each cause of a Service's slices once, and only if they changed
// rules: else nothing waits for them.
func (c *causes) note(service string, slices []discoveryv1.EndpointSlice, changed bool) {
	seen := make(map[string]time.Time, len(slices))
	for i := range slices {
		s := &slices[i]
		at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
		if err != nil || !at.After(c.since) {
			continue
		}
		if seen[s.Name] = at; changed && !at.Equal(c.seen[service][s.Name]) {
			c.fresh = append(c.fresh, at)
		}
	}
	c.forget(service)
	if len(seen) > 0 {
		c.seen[service] = seen
	}
}

// forget drops what is known of a Service.
func (c *causes) forget(service string) { delete(c.seen, service) }

// take returns what was noted since the last time.
func (c *causes) take() []time.Time {
	fresh := c.fresh
	c.fresh = nil
	return fresh
}
