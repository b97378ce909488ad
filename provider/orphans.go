package provider

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
)

// orphanEvery is how often the host is searched for what no pod has.
const orphanEvery = time.Minute

// orphans remembers since when something has had no pod.
type orphans struct {
	p     *Provider
	since map[string]time.Time // by UID, or name of a link
}

// collectOrphans removes zones and datasets of ours whose pod is gone from the
// API server and that have been without a pod for long enough. Nothing is
// removed on the word of a cache alone, nor before the cache is filled.
func (p *Provider) collectOrphans(ctx context.Context) {
	o := orphans{p: p, since: map[string]time.Time{}}
	ticker := time.NewTicker(orphanEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if p.c.Lister.Synced() {
				o.sweep(ctx)
			}
		}
	}
}

// reserveOrphans takes what zones without a record hold out of the pools, so
// that it is not given to another pod while they are there. It comes before the
// first worker.
func (p *Provider) reserveOrphans(ctx context.Context) {
	o := orphans{p: p}
	for uid, attrs := range o.zones(ctx) {
		if slot, err := strconv.Atoi(attrs[translate.AttrSlot]); err == nil && slot > 0 {
			o.warn(uid, o.p.c.Slots.Claim(uid, slot))
		}
		for _, text := range strings.Split(attrs[translate.AttrAddresses], ",") {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			if pool := o.p.poolOf(a); pool != nil {
				o.warn(uid, pool.Claim(uid, a))
			}
		}
	}
}

func (o orphans) warn(uid string, err error) {
	if err != nil {
		o.p.c.Log.Errorf("zone %s has no record, and what it holds is not free: %v", translate.ZoneName(uid), err)
	}
}

// zones returns the attributes of zones that carry our mark and have no
// worker, by UID.
func (o orphans) zones(ctx context.Context) map[string]map[string]string {
	found := map[string]map[string]string{}
	for _, z := range o.p.survey.all() {
		uid, ours := strings.CutPrefix(z.Name, translate.ZonePrefix)
		if !ours || o.p.worker(uid) != nil {
			continue
		}
		attrs, err := o.p.c.Zones.Attrs(ctx, z.Name)
		if err == nil && attrs[translate.AttrUID] == uid {
			found[uid] = attrs
		}
	}
	return found
}

// sweep makes workers for what has been without a pod for too long. Their only
// wish is to remove it.
func (o orphans) sweep(ctx context.Context) {
	present := map[string]bool{}
	for uid, attrs := range o.zones(ctx) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			UID: types.UID(uid), Namespace: attrs[translate.AttrNamespace], Name: attrs[translate.AttrName],
		}}
		if pod.Name == "" || pod.Namespace == "" {
			continue
		}
		present[uid] = true
		if !o.old(uid) {
			continue
		}
		if gone, err := o.p.vanished(ctx, pod); err != nil || !gone {
			continue
		}
		slot, _ := strconv.Atoi(attrs[translate.AttrSlot])
		o.remove(pod, max(slot, 0))
	}
	o.sweepMounts(ctx, present)
	o.sweepDatasets(ctx, present)
	o.sweepLinks(ctx, present)
	for uid := range o.since {
		if !present[uid] {
			delete(o.since, uid)
		}
	}
}

// old reports whether uid has been without a worker for long enough, by our own
// clock: zones do not say when they were made.
func (o orphans) old(uid string) bool {
	first, ok := o.since[uid]
	if !ok {
		o.since[uid] = time.Now()
		return false
	}
	return time.Since(first) >= o.p.c.OrphanAge
}

// sweepDatasets does the same for datasets without a zone. They do not say
// which pod's they are but by its UID, so the pods of this node are asked.
func (o orphans) sweepDatasets(ctx context.Context, present map[string]bool) {
	pods, err := o.p.c.Storage.Pods(ctx)
	if err != nil {
		o.p.c.Log.Warnf("datasets cannot be searched for orphans: %v", err)
		return
	}
	for _, d := range pods {
		if present[d.UID] || o.p.worker(d.UID) != nil || o.p.c.Lister.Has(d.UID) {
			continue
		}
		present[d.UID] = true
		if time.Since(d.Created) < o.p.c.OrphanAge || !o.old(d.UID) {
			continue
		}
		o.p.c.Log.Infof("the datasets of pod %s are removed: there is no such pod", d.UID)
		if err := o.p.c.Storage.RemovePod(ctx, d.UID); err != nil {
			o.p.c.Log.Warnf("the datasets of pod %s: %v", d.UID, err)
		}
	}
}

// sweepLinks removes links of ours that belong to no slot. A slot is taken
// before its link is made and given back after it is removed, and zones
// without a record have theirs reserved, so such a link is nobody's.
func (o orphans) sweepLinks(ctx context.Context, present map[string]bool) {
	vnics, err := o.p.c.Links.VNICs(ctx)
	if err != nil {
		o.p.c.Log.Warnf("links cannot be searched for orphans: %v", err)
		return
	}
	taken := map[string]bool{}
	for _, slot := range o.p.c.Slots.Owners() {
		taken[translate.LinkName(slot)] = true
	}
	for _, v := range vnics {
		slot, err := strconv.Atoi(strings.TrimPrefix(v.Name, "rdw"))
		if err != nil || slot <= 0 || translate.LinkName(slot) != v.Name || taken[v.Name] {
			continue
		}
		present[v.Name] = true
		if !o.old(v.Name) {
			continue
		}
		o.p.c.Log.Infof("link %s is removed: no pod has it", v.Name)
		if err := o.p.c.Links.RemoveVNIC(ctx, v.Name); err != nil {
			o.p.c.Log.Warnf("link %s: %v", v.Name, err)
		}
	}
}

// remove starts a worker that takes an orphan down.
func (o orphans) remove(pod *corev1.Pod, slot int) {
	p, uid := o.p, string(pod.UID)
	p.c.Log.Infof("zone %s is removed: pod %s/%s is gone", translate.ZoneName(uid), pod.Namespace, pod.Name)
	now := time.Now()
	w := newWorker(p, pod, ledger.State{
		Version: ledger.Version, UID: uid, Accepted: now, Slot: slot,
		Deletion: &ledger.Deletion{At: now, Grace: grace(pod)},
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.workers[uid]; ok || p.start == nil {
		return
	}
	delete(p.corrupt, uid)
	p.workers[uid] = w
	p.start(w)
}
