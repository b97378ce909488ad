package supervisor

import (
	"maps"
	"slices"
	"time"

	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
)

// living is a container in a handover.
type living struct {
	Spec  podinit.Container      `json:"spec"`
	Root  string                 `json:"root"`
	Main  int                    `json:"main"`
	Leads []int                  `json:"leads"`
	Gone  time.Duration          `json:"gone"`
	Most  time.Duration          `json:"most"`
	Begun map[logs.Stream][]byte `json:"begun,omitempty"` // lines that have no end yet

	// Open files, -1 for none.
	Terminal int `json:"terminal"`
	Stdin    int `json:"stdin"`
	Stdout   int `json:"stdout"`
	Stderr   int `json:"stderr"`
}

// handOver describes the container, whose output is paused.
func (c *container) handOver(kept *openFiles) living {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.output.streams
	return living{
		Spec: c.spec, Root: c.root, Main: c.main, Leads: slices.Collect(maps.Keys(c.leads)),
		Gone: c.usage.gone, Most: c.usage.most, Begun: c.output.begun(),
		Terminal: kept.addOpen(s.pty), Stdin: kept.addOpen(s.stdin), Stdout: kept.addOpen(s.out), Stderr: kept.addOpen(s.err),
	}
}

// continueContainer goes on with a container that runs.
func (s *Supervisor) continueContainer(l living) {
	c := newContainer(s, l.Spec)
	c.root, c.main = l.Root, l.Main
	c.usage = usage{gone: l.Gone, most: l.Most}
	for _, pid := range l.Leads {
		c.leads[pid] = true
	}
	streams := &streams{pty: reopen(l.Terminal), stdin: reopen(l.Stdin), out: reopen(l.Stdout), err: reopen(l.Stderr)}
	c.output = newOutput(logs.Continue(c.logPath(), logs.DefaultLimits), streams, l.Spec, l.Begun)
	c.output.run()
	exited := s.reaper.expect(l.Main)
	close(c.started)
	s.containers[l.Spec.Name] = c
	s.work.Go(func() {
		defer close(c.done)
		c.finish(exited)
	})
}
