package provider

import (
	"context"
	"fmt"
	"sync"
	"time"

	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/globalzone"
	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Host tells what the machine and its zones use.
type Host interface {
	// Usage tells of everything, by one command.
	Usage(ctx context.Context) (globalzone.Usage, error)
	// Refused returns how many allocations of a running zone have failed
	// because of its cap on memory.
	Refused(ctx context.Context, zone int) (uint64, error)
}

const (
	// usageAge is how old an answer about processors and memory may be, as a
	// kubelet's is. Whoever asks more often gets the same answer again.
	usageAge = 10 * time.Second
	// spaceAge is the same for file systems, a kubelet's volumeStatsAggPeriod.
	spaceAge = time.Minute
	// usageTime bounds the wait for one podinit, and usageCalls how many are
	// asked at once.
	usageTime  = 2 * time.Second
	usageCalls = 8
)

// sampler measures what the node and its pods use, when somebody asks and no
// oftener than is worth it.
type sampler struct {
	p *Provider

	mu           sync.Mutex // held while measuring, so that those who ask at once share it
	last, before *sample
	space        *space
}

// sample is one measurement of processors and memory.
type sample struct {
	host globalzone.Usage
	pods map[string]podSample // by UID
}

// podSample is the part of one pod whose zone runs.
type podSample struct {
	worker     *worker
	zone       zones.Zone
	containers map[string]podinit.ContainerUsage
}

// space is one measurement of file systems.
type space struct {
	at       time.Time
	pods     map[string]storage.PodUsage // by UID
	logs     map[string]map[string]int64 // by UID and container
	capacity storage.Capacity
	images   int64
}

// StatsSummary returns what the node and the pods that run here use.
func (p *Provider) StatsSummary(ctx context.Context) (*statsv1alpha1.Summary, error) {
	return p.sampler.summary(ctx, false)
}

// summary is made with the space as it is now if that is asked for.
func (s *sampler) summary(ctx context.Context, newSpace bool) (*statsv1alpha1.Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := s.running()
	if !s.fresh(running) {
		if err := s.measure(ctx, running); err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
	}
	if newSpace {
		s.space = nil
	}
	if err := s.measureSpace(ctx, running); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	node := translate.NodeMeasured{
		Name: s.p.c.Node.Name, Usage: s.last.host,
		Capacity: s.space.capacity, CapacityAt: s.space.at, Images: s.space.images,
	}
	if s.before != nil {
		node.Before = &s.before.host
	}
	out := &statsv1alpha1.Summary{Node: translate.NodeStats(node), Pods: []statsv1alpha1.PodStats{}}
	for uid := range running {
		if now, ok := s.measured(s.last, uid); ok {
			if before, ok := s.measured(s.before, uid); ok && s.before.pods[uid].zone.ID == s.last.pods[uid].zone.ID {
				now.Before = &before
			}
			out.Pods = append(out.Pods, translate.PodStats(now))
		}
	}
	return out, nil
}

// running are the pods whose zones run, with them.
func (s *sampler) running() map[string]podSample {
	out := map[string]podSample{}
	for _, w := range s.p.all() {
		if z := s.p.survey.zone(w.zone); z.State == zones.Running && z.ID >= 0 {
			out[w.uid] = podSample{worker: w, zone: z}
		}
	}
	return out
}

// fresh reports whether the last sample will do: it is young, and knows every
// zone that runs.
func (s *sampler) fresh(running map[string]podSample) bool {
	if s.last == nil || time.Since(s.last.host.At) >= usageAge {
		return false
	}
	for uid, p := range running {
		if have, ok := s.last.pods[uid]; !ok || have.zone.ID != p.zone.ID {
			return false
		}
	}
	return true
}

// measure takes a new sample.
func (s *sampler) measure(ctx context.Context, running map[string]podSample) error {
	host, err := s.p.c.Host.Usage(ctx)
	if err != nil {
		return err
	}
	next := &sample{host: host, pods: make(map[string]podSample, len(running))}
	var group sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, usageCalls)
	for uid, p := range running {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			p.containers = p.worker.usage(ctx, p.zone)
			mu.Lock()
			defer mu.Unlock()
			next.pods[uid] = p
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return err // what was not answered for that reason says nothing
	}
	// A rate needs some time to be made over: a sample that followed the last
	// one at once, for a zone that is new, does not become the older of the two.
	if s.last != nil && (s.before == nil || host.At.Sub(s.last.host.At) >= time.Second) {
		s.before = s.last
	}
	s.last = next
	return nil
}

// usage asks the zone's podinit. A zone that does not answer has no usage by
// container; that of the zone itself is known all the same.
func (w *worker) usage(ctx context.Context, z zones.Zone) map[string]podinit.ContainerUsage {
	ctx, cancel := context.WithTimeout(ctx, usageTime)
	defer cancel()
	all, err := w.p.c.Dial(z).Usage(ctx)
	if err != nil {
		return nil
	}
	out := make(map[string]podinit.ContainerUsage, len(all))
	for _, u := range all {
		out[u.Name] = u
	}
	return out
}

// measureSpace looks at the file systems again if it is time, or if a pod is
// new.
func (s *sampler) measureSpace(ctx context.Context, running map[string]podSample) error {
	if s.space != nil && time.Since(s.space.at) < spaceAge {
		known := true
		for uid := range running {
			_, ok := s.space.pods[uid]
			known = known && ok
		}
		if known {
			return nil
		}
	}
	pods, err := s.p.c.Storage.Usage(ctx)
	if err != nil {
		return err
	}
	capacity, err := s.p.c.Storage.Capacity(ctx)
	if err != nil {
		return err
	}
	images, err := s.p.c.Storage.Images(ctx)
	if err != nil {
		return err
	}
	next := &space{at: time.Now(), pods: pods, capacity: capacity, logs: map[string]map[string]int64{}}
	for _, i := range images {
		next.images += i.Used
	}
	for uid, p := range running {
		next.logs[uid] = p.worker.logSizes()
	}
	s.space = next
	return nil
}

// logSizes returns the bytes of each container's logs.
func (w *worker) logSizes() map[string]int64 {
	out := map[string]int64{}
	for _, c := range translate.EveryContainer(w.object()) {
		n, err := logs.Size(w.logDir(), c.Name)
		if err == nil {
			out[c.Name] = n
		}
	}
	return out
}

// measured puts together what one sample has of a pod.
func (s *sampler) measured(from *sample, uid string) (translate.Measured, bool) {
	if from == nil {
		return translate.Measured{}, false
	}
	p, ok := from.pods[uid]
	if !ok {
		return translate.Measured{}, false
	}
	zone, ok := from.host.Zones[p.zone.ID]
	if p.zone.Brand == translate.BrandHost {
		zone, ok = together(p.containers), true // zone 0 is everything else too
	}
	if !ok {
		return translate.Measured{}, false // it came up after the measurement
	}
	var st ledger.State
	p.worker.mu.Lock()
	st = p.worker.st.Clone()
	p.worker.mu.Unlock()
	m := translate.Measured{
		Pod: p.worker.object(), State: st, At: from.host.At, Zone: zone,
		Link: from.host.Links[translate.LinkName(st.Slot)], Containers: p.containers,
	}
	if usage, ok := s.space.pods[uid]; ok {
		m.Space, m.SpaceAt, m.Logs = usage, s.space.at, s.space.logs[uid]
	}
	return m, true
}

// together is what the containers of a host pod use: there is no zone whose
// counters would say it.
func together(containers map[string]podinit.ContainerUsage) globalzone.ZoneUsage {
	var z globalzone.ZoneUsage
	for _, u := range containers {
		z.CPU += u.CPU
		z.RSS += int64(u.RSS)
	}
	z.HasRSS = true
	return z
}
