package provider

import (
	"context"
	"errors"
	"os"

	"reddwarf.io/reddwarf/provider/translate"
)

// ahead writes what the zone needs besides its datasets while these are made:
// its root and its volumes, for some of which the API server is asked. The
// returned function waits for the end and reports whether the root is there.
//
// What fails here is silent: the step that it belongs to does it again and says
// why. What succeeds is found by that step, which looks at each volume anew.
func (w *worker) ahead(ctx context.Context, dir string) (rooted func() bool) {
	done := make(chan bool, 1)
	go func() {
		ok, _ := w.writeAhead(ctx, dir) //nolint:errcheck // as said above
		done <- ok
	}()
	return func() bool { return <-done }
}

// linkAhead makes the pod's link, too, as soon as the record names its slot and
// if a command more may run now. The returned function waits for the end and
// reports whether it is there.
func (w *worker) linkAhead(ctx context.Context) (linked func() bool) {
	gate, record := w.p.gates.of(actLink), w.behind
	done := make(chan bool, 1)
	go func() {
		if record != nil {
			<-record.done
		}
		if record != nil && record.err != nil || !gate.TryAcquire(1) {
			done <- false
			return
		}
		defer gate.Release(1)
		done <- w.ensureLink(ctx) == nil
	}()
	return func() bool { return <-done }
}

func (w *worker) writeAhead(ctx context.Context, dir string) (rooted bool, err error) {
	in, err := w.input(ctx)
	if err != nil {
		return false, err
	}
	if translate.NeedsSources(in.Pod) {
		return false, nil // whether a mount point is a directory shows only when all is mounted
	}
	zonepath, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer zonepath.Close() //nolint:errcheck // only a handle
	if err := w.writeRoot(zonepath, in); err != nil {
		return false, err
	}
	for _, v := range in.Pod.Spec.Volumes {
		if translate.HostWritten(v) {
			_, verr := w.writeOne(ctx, zonepath, in, v)
			err = errors.Join(err, verr)
		}
	}
	return true, err
}
