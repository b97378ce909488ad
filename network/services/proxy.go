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
	Client client.Reader // Services and EndpointSlices, from a cache
	Loader *ipnat.Loader
	Node   ipnat.Node

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
	Err    error

	// Latencies are how long ago the changes of endpoints that are in force now
	// were caused, as the EndpointSlices' annotation tells it.
	Latencies []time.Duration
}

// Proxy keeps a node's rules equal to the cluster's Services. Reconcile tells it
// of changes, Start makes them.
type Proxy struct {
	c    Config
	kick chan struct{} // holds one: something is pending

	mu      sync.Mutex
	causes  causes
	table   *ipnat.Table
	ready   bool // all Services are in the table
	pending ipnat.Delta
	full    bool // the next run reads all rules
	synced  bool // the rules were in line once
}

// New returns a Proxy. The error says what is wrong with the node.
func New(c Config) (*Proxy, error) {
	table, err := ipnat.NewTable(c.Node)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	c.Delay, c.Period = cmp.Or(c.Delay, 200*time.Millisecond), cmp.Or(c.Period, 30*time.Second)
	return &Proxy{c: c, kick: make(chan struct{}, 1), table: table, full: true, causes: newCauses()}, nil
}

// Reconcile implements reconcile.Reconciler: the request names a Service. It
// only notes what changes.
func (p *Proxy) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	// The lock is held while the cache is read, so that an older reading never
	// replaces a newer one.
	p.mu.Lock()
	defer p.mu.Unlock()
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
	err := p.c.Client.List(ctx, &list, client.InNamespace(req.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: req.Name})
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
	select {
	case p.kick <- struct{}{}:
	default: // it is known already
	}
	return true
}

// Start implements manager.Runnable. It reads all Services, brings the rules in
// line, and then follows changes until ctx ends. Rules stay when it ends.
func (p *Proxy) Start(ctx context.Context) error {
	if err := p.readAll(ctx); err != nil {
		return err
	}
	period := time.NewTicker(p.c.Period)
	defer period.Stop()
	for {
		began := time.Now()
		failed := p.run(ctx) != nil
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

// readAll fills the table.
func (p *Proxy) readAll(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all corev1.ServiceList
	var eps discoveryv1.EndpointSliceList
	if err := errors.Join(p.c.Client.List(ctx, &all), p.c.Client.List(ctx, &eps)); err != nil {
		return fmt.Errorf("services: reading all: %w", err)
	}
	of := map[client.ObjectKey][]discoveryv1.EndpointSlice{}
	for _, e := range eps.Items {
		key := client.ObjectKey{Namespace: e.Namespace, Name: e.Labels[discoveryv1.LabelServiceName]}
		of[key] = append(of[key], e)
	}
	for i := range all.Items {
		p.set(&all.Items[i], of[client.ObjectKeyFromObject(&all.Items[i])])
	}
	p.ready = true
	return nil
}

// run makes what is pending, or everything. After a failure the next run does
// everything.
func (p *Proxy) run(ctx context.Context) error {
	p.mu.Lock()
	d, full, rules := p.pending, p.full, ipnat.Rules(nil)
	out := Outcome{Rules: p.table.Count(), Full: full}
	if full {
		rules = p.table.Rules()
	}
	synced := p.synced
	p.pending, p.full = ipnat.Delta{}, false
	causes := p.causes.take()
	p.mu.Unlock()

	lost := false
	if !full {
		if out.Report, out.Err = p.c.Loader.Apply(ctx, d); out.Err == nil {
			return p.done(out, causes)
		}
		p.mu.Lock()
		rules = p.table.Rules() // newer than what Apply was given is fine
		p.pending = ipnat.Delta{}
		p.mu.Unlock()
		out.Full, lost = true, errors.Is(out.Err, ipnat.ErrDrift)
	}
	out.Report, out.Err = p.c.Loader.Sync(ctx, rules)
	if errors.Is(out.Err, ipnat.ErrOff) {
		lost = true
		if out.Err = p.c.Loader.Enable(ctx); out.Err == nil {
			out.Report, out.Err = p.c.Loader.Sync(ctx, rules)
		}
	}
	out.Repair = synced && (lost || d.Empty() && out.Added+out.Removed > 0)
	p.mu.Lock()
	p.full, p.synced = p.full || out.Err != nil, synced || out.Err == nil
	p.mu.Unlock()
	return p.done(out, causes)
}

// done tells of a run. What caused the changes of one that failed is not told.
func (p *Proxy) done(out Outcome, causes []time.Time) error {
	for _, at := range causes {
		if out.Err == nil {
			out.Latencies = append(out.Latencies, time.Since(at))
		}
	}
	if p.c.Done != nil {
		p.c.Done(out)
	}
	return out.Err
}
