package supervisor

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackWhenThatPays(t *testing.T) {
	for _, c := range []struct {
		name      string
		start     bool // the pod was started
		served    int
		collected bool
		want      int // times in an hour
	}{
		{"nothing happens", false, 0, false, 0},
		{"few clients", false, renewClients - 1, false, 0},
		{"enough clients", false, renewClients, false, 1},
		{"many clients at once", false, maxConnections, false, 1},
		{"a collection", false, 0, true, 1},
		{"a start", true, 0, false, 1},
		{"all", true, renewClients, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				s := &Supervisor{ctx: ctx, renewed: !c.start, served: make(chan struct{}, maxConnections), hangUp: make(chan os.Signal, 1)}
				collection := make(chan struct{})
				started, times := time.Now(), 0
				ended := make(chan struct{})
				next := collection
				go func() {
					defer close(ended)
					s.mind(func() <-chan struct{} {
						first := next
						next = nil // there is only one
						return first
					}, func() {
						times++
						if d := time.Since(started); d < renewTime {
							t.Errorf("memory is given back after %v", d)
						}
					})
				}()
				if c.collected {
					close(collection)
				}
				synctest.Wait()
				for range c.served {
					s.served <- struct{}{}
				}
				time.Sleep(time.Hour)
				cancel()
				<-ended
				if times != c.want {
					t.Errorf("memory was given back %d times, want %d", times, c.want)
				}
			})
		})
	}
}
