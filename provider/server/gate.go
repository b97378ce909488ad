package server

import "sync"

// gate counts what is under way, until it is shut. Unlike a bare WaitGroup it
// may be entered while somebody waits.
type gate struct {
	mu     sync.Mutex
	shut   bool
	active sync.WaitGroup
}

// enter reports whether the gate is open. If so, leave has to be called.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.active.Add(1)
	return true
}

func (g *gate) leave() { g.active.Done() }

// close shuts the gate and waits for all who entered.
func (g *gate) close() {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.active.Wait()
}
