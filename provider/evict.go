package provider

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
)

const (
	// evictEvery is how often pods are held against what they may write, a
	// kubelet's monitoring interval.
	evictEvery = 10 * time.Second
	// evictGrace is what an evicted pod's containers get, as a kubelet's.
	evictGrace = time.Second
)

// watchStorage evicts the pods that have written more than their limits, until
// ctx ends.
func (p *Provider) watchStorage(ctx context.Context) {
	ticker := time.NewTicker(evictEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := p.evictFull(ctx); err != nil && ctx.Err() == nil {
			p.c.Log.Warnf("what pods have written cannot be measured: %v", err)
		}
	}
}

// evictFull looks once. It asks the host nothing while no pod has a limit.
func (p *Provider) evictFull(ctx context.Context) error {
	var limited []*worker
	for _, w := range p.all() {
		w.mu.Lock()
		if w.st.End == nil && w.st.Deletion == nil && translate.LimitsStorage(w.pod) {
			limited = append(limited, w)
		}
		w.mu.Unlock()
	}
	if len(limited) == 0 {
		return nil
	}
	usage, err := p.c.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	for _, w := range limited {
		u, ok := usage[w.uid]
		if !ok {
			continue
		}
		if message := translate.OverStorage(w.object(), u, w.logSizes()); message != "" {
			if err := w.evict(message); err != nil {
				p.c.Log.Errorf("pod %s/%s: eviction: %v", w.namespace, w.name, err)
			}
		}
	}
	return nil
}

// evict ends the pod. Its zone and what it has written go.
func (w *worker) evict(message string) error {
	return w.evictWith(ledger.End{
		Phase: corev1.PodFailed, Reason: translate.ReasonEvicted, Message: message, At: time.Now(), Grace: evictGrace,
	})
}

func (w *worker) evictWith(end ledger.End) error {
	pod, done := w.object(), false
	err := w.change(func(st *ledger.State) {
		if st.End == nil && st.Deletion == nil {
			st.End, done = &end, true
		}
	})
	if err != nil || !done {
		return err
	}
	w.eventOn(pod, nil, corev1.EventTypeWarning, end.Reason, "%s", end.Message)
	w.poke()
	return nil
}
