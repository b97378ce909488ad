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
	short  map[corev1.NodeConditionType]time.Time // when something was last short
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
	return &Provider{cfg: c, short: map[corev1.NodeConditionType]time.Time{}}, nil
}

// Node returns the Node to register.
func (p *Provider) Node(ctx context.Context) *corev1.Node {
	now := time.Now()
	n := p.cfg.Object(ctx, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holdLocked(n, now)
	p.last = n
	return n.DeepCopy()
}

// Pressures returns the pressure conditions that the node has.
func (p *Provider) Pressures() []corev1.NodeConditionType {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return nil
	}
	var out []corev1.NodeConditionType
	for _, c := range p.last.Status.Conditions {
		if isPressure(c.Type) && c.Status == corev1.ConditionTrue {
			out = append(out, c.Type)
		}
	}
	return out
}

func isPressure(t corev1.NodeConditionType) bool {
	return t == corev1.NodeMemoryPressure || t == corev1.NodeDiskPressure || t == corev1.NodePIDPressure
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
		now := time.Now()
		n, left := p.cfg.object(ctx, now)
		p.callForRoom(left)
		p.hold(n, now)
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

// pressureLasts is how long a shortage that is over goes on to be told, so that
// pods are not sent here and away again in turn: a kubelet's
// evictionPressureTransitionPeriod.
const pressureLasts = 5 * time.Minute

// callForRoom is asked of what was read, not of a shortage that only lasts on.
func (p *Provider) callForRoom(left Left) {
	switch {
	case p.cfg.Short == nil:
	case left.memoryIsShort():
		p.cfg.Short(corev1.NodeMemoryPressure, left.MemoryBytes, leastMemory)
	case left.storageIsShort():
		p.cfg.Short(corev1.NodeDiskPressure, left.StorageBytes, left.storageThreshold())
	}
}

func (p *Provider) hold(n *corev1.Node, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holdLocked(n, now)
}

// holdLocked lets shortages in n last.
func (p *Provider) holdLocked(n *corev1.Node, now time.Time) {
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		if !isPressure(c.Type) {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			p.short[c.Type] = now
			continue
		}
		if was, ok := p.short[c.Type]; ok && now.Sub(was) < pressureLasts && p.last != nil {
			for _, before := range p.last.Status.Conditions {
				if before.Type == c.Type && before.Status == corev1.ConditionTrue {
					c.Status, c.Reason, c.Message = before.Status, before.Reason, before.Message
				}
			}
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
