package main

import (
	"testing"
	"time"
)

func TestPodLimiter(t *testing.T) {
	l := podLimiter()
	for i := range 500 { // many pods that come together
		if d := l.When(i); d != 0 {
			t.Fatalf("the first try of pod %d waits for %s", i, d)
		}
	}
	last := time.Duration(0)
	for range 10 {
		d := l.When(7)
		if d <= last {
			t.Fatalf("a failed pod is tried again after %s, and before that after %s", d, last)
		}
		last = d
	}
	l.Forget(7)
	if d := l.When(7); d != 0 {
		t.Errorf("after a success it waits for %s", d)
	}
}
