package supervisor

import (
	"encoding/json"
	"log"
	"os"
	"slices"
	"sync"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
)

// killedCode is the exit code of an attempt that ended with its zone, as a
// kubelet reports for a container that it finds dead: 128 + SIGKILL.
const (
	killedCode   = 137
	killedSignal = 9
)

// states keeps the state of every container, writes each change to a file and
// wakes those who watch.
type states struct {
	path string
	log  *log.Logger

	mu       sync.Mutex
	state    podinit.State
	watchers map[<-chan struct{}]chan<- struct{}
}

// newStates begins a boot. An attempt that an earlier boot ended stays as it
// was, and one that it left running is dead now.
func newStates(path string, spec podinit.Spec, boot string, before podinit.State, l *log.Logger) *states {
	s := &states{path: path, log: l, watchers: map[<-chan struct{}]chan<- struct{}{}}
	s.state = podinit.State{Version: podinit.Version, PodUID: spec.PodUID, Boot: boot}
	for _, c := range spec.Containers {
		s.state.Containers = append(s.state.Containers,
			podinit.ContainerState{Name: c.Name, Attempt: c.Attempt, Phase: podinit.Waiting})
	}
	if before.PodUID == spec.PodUID {
		for _, old := range before.Containers {
			s.inherit(old)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.save()
	return s
}

// continueStates goes on with the states of an earlier program of this process.
func continueStates(path string, state podinit.State, l *log.Logger) *states {
	return &states{path: path, log: l, state: state, watchers: map[<-chan struct{}]chan<- struct{}{}}
}

func (s *states) inherit(old podinit.ContainerState) {
	if old.Phase == podinit.Waiting {
		return
	}
	if old.Phase == podinit.Running {
		old.Phase = podinit.Exited
		old.ExitCode, old.Signal, old.PID = killedCode, killedSignal, 0
		old.FinishedAt = time.Now()
	}
	now := s.find(old.Name)
	if old.Attempt >= now.Attempt {
		*now = old
	}
}

// find returns the entry of a container, which it makes if missing. The caller
// holds mu, or is the only user.
func (s *states) find(name string) *podinit.ContainerState {
	i := slices.IndexFunc(s.state.Containers, func(c podinit.ContainerState) bool { return c.Name == name })
	if i < 0 {
		i = len(s.state.Containers)
		s.state.Containers = append(s.state.Containers, podinit.ContainerState{Name: name, Phase: podinit.Waiting})
	}
	return &s.state.Containers[i]
}

func (s *states) known(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.state.Containers, func(c podinit.ContainerState) bool { return c.Name == name })
}

// get returns a container's state; that of one not known is Waiting.
func (s *states) get(name string) podinit.ContainerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.state.Containers {
		if c.Name == name {
			return c
		}
	}
	return podinit.ContainerState{Name: name, Phase: podinit.Waiting}
}

// update changes a container's state, and then all know.
func (s *states) update(name string, change func(*podinit.ContainerState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.find(name))
	s.save()
	for _, w := range s.watchers {
		select {
		case w <- struct{}{}:
		default: // has not yet looked at the last change
		}
	}
}

// encode returns the whole state as JSON.
func (s *states) encode() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.state)
}

func (s *states) copy() podinit.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.state
	c.Containers = slices.Clone(c.Containers)
	return c
}

// watch returns a channel that gets a value after changes.
func (s *states) watch() <-chan struct{} {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[c] = c
	return c
}

// unwatch ends a watch.
func (s *states) unwatch(changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, changed)
}

// save replaces the file. ZFS keeps the order of the write and the rename, so
// a crash leaves the old file or the new. A full disk leaves the old one, and
// the next change tries again: containers do not stop for it.
func (s *states) save() {
	data, err := json.Marshal(s.state)
	if err == nil {
		err = os.WriteFile(s.path+".new", data, 0o644)
	}
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		s.log.Printf("state: %v", err)
	}
}
