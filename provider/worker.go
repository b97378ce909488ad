package provider

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// worker is one pod. Its goroutine alone performs steps; other goroutines
// change what it wants (update, requestDeletion) or what it knows (watch, the
// survey) and poke it.
type worker struct {
	p               *Provider
	uid             string
	namespace, name string
	zone            string
	wake            chan struct{} // capacity 1
	began           time.Time

	// disk is held while the record changes, on disk and in st, and is taken
	// before mu. So nobody who only reads waits for a disk.
	disk    sync.Mutex
	durable bool // there is a record

	mu      sync.Mutex
	pod     *corev1.Pod  // newest object; never changed in place
	st      ledger.State // as on disk, or on its way there (changeBehind)
	stale   bool         // something that the volumes show has changed
	renamed []string     // containers whose image was changed
	erased  bool         // the record is gone for good and must not come back
	outside bool         // not let in: others have to make room first
	live    *podinit.State
	changed chan struct{} // closed when st changes, and replaced
	waiting map[string]translate.Waiting
	cancel  context.CancelCauseFunc // of the step that runs, if it may be interrupted
	hooks   map[hook]*hookRun

	// Of the worker's goroutine only.
	behind    *writing // of changeBehind
	have      prepared
	gone      removed
	datasets  translate.Datasets
	shown     map[string]translate.Shown // of mountVolumes
	autostart map[string]int
	stops     map[attempt]stopping
	refreshAt time.Time
	failed    map[step]failure
	watcher   *watcher
	probers   map[probeKey]*prober
	free      bool // it has let go of its part of the node
	ended     bool
}

type failure struct {
	count     int
	at, until time.Time
}

func newWorker(p *Provider, pod *corev1.Pod, st ledger.State) *worker {
	return &worker{
		p: p, uid: string(pod.UID), namespace: pod.Namespace, name: pod.Name,
		zone: translate.ZoneName(string(pod.UID)), wake: make(chan struct{}, 1), began: time.Now(),
		pod: pod, st: st, changed: make(chan struct{}), waiting: map[string]translate.Waiting{},
		failed: map[step]failure{}, hooks: map[hook]*hookRun{}, stops: map[attempt]stopping{},
	}
}

// claim takes what the record says is the pod's out of the pools.
func (w *worker) claim() error {
	if w.st.Released {
		return nil
	}
	for _, a := range w.st.Addresses {
		pool := w.p.poolOf(a)
		if pool == nil {
			w.p.c.Log.Warnf("pod %s/%s has address %s, which is not of this node's prefixes", w.namespace, w.name, a)
			continue
		}
		if err := pool.Claim(w.uid, a); err != nil {
			return err
		}
	}
	if ports := w.hostPorts(); len(ports) > 0 {
		w.p.c.Ports.ClaimPorts(w.uid, ports)
	}
	if w.st.Slot > 0 {
		return w.p.c.Slots.Claim(w.uid, w.st.Slot)
	}
	return nil
}

func (p *Provider) poolOf(a netip.Addr) Addresses {
	for _, pool := range p.c.Addresses {
		if pool.Prefix().Contains(a) {
			return pool
		}
	}
	return nil
}

// poke makes the worker look again.
func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// update takes over a newer object of the same pod.
func (w *worker) update(pod *corev1.Pod) error {
	w.disk.Lock()
	defer w.disk.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.erased {
		return nil
	}
	before := w.pod
	if pod.Generation < before.Generation {
		return nil // the newer one came on the shorter way (PodSeen)
	}
	w.pod = pod.DeepCopy()
	w.noteImagesLocked(before)
	if w.durable {
		if err := w.p.c.Ledger.SavePod(w.pod); err != nil {
			return err
		}
	}
	if err := w.addEphemeralLocked(); err != nil {
		return err
	}
	w.stale = true // labels and annotations may be shown in volumes
	w.poke()
	w.p.c.Cluster.Register(w.pod)
	w.p.status.enqueue(w.uid)
	return nil
}

// errDeletion interrupts a step because the pod is to go.
var errDeletion = errors.New("the pod is being deleted")

// requestDeletion makes the pod go. A shorter grace period than that of an
// earlier request counts, from when it was asked for; a longer one does not.
func (w *worker) requestDeletion(grace time.Duration) {
	now := time.Now()
	w.disk.Lock()
	defer w.disk.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	d := ledger.Deletion{At: now, Grace: grace}
	if w.erased {
		return
	}
	if have := w.st.Deletion; have != nil && !d.Deadline().Before(have.Deadline()) {
		return
	}
	w.st.Deletion = &d
	if err := w.save(w.pod, w.st); err != nil {
		// The API server asks again after a restart, so this is no loss.
		w.p.c.Log.Errorf("pod %s/%s: its deletion is not on disk: %v", w.namespace, w.name, err)
	}
	if w.cancel != nil {
		w.cancel(errDeletion)
	}
	w.poke()
}

func (w *worker) deleting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.st.Deletion != nil
}

func (w *worker) object() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// withStatus returns a copy of the pod with its present status.
func (w *worker) withStatus() *corev1.Pod {
	o := w.observed()
	pod := o.Pod.DeepCopy()
	pod.Status = translate.Status(o)
	return pod
}

// observed is what the status is made from.
func (w *worker) observed() translate.Observed {
	runs := w.p.survey.zone(w.zone).State == zones.Running
	w.mu.Lock()
	defer w.mu.Unlock()
	return translate.Observed{
		Pod: w.pod, Node: w.p.c.Node, State: w.st.Clone(), Now: time.Now(),
		ZoneRuns: runs && w.st.Boot != "", Spares: spares(&w.st), Waiting: maps.Clone(w.waiting), Outside: w.outside,
	}
}

// diskRetry is when a worker without another step tries again to write its record.
const diskRetry = 5 * time.Second

// run is the worker: look, decide, do one thing, again.
func (w *worker) run(ctx context.Context) {
	defer w.unwatch()
	defer w.endHooks()
	defer w.stopProbes()
	defer w.settle() //nolint:errcheck // the next agent begins anew
	w.p.c.Cluster.Register(w.object())
	for !w.ended && ctx.Err() == nil {
		v, err := w.look(ctx)
		if err != nil {
			w.p.c.Log.Errorf("pod %s/%s: %v", w.namespace, w.name, err)
			w.sleep(ctx, time.Now().Add(time.Second))
			continue
		}
		w.followProbes(ctx, v)
		w.takeInRefusals(ctx, v)
		w.noteRoom(v.st, v.zone)
		s := next(v)
		if v.zone == zones.Running && v.live == nil {
			w.p.status.enqueueLate(w.uid) // podinit is about to say what its containers do
		} else {
			w.p.status.enqueue(w.uid)
		}
		if s.act == actWait {
			if err := w.settle(); err != nil {
				w.p.c.Log.Errorf("pod %s/%s: %v", w.namespace, w.name, err)
				s.until = time.Now().Add(diskRetry)
			}
			w.sleep(ctx, w.backOff(s.until))
			continue
		}
		err = w.attempt(ctx, s)
		if ctx.Err() != nil {
			return
		}
		w.judge(ctx, s, err)
	}
}

// look collects what the next decision is made from. What podinit reported is
// in the record before anything is decided on it.
func (w *worker) look(ctx context.Context) (view, error) {
	if err := errors.Join(w.grant(), w.enter()); err != nil {
		return view{}, err
	}
	z := w.p.survey.zone(w.zone)
	w.followZone(ctx, z)
	refused, counted := w.memoryRefusals(ctx, z)
	now := time.Now()
	live, err := w.takeInReport(now, refused, counted)
	if err != nil {
		return view{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stale {
		if !w.refreshAt.IsZero() {
			w.refreshAt = now
		}
		// It may be what a failed try has waited for.
		delete(w.failed, step{act: actRefresh})
		delete(w.failed, step{act: actFiles})
	}
	w.stale = false
	for _, name := range w.renamed {
		delete(w.failed, step{act: actPull, container: name})
		delete(w.failed, step{act: actRenew, container: name})
	}
	w.renamed = nil
	st := w.st.Clone()
	v := view{
		now: now, wish: wishRun, pod: w.pod, st: &st, zone: z.State, live: live,
		have: w.have, gone: w.gone, autostart: w.autostart, outside: w.outside,
		hooks: map[hook]bool{}, stops: maps.Clone(w.stops), refreshAt: w.refreshAt,
		notBefore: map[step]time.Time{},
	}
	switch {
	case st.Deletion != nil:
		v.wish = wishGone
	case st.End != nil:
		v.wish = wishStop
	}
	for h, r := range w.hooks {
		v.hooks[h] = r.ended
	}
	for s, f := range w.failed {
		v.notBefore[s] = f.until
	}
	return v, nil
}

// takeInReport brings what podinit reported into the record. Its newest state
// may be on its way to the disk when others see it, because podinit tells it
// again to an agent that begins anew. That something ended or a hook is done is
// on disk first: nobody tells the latter again, and podinit may be gone.
//
// It returns the report, nil if there is none. One that comes later is for the
// next look: the record does not know of it.
func (w *worker) takeInReport(now time.Time, refused uint64, counted bool) (*podinit.State, error) {
	w.mu.Lock()
	live := w.live
	w.mu.Unlock()
	if live == nil {
		return nil, nil //nolint:nilnil // both are answers
	}
	if err := w.settle(); err != nil {
		return nil, err
	}
	w.disk.Lock()
	w.mu.Lock()
	pod, before := w.pod, w.st
	st := before.Clone()
	changed := absorb(&st, *live, pod, now)
	hooked := w.absorbHooksLocked(&st, now)
	w.mu.Unlock()
	if !changed && !hooked {
		w.disk.Unlock()
		return live, nil
	}
	w.explain(pod, before, &st)
	if counted {
		blame(pod, before, &st, refused)
	}
	if !hooked && !ends(&before, &st) {
		w.saveBehind(pod, st)
		w.announce(pod, before, st)
		return live, nil
	}
	defer w.disk.Unlock()
	if err := w.save(pod, st); err != nil {
		return nil, err
	}
	w.announce(pod, before, st)
	w.set(st)
	return live, nil
}

// ends reports whether an attempt has ended between two records.
func ends(before, after *ledger.State) bool {
	for i := range after.Containers {
		was := before.Container(after.Containers[i].Name)
		if after.Containers[i].Phase == podinit.Exited && (was == nil || was.Phase != podinit.Exited) {
			return true
		}
	}
	return false
}

// followZone keeps one watch on podinit while the zone runs, and forgets what
// podinit said when it does not.
func (w *worker) followZone(ctx context.Context, z zones.Zone) {
	if z.State == zones.Running && z.ID >= 0 {
		if w.watcher != nil && w.watcher.zone == z.ID {
			return
		}
		w.unwatch()
		w.watcher = startWatcher(ctx, w, z)
		return
	}
	if z.State != zones.Running && w.watcher != nil {
		w.unwatch()
	}
}

func (w *worker) unwatch() {
	if w.watcher != nil {
		w.watcher.stop()
		w.watcher = nil
	}
	w.mu.Lock()
	w.live = nil
	w.mu.Unlock()
}

// sleep waits until the time, if there is one, or until poked.
func (w *worker) sleep(ctx context.Context, until time.Time) {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-timer:
	}
}

// attempt performs one step, through its gate, interruptible by a deletion if
// the step may take long and is not itself part of the removal.
func (w *worker) attempt(ctx context.Context, s step) error {
	if !overlaps(s.act) {
		if err := w.settle(); err != nil {
			return err
		}
	}
	outer := ctx
	if interruptible(s.act) {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		w.mu.Lock()
		w.cancel = cancel
		if w.st.Deletion != nil {
			cancel(errDeletion)
		}
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			w.cancel = nil
			w.mu.Unlock()
		}()
	}
	return w.p.gates.through(ctx, s.act, func() error {
		if s.act == actBoot {
			// Waiting for its turn can be interrupted, zoneadm not: the zone
			// would go on booting behind our back.
			ctx = outer
		}
		return w.perform(ctx, s)
	})
}

func interruptible(a action) bool {
	switch a {
	case actPull, actRenew, actFetch, actMount, actFiles, actBoot, actStart, actRefresh:
		return true
	}
	return false
}
