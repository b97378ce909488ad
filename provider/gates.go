package provider

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// gates bound how many expensive steps run at once, so that a hundred pods
// that come together do not take each other's time.
type gates struct {
	pull, boot, halt, command *semaphore.Weighted
}

func newGates(c Config) gates {
	weighted := func(n, otherwise int) *semaphore.Weighted {
		if n <= 0 {
			n = otherwise
		}
		return semaphore.NewWeighted(int64(n))
	}
	return gates{
		pull: weighted(c.Pulls, 4), boot: weighted(c.Boots, 4),
		halt: weighted(c.Halts, 8), command: weighted(c.Commands, 8),
	}
}

// of returns the gate of an action, nil for one that costs nothing.
func (g gates) of(a action) *semaphore.Weighted {
	switch a {
	case actPull, actRenew, actFetch:
		return g.pull
	case actBoot:
		return g.boot
	case actHalt:
		return g.halt
	case actStorage, actMount, actLink, actConfigure, actInstall, actUninstall, actUnconfigure, actUnlink, actReclaim, actErase:
		return g.command
	}
	return nil
}

// through runs f when the action's gate has room.
func (g gates) through(ctx context.Context, a action, f func() error) error {
	gate := g.of(a)
	if gate == nil {
		return f()
	}
	if err := gate.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer gate.Release(1)
	return f()
}
