package provider

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
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
	if pulls(a) || a == actFetch {
		first, most = pullDelay, maxPullDelay
	}
	d := most
	if n < 20 {
		d = min(most, first<<(n-1))
	}
	return d + rand.N(d*jitterPercent/100)
}

// judge remembers how a step went: a failed one is tried again, later each
// time.
func (w *worker) judge(ctx context.Context, s step, err error) {
	if err == nil {
		delete(w.failed, s)
		w.clearWaiting(s)
		return
	}
	if errors.Is(err, errDeletion) || w.interrupted(s) {
		return
	}
	f := w.failed[s]
	f.count++
	f.at = time.Now()
	f.until = f.at.Add(retryDelay(s.act, f.count))
	w.failed[s] = f
	w.complain(s, f, err)
	if touchesZone(s.act) {
		if err := w.p.survey.refresh(ctx); err != nil && ctx.Err() == nil {
			w.p.c.Log.Warnf("zones cannot be listed: %v", err)
		}
	}
}

// takeInRefusals makes failed starts of those that podinit tried by itself at
// the boot and could not make ready, so that they are tried again.
func (w *worker) takeInRefusals(ctx context.Context, v view) {
	if v.live == nil || v.live.Boot != v.st.Boot {
		return
	}
	for i := range v.live.Containers {
		c := &v.live.Containers[i]
		n, ours := w.autostart[c.Name]
		if c.Phase != podinit.Waiting || c.ConfigError == "" || !ours || n != c.Attempt {
			continue
		}
		delete(w.autostart, c.Name)
		s := step{act: actStart, container: c.Name}
		w.judge(ctx, s, &fault{c.Name, translate.ReasonConfigError, errors.New(c.ConfigError)})
		v.notBefore[s] = w.failed[s].until
	}
}

// interrupted reports whether a step failed because it was no longer wanted.
func (w *worker) interrupted(s step) bool { return interruptible(s.act) && w.deleting() }

func touchesZone(a action) bool {
	switch a {
	case actConfigure, actInstall, actBoot, actHalt, actUninstall, actUnconfigure:
		return true
	}
	return false
}

// fault is an error with the reason that a container shows for it.
type fault struct {
	container string // empty: all that wait
	reason    string
	err       error
}

func (f *fault) Error() string { return fmt.Sprintf("%s: %v", f.reason, f.err) }
func (f *fault) Unwrap() error { return f.err }
