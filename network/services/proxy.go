package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"reddwarf.io/reddwarf/network/ipnat"
)

// Config is what a Proxy needs.
type Config struct {
	// Client reads Services and EndpointSlices from a cache, with the index that
	// [SetupWithManager] makes.
	Client client.Reader
	Loader *ipnat.Loader

	// Delay is the shortest time between two changes of the rules. The first of
	// a burst is made at once, the rest together. 0 means 200 ms.
	Delay time.Duration
	// Period is how often all rules are read and repaired. 0 means 30 s.
	Period time.Duration

	// Warn is told what a Service wants and this node cannot do; once for each
	// change of the Service. May be nil.
	Warn func(svc *corev1.Service, p ipnat.Problem)
	// Done is told the outcome of each change and each repair. May be nil.
	Done func(Outcome)
}

// Outcome is one run of the loader.
type Outcome struct {
	ipnat.Report
	Full   bool // all rules were read, not only those that changed
	Repair bool // rules had gone that nobody had changed here
	Rules  int  // of ours, that should be there
	Took   time.Duration
	Err    error

	// Tables is how full the kernel's tables are, after a full run without an
	// error.
	Tables ipnat.Tables

	// Latencies are how long ago the changes of endpoints that are in force now
	// were caused, as the EndpointSlices' annotation tells it.
	Latencies []time.Duration
}

// Proxy keeps a node's rules equal to the cluster's Services. Reconcile and
// SetNode tell it of changes, Start makes them.
type Proxy struct {
	c    Config
	kick chan struct{} // holds one: something is pending

	prepare func(context.Context) error // the client for use; may be nil

	mu       sync.Mutex
	causes   causes
	node     Node
	table    *ipnat.Table // nil until the node is known
	ready    bool         // all Services are in the table
	moved    bool         // it is another table than that of the last run
	pending  ipnat.Delta
	full     bool // the next run reads all rules
	synced   bool // the rules were in line once
	unrefuse []ipnat.Refusal
}

// New returns a Proxy that waits for [Proxy.SetNode].
func New(c Config) *Proxy {
	c.Delay, c.Period = cmp.Or(c.Delay, 200*time.Millisecond), cmp.Or(c.Period, 30*time.Second)
	return &Proxy{c: c, kick: make(chan struct{}, 1), full: true, causes: newCauses()}
}

// SetNode tells what the rules are for. If that differs from what it was, all
// rules are compiled anew; those that stay the same are not touched. The error
// says what is wrong with the node, and the old one stays.
func (p *Proxy) SetNode(n Node) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table != nil && p.node.equal(n) {
		return nil
	}
	table, err := ipnat.NewTable(n.Node)
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	for _, r := range p.node.Refuse {
		if !slices.Contains(n.Refuse, r) {
			p.unrefuse = append(p.unrefuse, r)
		}
	}
	p.node, p.table, p.ready, p.moved, p.full, p.pending = n, table, false, true, true, ipnat.Delta{}
	p.wake()
	return nil
}

// Clear removes every rule and route that was made, for a node that the
// controller leaves for good. Start must have returned.
func (p *Proxy) Clear(ctx context.Context) (ipnat.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.c.Loader.Clear(ctx, slices.Concat(p.node.Refuse, p.unrefuse))
}

// wake has Start look what there is to do.
func (p *Proxy) wake() {
	select {
	case p.kick <- struct{}{}:
	default: // it is known already
	}
}

// Reconcile implements reconcile.Reconciler: the request names a Service. It
// only notes what changes.
func (p *Proxy) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	// The lock is held while the cache is read, so that an older reading never
	// replaces a newer one.
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		return reconcile.Result{}, nil // everything will be read
	}
	name := req.Namespace + "/" + req.Name
	var svc corev1.Service
	if err := p.c.Client.Get(ctx, req.NamespacedName, &svc); apierrors.IsNotFound(err) {
		p.causes.forget(name)
		p.note(p.table.Delete(name))
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("services: %s: %w", name, err)
	}
	var list discoveryv1.EndpointSliceList
	err := p.c.Client.List(ctx, &list, client.InNamespace(req.Namespace), client.MatchingFields{sliceIndex: req.Name})
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("services: endpoints of %s: %w", name, err)
	}
	p.causes.note(name, list.Items, p.set(&svc, list.Items))
	return reconcile.Result{}, nil
}

// set notes what a Service changes, and says whether it changes rules. p.mu is
// held.
func (p *Proxy) set(svc *corev1.Service, eps []discoveryv1.EndpointSlice) bool {
	slices.SortFunc(eps, func(a, b discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	s, ok := Translate(svc, eps)
	if !ok {
		return p.note(p.table.Delete(s.Name))
	}
	before := p.table.ProblemsOf(s.Name)
	changed := p.note(p.table.Set(s))
	for _, problem := range p.table.ProblemsOf(s.Name) {
		if p.c.Warn != nil && !slices.Contains(before, problem) {
			p.c.Warn(svc, problem)
		}
	}
	return changed
}

// note adds to what is pending, and says whether that is anything. p.mu is held.
func (p *Proxy) note(d ipnat.Delta) bool {
	if !p.ready || d.Empty() {
		return false // the first run reads everything anyhow
	}
	p.pending = p.pending.Then(d)
	p.wake()
	return true
}

// Start implements manager.Runnable. When the node is known it reads all
// Services, brings the rules in line, and then follows changes until ctx ends.
// Rules stay when it ends.
func (p *Proxy) Start(ctx context.Context) error {
	if p.prepare != nil {
		if err := p.prepare(ctx); err != nil {
			return fmt.Errorf("services: %w", err)
		}
	}
	period := time.NewTicker(p.c.Period)
	defer period.Stop()
	for {
		began := time.Now()
		failed := p.step(ctx) != nil
		select { // the shortest time between two runs
		case <-ctx.Done():
			return nil
		case <-time.After(p.c.Delay - time.Since(began)):
		}
		if failed {
			select { // it is worth another try soon, but not at once
			case <-ctx.Done():
				return nil
			case <-time.After(min(5*p.c.Delay, p.c.Period)):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		case <-period.C:
			p.mu.Lock()
			p.full = true
			p.mu.Unlock()
		}
	}
}

// step does what there is to do.
func (p *Proxy) step(ctx context.Context) error {
	switch known, err := p.readAll(ctx); {
	case err != nil:
		return p.done(Outcome{Full: true, Err: err}, time.Now(), nil)
	case !known:
		return nil
	}
	return p.run(ctx)
}

// readAll fills the table, if that is due. It says whether there is one.
func (p *Proxy) readAll(ctx context.Context) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil || p.ready {
		return p.ready, nil
	}
	var all corev1.ServiceList
	var eps discoveryv1.EndpointSliceList
	if err := errors.Join(p.c.Client.List(ctx, &all), p.c.Client.List(ctx, &eps)); err != nil {
		return false, fmt.Errorf("services: reading all: %w", err)
	}
	of := map[client.ObjectKey][]discoveryv1.EndpointSlice{}
	for _, e := range eps.Items {
		key := client.ObjectKey{Namespace: e.Namespace, Name: serviceOf(&e)}
		of[key] = append(of[key], e)
	}
	for i := range all.Items {
		p.set(&all.Items[i], of[client.ObjectKeyFromObject(&all.Items[i])])
	}
	p.ready = true
	return true, nil
}

// job is what one run of the loader is to do.
type job struct {
	delta    ipnat.Delta
	full     bool
	moved    bool
	print    ipnat.Fingerprint
	refuse   []ipnat.Refusal
	unrefuse []ipnat.Refusal
	synced   bool
	causes   []time.Time
}

func (p *Proxy) take() job {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := job{delta: p.pending, full: p.full, moved: p.moved, print: p.table.Fingerprint(), refuse: p.node.Refuse, unrefuse: p.unrefuse,
		synced: p.synced, causes: p.causes.take()}
	p.pending, p.full, p.moved = ipnat.Delta{}, false, false
	return j
}

// rules returns all that should be there now; it may be newer than what was
// pending.
func (p *Proxy) rules() ipnat.Rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = ipnat.Delta{}
	return p.table.Rules()
}

// run makes what is pending, or everything. After a failure the next run does
// everything.
func (p *Proxy) run(ctx context.Context) error {
	j, began := p.take(), time.Now()
	if !j.full && j.delta.Empty() {
		return nil // what was pending has been done on the way
	}
	out := Outcome{Rules: j.print.Rules, Full: j.full}
	lost := false
	if !j.full {
		if out.Report, out.Err = p.c.Loader.Apply(ctx, j.delta); out.Err == nil {
			return p.done(out, began, j.causes)
		}
		out.Full, lost = true, errors.Is(out.Err, ipnat.ErrDrift)
	}
	same := false
	if same, out.Report, out.Err = p.c.Loader.Matches(ctx, j.print); !same {
		out.Report, out.Err = p.c.Loader.Sync(ctx, p.rules())
	}
	if errors.Is(out.Err, ipnat.ErrOff) {
		lost = true
		if out.Err = p.c.Loader.Enable(ctx); out.Err == nil {
			out.Report, out.Err = p.c.Loader.Sync(ctx, p.rules())
		}
	}
	out.Repair = j.synced && (lost || !j.moved && j.delta.Empty() && out.Added+out.Removed > 0)
	loaded := out.Err == nil
	if loaded {
		out.Tables, out.Err = p.c.Loader.CheckTables(ctx, out.Rules)
	}
	// Rules first: what nobody serves is refused, or waits for its timeout.
	out.Err = errors.Join(out.Err, p.refusals(ctx, j))
	p.mu.Lock()
	p.full, p.synced = p.full || out.Err != nil, p.synced || loaded
	p.mu.Unlock()
	return p.done(out, began, j.causes)
}

func (p *Proxy) refusals(ctx context.Context, j job) error {
	if err := p.c.Loader.Unrefuse(ctx, j.unrefuse); err != nil {
		return err
	}
	p.mu.Lock()
	p.unrefuse = p.unrefuse[len(j.unrefuse):]
	p.mu.Unlock()
	return p.c.Loader.Refuse(ctx, j.refuse)
}

// done tells of a run. What caused the changes of one that failed is not told.
func (p *Proxy) done(out Outcome, began time.Time, causes []time.Time) error {
	for _, at := range causes {
		if out.Err == nil {
			out.Latencies = append(out.Latencies, time.Since(at))
		}
	}
	out.Took = time.Since(began)
	if p.c.Done != nil {
		p.c.Done(out)
	}
	return out.Err
}
