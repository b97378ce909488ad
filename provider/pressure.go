package provider

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

// Short says that the node is short of a resource, so that pods have to go. It does
// not wait.
func (p *Provider) Short(s translate.Shortage) {
	select {
	case p.shortages <- s:
	default: // one is being seen to
	}
}

// watchPressure evicts pods of a node that is short of something, until ctx ends.
func (p *Provider) watchPressure(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-p.shortages:
			if err := p.evictForShortage(ctx, s); err != nil && ctx.Err() == nil {
				p.c.Log.Warnf("the node is short of %s, and no pod can be chosen to go: %v", s.Resource, err)
			}
		}
	}
}

// evictForShortage evicts one pod. The next one goes only after it has let go of
// what it used, and if that was not enough.
func (p *Provider) evictForShortage(ctx context.Context, s translate.Shortage) error {
	summary, err := p.StatsSummary(ctx)
	if err != nil {
		return err
	}
	var workers []*worker
	var all []translate.Consumer
	for _, w := range p.all() {
		w.mu.Lock()
		pod, going, evicted := w.pod, w.st.End != nil || w.st.Deletion != nil, w.st.End != nil && w.st.End.Disrupted
		w.mu.Unlock()
		if evicted && active(p.survey.zone(w.zone).State) {
			return nil
		}
		for _, stats := range summary.Pods {
			if !going && stats.PodRef.UID == w.uid {
				workers, all = append(workers, w), append(all, translate.Consumer{Pod: pod, Stats: stats})
			}
		}
	}
	node := &corev1.ObjectReference{Kind: "Node", Name: p.c.Node.Name, UID: types.UID(p.c.Node.Name)}
	p.c.Events.Eventf(node, corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", s.Resource)
	i := translate.Victim(all, s.Resource)
	if i < 0 {
		return nil // nothing here that may go
	}
	return workers[i].evictWith(ledger.End{
		Phase: corev1.PodFailed, Reason: translate.ReasonEvicted, Message: translate.ShortMessage(all[i], s),
		At: time.Now(), Grace: evictGrace, Disrupted: true,
	})
}

// active reports whether a zone in that state may have processes.
func active(s zones.State) bool {
	switch s {
	case zones.Absent, zones.Configured, zones.Incomplete, zones.Installed:
		return false
	}
	return true
}
