package node

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Provider tells virtual-kubelet's node controller when the Node changed. It
// implements node.NodeProvider.
type Provider struct {
	cfg Config

	mu     sync.Mutex
	notify func(*corev1.Node)
	last   *corev1.Node
}

// NewProvider returns a Provider for a valid c.
func NewProvider(c Config) (*Provider, error) {
	if c.ReadEvery == 0 {
		c.ReadEvery = 10 * time.Second
	}
	if c.ReportIdle == 0 {
		c.ReportIdle = time.Minute
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Provider{cfg: c}, nil
}

// Node returns the Node to register.
func (p *Provider) Node(ctx context.Context) *corev1.Node {
	n := p.cfg.Object(ctx, time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = n
	return n.DeepCopy()
}

// Ping implements node.NodeProvider. That the agent answers is all that the
// lease stands for; a host in trouble is said by the Ready condition.
func (p *Provider) Ping(ctx context.Context) error { return ctx.Err() }

// NotifyNodeStatus implements node.NodeProvider.
func (p *Provider) NotifyNodeStatus(_ context.Context, cb func(*corev1.Node)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = cb
}

// Run reads the host until ctx ends and reports what changed. An unchanged
// node is reported too, every Config.ReportIdle: a patch of the node
// controller that was lost between two others would otherwise leave the node
// NotReady for ever.
func (p *Provider) Run(ctx context.Context) {
	tick := time.NewTicker(p.cfg.ReadEvery)
	defer tick.Stop()
	reported := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := p.cfg.Object(ctx, time.Now())
		if ctx.Err() != nil {
			return
		}
		changed := p.keep(n)
		if changed || time.Since(reported) >= p.cfg.ReportIdle {
			p.report(n)
			reported = time.Now()
		}
	}
}

// keep makes n the last known node, with the transition times of conditions
// that did not change, and says whether anything but heartbeats differs.
func (p *Provider) keep(n *corev1.Node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := true
	if p.last != nil {
		for i := range n.Status.Conditions {
			now := &n.Status.Conditions[i]
			for _, before := range p.last.Status.Conditions {
				if before.Type == now.Type && before.Status == now.Status {
					now.LastTransitionTime = before.LastTransitionTime
				}
			}
		}
		changed = !equality.Semantic.DeepEqual(withoutHeartbeats(n), withoutHeartbeats(p.last))
	}
	p.last = n.DeepCopy()
	return changed
}

func (p *Provider) report(n *corev1.Node) {
	p.mu.Lock()
	notify := p.notify
	p.mu.Unlock()
	if notify != nil {
		notify(n.DeepCopy())
	}
}

func withoutHeartbeats(n *corev1.Node) *corev1.Node {
	n = n.DeepCopy()
	for i := range n.Status.Conditions {
		n.Status.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return n
}
