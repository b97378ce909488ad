package provider

import (
	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
)

// save makes st durable. The caller holds disk.
//
// A pod has no record before its address and its boot are decided on, or its
// end: until then nothing was done for it on the host and nothing about it is
// known that an agent that begins anew would not find out, because the API
// server still names the pod and images are kept by themselves. So its object,
// what its images are and its address reach the disk together.
func (w *worker) save(pod *corev1.Pod, st ledger.State) error {
	if w.durable {
		return w.p.c.Ledger.SaveState(st)
	}
	if st.Boot == "" && st.End == nil {
		return nil
	}
	if err := w.p.c.Ledger.Create(pod, st); err != nil {
		return err
	}
	w.durable = true
	return nil
}

// change edits the record and makes it durable before anybody acts on it. edit
// is called with disk held, but not mu.
func (w *worker) change(edit func(st *ledger.State)) error {
	w.disk.Lock()
	defer w.disk.Unlock()
	pod, st, ok := w.edited(edit)
	if !ok {
		return nil
	}
	if err := w.save(pod, st); err != nil {
		return err
	}
	w.set(st)
	return nil
}

// edited returns a copy of the record with an edit, and false if there will be
// no record any more. The caller holds disk.
func (w *worker) edited(edit func(st *ledger.State)) (*corev1.Pod, ledger.State, bool) {
	w.mu.Lock()
	pod, st, erased := w.pod, w.st.Clone(), w.erased
	w.mu.Unlock()
	if erased {
		return nil, ledger.State{}, false
	}
	edit(&st)
	return pod, st, true
}

func (w *worker) set(st ledger.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setLocked(st)
}

// writing is a record on its way to the disk.
type writing struct {
	done chan struct{}
	err  error // once done is closed
}

// changeBehind is change for what an agent that begins anew would find out or
// decide again: others see it at once, and it is on its way to the disk while
// the worker goes on. No step that depends on it begins before settle says that
// it has arrived; see overlaps.
//
// Only the worker's goroutine calls it.
func (w *worker) changeBehind(edit func(st *ledger.State)) error {
	if err := w.settle(); err != nil {
		return err
	}
	w.disk.Lock()
	pod, st, ok := w.edited(edit)
	if !ok {
		w.disk.Unlock()
		return nil
	}
	w.saveBehind(pod, st)
	return nil
}

// saveBehind makes st the record and lets go of disk, which the caller holds,
// when it is written.
func (w *worker) saveBehind(pod *corev1.Pod, st ledger.State) {
	w.set(st)
	f := &writing{done: make(chan struct{})}
	w.behind = f
	go func() {
		defer close(f.done)
		defer w.disk.Unlock()
		f.err = w.save(pod, st)
	}()
}

// settle returns when what changeBehind was told of is on disk, which it tries
// again if it failed. Only the worker's goroutine calls it.
func (w *worker) settle() error {
	if w.behind == nil {
		return nil
	}
	<-w.behind.done
	if w.behind.err != nil {
		if err := w.change(func(*ledger.State) {}); err != nil {
			return err
		}
	}
	w.behind = nil
	return nil
}

// overlaps reports whether a step may run while the record of what was decided
// before it is on its way to the disk. If the agent dies then, the next one
// begins anew:
//
//   - datasets carry the pod's UID, so that its next worker adopts them, or the
//     search for orphans removes them;
//   - a zone that is marked installed without a record of the resources that it
//     was configured with is configured again before it is booted.
func overlaps(a action) bool { return a == actStorage || a == actInstall }

// erase removes the record for good.
func (w *worker) erase() error {
	w.disk.Lock()
	defer w.disk.Unlock()
	w.mu.Lock()
	w.erased = true
	w.setLocked(w.st)
	w.mu.Unlock()
	return w.p.c.Ledger.Remove(w.uid)
}
