package zones

import (
	"context"
	"fmt"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// operation is one request to zoneadmd(8). It outlives the zoneadm that asked
// for it: killing that one does not stop the daemon.
type operation struct {
	m        *Model
	name     string
	files    program.Files
	messages []string
}

// say adds a message for the zoneadm that waits.
func (op *operation) say(format string, args ...any) {
	op.messages = append(op.messages, fmt.Sprintf(format, args...))
}

// call has zoneadmd carry out a request and prints what it has to say.
func (a *admin) call(ctx context.Context, request, bootArgs string) bool {
	if err := a.m.lock(ctx, a.zone); err != nil {
		return false // killed while waiting for another zoneadm
	}
	op := &operation{m: a.m, name: a.zone, files: a.inv.Files}
	done := make(chan bool, 1)
	started := a.m.start(func(life context.Context) {
		defer a.m.unlock(op.name)
		done <- op.serve(life, request, bootArgs)
	})
	if !started {
		a.m.unlock(a.zone)
		return false
	}
	select {
	case ok := <-done:
		for _, msg := range op.messages {
			for line := range strings.SplitSeq(msg, "\n") {
				a.inv.Errf("zone '%s': %s\n", a.zone, line)
			}
		}
		return ok
	case <-ctx.Done():
		return false
	}
}

// start runs f unless the model is closed. The model waits for it in Close.
func (m *Model) start(f func(life context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.work.Go(func() { f(m.life) })
	return true
}

// serve is zoneadmd's server(): it decides by the zone's state.
func (op *operation) serve(ctx context.Context, request, bootArgs string) bool {
	st, ok := op.m.stateOf(op.name)
	if !ok {
		return false
	}
	wrong := func() bool {
		op.say("%s operation is invalid for zones in state '%s'", request, st)
		return false
	}
	switch st {
	case stateInstalled:
		switch request {
		case "ready":
			return op.ready(ctx)
		case "boot":
			return op.bringUp(ctx, bootArgs)
		case "halt", "shutdown":
			op.say("zone is already halted")
			return true
		}
	case stateReady:
		switch request {
		case "ready":
			op.say("zone is already ready")
			return true
		case "boot":
			return op.bootOrHalt(ctx, bootArgs)
		case "halt":
			return op.halt(ctx, false)
		}
	case stateRunning, stateShuttingDown, stateDown:
		switch request {
		case "ready":
			return op.halt(ctx, true) && op.ready(ctx)
		case "boot":
			op.say("zone is already booted")
			return true
		case "halt":
			return op.halt(ctx, false)
		case "reboot":
			return op.halt(ctx, true) && op.bringUp(ctx, bootArgs)
		case "shutdown":
			return op.shutdown(ctx)
		}
	default: // zoneadm does not ask in other states
	}
	return wrong()
}

// bringUp makes a zone ready and boots it.
func (op *operation) bringUp(ctx context.Context, bootArgs string) bool {
	return op.ready(ctx) && op.bootOrHalt(ctx, bootArgs)
}

// bootOrHalt boots a zone that is ready, and halts it if that fails.
func (op *operation) bootOrHalt(ctx context.Context, bootArgs string) bool {
	if op.bootUp(ctx, bootArgs) {
		return true
	}
	op.halt(ctx, true)
	return false
}

// update changes the kernel's view of the zone under the model's lock.
func (op *operation) update(f func(z *zone)) {
	op.m.mu.Lock()
	defer op.m.mu.Unlock()
	if z := op.m.zones[op.name]; z != nil {
		f(z)
	}
}

func (op *operation) kernel() *kernelZone {
	op.m.mu.Lock()
	defer op.m.mu.Unlock()
	if z := op.m.zones[op.name]; z != nil {
		return z.kernel
	}
	return nil
}
