package provider

import (
	"math/rand/v2"
	"time"
)

// The delays between tries of a step that failed.
const (
	pullDelay     = 10 * time.Second // as a kubelet's for images
	maxPullDelay  = 5 * time.Minute
	stepDelay     = 500 * time.Millisecond
	maxStepDelay  = 30 * time.Second
	jitterPercent = 10
)

// retryDelay returns how long to wait after a step failed for the nth time.
// It doubles, and differs a little each time, so that pods that failed
// together do not try again together.
func retryDelay(a action, n int) time.Duration {
	first, most := stepDelay, maxStepDelay
	if a == actPull {
		first, most = pullDelay, maxPullDelay
	}
	d := most
	if n < 20 {
		d = min(most, first<<(n-1))
	}
	return d + rand.N(d*jitterPercent/100)
}
