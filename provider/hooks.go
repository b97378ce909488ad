package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Lifecycle hooks run beside the worker, which goes on looking after the other
// containers. A hook runs at least once: a new agent runs again what the one
// before it had not seen the end of.

// hookRun is one hook that was begun.
type hookRun struct {
	cancel context.CancelFunc
	done   chan struct{}
	ended  bool  // under the worker's lock
	err    error // likewise
}

// beginHook begins the hook that a step is about and returns at once. The
// worker is poked when the hook has ended, and drops it in endHooks.
func (w *worker) beginHook(ctx context.Context, s step) error {
	a, pod, err := w.present(s.container)
	if err != nil {
		return err
	}
	c := container(pod, s.container)
	h := hook{a, s.act == actPreStop}
	handler := c.Lifecycle.PostStart
	if h.stop {
		handler = c.Lifecycle.PreStop
		w.announceStop(pod, a)
		w.cancelHook(hook{a, false})
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &hookRun{cancel: cancel, done: make(chan struct{})}
	w.mu.Lock()
	w.hooks[h] = r
	w.mu.Unlock()
	go func() {
		defer close(r.done)
		defer cancel()
		w.hookEnded(ctx, c, h, r, w.runHook(ctx, c, h, handler))
	}()
	return nil
}

// runHook runs a hook until it ends or its attempt does.
func (w *worker) runHook(ctx context.Context, c *corev1.Container, h hook, handler *corev1.LifecycleHandler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		w.awaitEnd(ctx, h.container, h.number)
		cancel(errHookless)
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	err := w.handle(ctx, c, handler)
	if err != nil && errors.Is(context.Cause(ctx), errHookless) {
		return errHookless
	}
	return err
}

var errHookless = errors.New("the container ended before its hook")

func (w *worker) handle(ctx context.Context, c *corev1.Container, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return w.execHook(ctx, c.Name, h.Exec.Command)
	case h.HTTPGet != nil:
		w.mu.Lock()
		addrs := translate.Addresses(w.pod, w.p.c.Node, w.st.Addresses)
		w.mu.Unlock()
		if len(addrs) == 0 {
			return errors.New("the pod has no address")
		}
		return httpHook(ctx, c, h.HTTPGet, addrs[0].String())
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		}
	}
	return errors.New("invalid handler: not exec, httpGet or sleep") // tcpSocket never worked in a kubelet either
}

// maxHookOutput bounds what is kept of a hook's output, for the agent's log.
const maxHookOutput = 1024

// clipped keeps the beginning of what is written to it.
type clipped struct{ bytes.Buffer }

func (b *clipped) Write(p []byte) (int, error) {
	if room := maxHookOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (w *worker) execHook(ctx context.Context, name string, args []string) error {
	var stdout, stderr clipped
	status, err := w.p.c.Dial(w.p.survey.zone(w.zone)).Exec(ctx,
		podinit.ExecRequest{Container: name, Args: args}, podinit.Streams{Out: &stdout, Err: &stderr})
	if err == nil && status.Code != 0 {
		err = fmt.Errorf("command terminated with exit code %d: %q", status.Code, stdout.String()+stderr.String())
	}
	return err
}

// hookEnded takes in how a hook ended. One that was cancelled has no verdict.
func (w *worker) hookEnded(ctx context.Context, c *corev1.Container, h hook, r *hookRun, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, errHookless) {
		reason, message := "FailedPostStartHook", "PostStartHook failed"
		if h.stop {
			reason, message = "FailedPreStopHook", "PreStopHook failed"
		}
		// The reason may quote what the container printed, which is for the
		// node's operator and not for everybody who may read events.
		w.p.c.Log.Warnf("pod %s/%s: %s: container %s: %v", w.namespace, w.name, message, h.container, err)
		w.event(c, corev1.EventTypeWarning, reason, "%s", message)
	}
	w.mu.Lock()
	r.ended, r.err = true, err
	w.mu.Unlock()
	w.poke()
}

// absorbHooksLocked takes into the record how postStart hooks ended, and
// reports whether it changed. A container whose hook failed is ended.
func (w *worker) absorbHooksLocked(st *ledger.State, now time.Time) bool {
	changed := false
	for h, run := range w.hooks {
		r := st.Container(h.container)
		if h.stop || !run.ended || r == nil || r.Attempt != h.number || r.Phase != podinit.Running || r.Hooked || r.Stop != nil {
			continue
		}
		changed = true
		if run.err == nil {
			up(w.pod, r)
			continue
		}
		stopIn(st, h.attempt, ledger.Stop{At: now, Grace: grace(w.pod), Message: "FailedPostStartHook"})
	}
	return changed
}

// cancelHook ends a hook that nobody waits for any more.
func (w *worker) cancelHook(h hook) {
	w.mu.Lock()
	r := w.hooks[h]
	w.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// forgetAttempts drops what is kept of a container's attempts before a.
func (w *worker) forgetAttempts(a attempt) {
	w.dropWhere(func(h hook) bool { return h.container == a.container && h.number < a.number })
	maps.DeleteFunc(w.stops, func(s attempt, _ stopping) bool { return s.container == a.container && s.number < a.number })
}

// endHooks ends and forgets all hooks.
func (w *worker) endHooks() { w.dropWhere(func(hook) bool { return true }) }

func (w *worker) dropWhere(which func(hook) bool) {
	w.mu.Lock()
	var all []*hookRun
	for h, r := range w.hooks {
		if which(h) {
			all = append(all, r)
			delete(w.hooks, h)
		}
	}
	w.mu.Unlock()
	for _, r := range all {
		r.cancel()
		<-r.done
	}
}
