package supervisor

import (
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
)

// usage is what an attempt of a container has used, as far as its living
// processes do not say it themselves.
type usage struct {
	gone time.Duration // of processes that podinit started in it and waited for
	most time.Duration // the largest sum that was ever told
}

// spent adds what a process of the container had used by its end.
func (c *container) spent(cpu time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.usage.gone += cpu
}

// measure returns what the attempt has used up to now.
//
// A process counts with those of its children that it waited for. What an
// orphan had used is lost with it, so the sum could shrink; it is then told
// as it was until it has grown past that, because a counter that falls counts
// as one that began anew.
func (c *container) measure(all []proc, at map[int]proc) podinit.ContainerUsage {
	var cpu time.Duration
	var rss uint64
	for _, pid := range c.among(all) {
		cpu += at[pid].cpu
		rss += at[pid].rss
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.usage.most = max(c.usage.most, c.usage.gone+cpu)
	return podinit.ContainerUsage{
		Name: c.spec.Name, Attempt: c.spec.Attempt,
		CPU: c.usage.most, RSS: rss, At: time.Now(),
	}
}

// usages measures every container that lives.
func (s *Supervisor) usages() []podinit.ContainerUsage {
	s.mu.Lock()
	var live []*container
	for _, c := range s.containers {
		live = append(live, c)
	}
	s.mu.Unlock()
	all := processes()
	at := make(map[int]proc, len(all))
	for _, p := range all {
		at[p.pid] = p
	}
	var out []podinit.ContainerUsage
	for _, c := range live {
		if c.alive() {
			out = append(out, c.measure(all, at))
		}
	}
	return out
}
