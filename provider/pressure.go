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

// cleanupTime is how long after its grace period an evicted pod is waited for
// before another one may go, a kubelet's podCleanupTimeout.
const cleanupTime = 30 * time.Second

// evictForShortage evicts one pod. The next one goes only after it has let go of
// what it used, and if that was not enough.
func (p *Provider) evictForShortage(ctx context.Context, s translate.Shortage) error {
	space := s.Resource == corev1.ResourceEphemeralStorage
	if space {
		var err error
		if s.Available, err = p.makeSpace(ctx); err != nil || s.Available >= s.Threshold {
			return err
		}
	}
	summary, err := p.sampler.summary(ctx, space)
	if err != nil {
		return err
	}
	var workers []*worker
	var all []translate.Consumer
	for _, w := range p.all() {
		w.mu.Lock()
		pod, going, leaving := w.pod, w.st.End != nil || w.st.Deletion != nil, awaited(w.pod, w.st)
		released := w.st.Released
		w.mu.Unlock()
		if leaving && (active(p.survey.zone(w.zone).State) || space && !released) {
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

// awaited reports whether a pod was evicted so short a time ago that it is about
// to let go of what it used: of memory when its zone is down, of space when its
// datasets are gone.
func awaited(pod *corev1.Pod, st ledger.State) bool {
	if st.End == nil || st.End.Reason != translate.ReasonEvicted && !st.End.Disrupted {
		return false
	}
	g := grace(pod)
	if st.End.Grace > 0 {
		g = st.End.Grace
	}
	return time.Since(st.End.At) < g+cleanupTime
}

// makeSpace removes what nobody needs and returns how much space there is then,
// together with what ZFS has yet to give back of datasets that are gone.
func (p *Provider) makeSpace(ctx context.Context) (int64, error) {
	if p.c.RelieveSpace != nil {
		if err := p.c.RelieveSpace(ctx); err != nil && ctx.Err() == nil {
			p.c.Log.Warnf("the node is short of space, and what nobody uses cannot be removed: %v", err)
		}
	}
	have, err := p.c.Storage.Capacity(ctx)
	if err != nil {
		return 0, err
	}
	freeing, err := p.c.Storage.Freeing(ctx)
	return have.Available + freeing, err
}

// active reports whether a zone in that state may have processes.
func active(s zones.State) bool {
	switch s {
	case zones.Absent, zones.Configured, zones.Incomplete, zones.Installed:
		return false
	}
	return true
}
