package oci

import (
	"context"
	"slices"
	"sync"
)

// claims keeps image datasets apart from their removal: a request for an image
// claims what it will use, for as long as it is at work, and what is claimed is
// not removed. What is being removed cannot be claimed before that has ended.
type claims struct {
	mu    sync.Mutex
	held  map[string]int
	going map[string]chan struct{} // closed when the removal has ended
}

// claim waits until none of ids is being removed and claims all of them. The
// function that it returns gives them up.
func (c *claims) claim(ctx context.Context, ids ...string) (release func(), err error) {
	for {
		c.mu.Lock()
		i := slices.IndexFunc(ids, func(id string) bool { return c.going[id] != nil })
		if i < 0 {
			break
		}
		end := c.going[ids[i]]
		c.mu.Unlock()
		select {
		case <-end:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[string]int{}
	}
	for _, id := range ids {
		c.held[id]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, id := range ids {
			if c.held[id]--; c.held[id] == 0 {
				delete(c.held, id)
			}
		}
	}, nil
}

// exclude begins a removal, which end must end. It does not while id is claimed
// or being removed already.
func (c *claims) exclude(id string) (end func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[id] > 0 || c.going[id] != nil {
		return nil, false
	}
	if c.going == nil {
		c.going = map[string]chan struct{}{}
	}
	done := make(chan struct{})
	c.going[id] = done
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.going, id)
		close(done)
	}, true
}
