package provider

import (
	"context"
	"sync"
	"time"

	"reddwarf.io/reddwarf/zones"
)

// survey is what is known of the host's zones: one listing serves all workers.
// It is made every interval and when somebody asks: the interval bounds how long
// the end of a zone that nobody talks to goes unseen, because a zone that
// podinit was heard in is looked at as soon as the conversation breaks.
//
// A command of ours that succeeded is as good as a listing that began after
// it, so workers tell the survey (learn) and need no process to look at what
// they just did. A command that failed says nothing: then they ask (refresh).
type survey struct {
	list     func(context.Context) ([]zones.Zone, error)
	interval time.Duration
	changed  func(zone string) // called without the lock

	ask chan struct{} // capacity 1

	mu        sync.Mutex
	known     map[string]sighting
	begun     uint64        // listings begun
	completed uint64        // the newest listing that was taken in
	clock     uint64        // orders listings and what was learned
	ended     chan struct{} // closed when a listing ends, and replaced
	err       error         // of the newest listing
}

type sighting struct {
	zone zones.Zone
	at   uint64 // clock
}

func newSurvey(list func(context.Context) ([]zones.Zone, error), interval time.Duration, changed func(string)) *survey {
	return &survey{
		list: list, interval: interval, changed: changed,
		ask: make(chan struct{}, 1), known: map[string]sighting{}, ended: make(chan struct{}),
	}
}

// run lists until ctx ends.
func (s *survey) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.ask:
		}
		s.once(ctx)
		timer.Reset(s.interval)
	}
}

// once makes one listing and takes it in.
func (s *survey) once(ctx context.Context) {
	s.mu.Lock()
	s.begun++
	s.clock++
	number, began := s.begun, s.clock
	s.mu.Unlock()
	all, err := s.list(ctx)
	s.mu.Lock()
	var changed []string
	if err == nil {
		changed = s.takeLocked(all, began)
		s.completed = number
	}
	s.err = err
	close(s.ended)
	s.ended = make(chan struct{})
	s.mu.Unlock()
	for _, name := range changed {
		s.changed(name)
	}
}

// takeLocked replaces what was known before the listing began and returns the
// zones whose state differs.
func (s *survey) takeLocked(all []zones.Zone, began uint64) []string {
	var changed []string
	seen := make(map[string]bool, len(all))
	for _, z := range all {
		seen[z.Name] = true
		have, ok := s.known[z.Name]
		if ok && have.at > began {
			continue
		}
		s.known[z.Name] = sighting{z, began}
		if !ok || have.zone.State != z.State || have.zone.ID != z.ID {
			changed = append(changed, z.Name)
		}
	}
	for name, have := range s.known {
		if !seen[name] && have.at <= began {
			delete(s.known, name)
			changed = append(changed, name)
		}
	}
	return changed
}

// zone returns what is known of a zone.
func (s *survey) zone(name string) zones.Zone {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.known[name]; ok {
		return have.zone
	}
	return zones.Zone{ID: -1, Name: name, State: zones.Absent}
}

// all returns every zone that is known.
func (s *survey) all() []zones.Zone {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]zones.Zone, 0, len(s.known))
	for _, have := range s.known {
		out = append(out, have.zone)
	}
	return out
}

// learn records the state that a command of ours brought a zone to.
func (s *survey) learn(name string, state zones.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	z := zones.Zone{ID: -1, Name: name, State: state}
	if have, ok := s.known[name]; ok {
		z.Path, z.Brand, z.IPType = have.zone.Path, have.zone.Brand, have.zone.IPType
	}
	// Absent is kept too: a listing that began before must not bring it back.
	s.known[name] = sighting{z, s.clock}
}

// doubt makes a listing soon.
func (s *survey) doubt() {
	select {
	case s.ask <- struct{}{}:
	default: // asked for already
	}
}

// refresh returns when a listing that began after the call has been taken in.
func (s *survey) refresh(ctx context.Context) error {
	s.mu.Lock()
	target := s.begun + 1
	s.mu.Unlock()
	for {
		s.mu.Lock()
		ended, err := s.ended, s.err
		done, begun := s.completed >= target, s.begun >= target
		s.mu.Unlock()
		switch {
		case done:
			return nil
		case begun && err != nil:
			return err
		case !begun:
			s.doubt()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
		}
	}
}
