package provider

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/globalzone"
	"reddwarf.io/reddwarf/zones/podinit"
)

// machineSession is the session's host as far as it measures.
type machineSession struct{ session }

// fakeUse is what zones and datasets of a fakeHost use; it is kept under the
// host's mutex.
type fakeUse struct {
	zones      map[int]globalzone.ZoneUsage
	containers map[string]podinit.ContainerUsage
	space      map[string]storage.PodUsage // by UID
	err        error

	available, freeing int64 // of the pool; 0 for much and nothing
}

// use changes what the host measures.
func (h *fakeHost) use(edit func(u *fakeUse)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used.zones == nil {
		h.used = fakeUse{
			zones: map[int]globalzone.ZoneUsage{}, containers: map[string]podinit.ContainerUsage{}, space: map[string]storage.PodUsage{},
		}
	}
	edit(&h.used)
}

// Usage implements Host. Zones that do not run have no usage.
func (m machineSession) Usage(context.Context) (globalzone.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used.err != nil {
		return globalzone.Usage{}, m.used.err
	}
	m.commands = append(m.commands, "kstat")
	u := globalzone.Usage{
		At: time.Now(), Memory: 8 << 30, Free: 4 << 30, Available: 5 << 30, Processes: 50, MaxProcs: 30000,
		Zones: map[int]globalzone.ZoneUsage{}, Links: map[string]globalzone.LinkUsage{"rdw1": {RxBytes: 10, TxBytes: 20}},
	}
	for _, z := range m.fakeHost.zones {
		if z.state == zones.Running {
			u.Zones[z.id] = m.used.zones[z.id]
		}
	}
	return u, nil
}

// Refused implements Host.
func (m machineSession) Refused(_ context.Context, zone int) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used.zones[zone].Refused, m.used.err
}

// Usage implements Storage: the pods that have a dataset.
func (s storageSession) Usage(context.Context) (map[string]storage.PodUsage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]storage.PodUsage{}
	for name := range s.datasets {
		if uid, ok := strings.CutPrefix(name, "pods/"); ok && !strings.Contains(uid, "/") {
			out[uid] = s.used.space[uid]
		}
	}
	return out, nil
}

// Capacity implements Storage.
func (s storageSession) Capacity(context.Context) (storage.Capacity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := storage.Capacity{Total: 100 << 30, Available: 60 << 30}
	if s.used.available > 0 {
		c.Available = s.used.available
	}
	return c, s.used.err
}

// Freeing implements Storage.
func (s storageSession) Freeing(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used.freeing, s.used.err
}

// Images implements Storage.
func (s storageSession) Images(context.Context) ([]storage.ImageDataset, error) {
	return []storage.ImageDataset{{ID: "web1", Complete: true, Used: 1 << 20}}, nil
}

// Usage implements Podinit.
func (c fakeChannel) Usage(context.Context) ([]podinit.ContainerUsage, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.used.containers == nil {
		return nil, errors.New("podinit: request usage: unknown operation") // one of an older agent
	}
	var all []podinit.ContainerUsage
	for u := range maps.Values(c.s.used.containers) {
		u.At = time.Now()
		all = append(all, u)
	}
	return all, nil
}
