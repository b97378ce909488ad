package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// fakePodinit is process 1 of one boot of a zone. It reads the spec as podinit
// does and keeps the state file.
type fakePodinit struct {
	host *fakeHost
	zone *fakeZone
	dir  string

	mu      sync.Mutex
	spec    podinit.Spec
	state   podinit.State
	ended   chan struct{}
	changed chan struct{} // closed at a change, and replaced
	exits   map[string]func(code, signal int)
	started map[string]podinit.Container
	signals []string
}

func bootPodinit(h *fakeHost, z *fakeZone, id int) (*fakePodinit, error) {
	dir := z.config.Path
	data, err := os.ReadFile(filepath.Join(dir, translate.SpecDir, podinit.SpecFile))
	if err != nil {
		return nil, err
	}
	spec, err := podinit.ParseSpec(data)
	if err != nil {
		return nil, err
	}
	p := &fakePodinit{
		host: h, zone: z, dir: dir, spec: spec, ended: make(chan struct{}), changed: make(chan struct{}),
		exits: map[string]func(int, int){}, started: map[string]podinit.Container{},
		state: podinit.State{Version: podinit.Version, PodUID: spec.PodUID, Boot: fmt.Sprintf("boot%d", id)},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range spec.Containers {
		p.state.Containers = append(p.state.Containers, podinit.ContainerState{Name: c.Name, Attempt: c.Attempt, Phase: podinit.Waiting})
	}
	for _, c := range spec.Containers {
		if c.Start {
			p.startLocked(c)
		}
	}
	p.saveLocked()
	return p, nil
}

func (p *fakePodinit) find(name string) *podinit.ContainerState {
	for i := range p.state.Containers {
		if p.state.Containers[i].Name == name {
			return &p.state.Containers[i]
		}
	}
	return nil
}

func (p *fakePodinit) startLocked(c podinit.Container) {
	s := p.find(c.Name)
	if why := p.host.unready[c.Name]; why != "" {
		*s = podinit.ContainerState{Name: c.Name, Attempt: c.Attempt, Phase: podinit.Waiting, ConfigError: why}
		return
	}
	*s = podinit.ContainerState{Name: c.Name, Attempt: c.Attempt, Phase: podinit.Running, StartedAt: time.Now(), PID: 100}
	p.started[c.Name] = c
	b := p.host.program(c.Name, c.Attempt)
	attempt := c.Attempt
	exit := func(code, signal int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s := p.find(c.Name); p.alive() && s.Attempt == attempt && s.Phase == podinit.Running {
			s.Phase, s.ExitCode, s.Signal, s.FinishedAt = podinit.Exited, code, signal, time.Now()
			p.saveLocked()
		}
	}
	p.exits[c.Name] = exit
	if b.runs > 0 {
		time.AfterFunc(b.runs, func() { exit(b.code, 0) })
	}
}

func (p *fakePodinit) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *fakePodinit) saveLocked() {
	data, err := json.Marshal(p.state)
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, translate.RunDir, podinit.StateFile), data, 0o600)
	}
	if err != nil {
		p.host.t.Errorf("podinit cannot save its state: %v", err)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// end is the end of the zone: nothing is written any more.
func (p *fakePodinit) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive() {
		close(p.ended)
	}
}

// fakeChannel is one agent's channel to it; init is nil where nobody listens.
type fakeChannel struct {
	s    session
	init *fakePodinit
}

var errNoListener = errors.New("connection refused")

func (c fakeChannel) ready() error {
	switch {
	case c.s.ctx.Err() != nil:
		return errKilled
	case c.init == nil || !c.init.alive():
		return errNoListener
	}
	return nil
}

func (c fakeChannel) Watch(ctx context.Context, report func(podinit.State)) error {
	if err := c.ready(); err != nil {
		return err
	}
	for {
		c.init.mu.Lock()
		state, changed := c.init.state, c.init.changed
		state.Containers = append([]podinit.ContainerState(nil), state.Containers...)
		c.init.mu.Unlock()
		report(state)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.init.ended:
			return io.ErrUnexpectedEOF
		case <-changed:
		}
	}
}

func (c fakeChannel) Start(ctx context.Context, pc podinit.Container) error {
	if err := c.ready(); err != nil {
		return err
	}
	return c.s.do(ctx, "start "+pc.Name, func() error {
		c.init.mu.Lock()
		defer c.init.mu.Unlock()
		if err := pc.Validate(); err != nil {
			return err
		}
		s := c.init.find(pc.Name)
		own := slices.ContainsFunc(c.init.zone.config.Mounts, func(m zones.Mount) bool { return m.Target == podinit.ContainerDir+"/"+pc.Name })
		if _, ok := c.init.zone.spares[pc.Spare]; pc.Spare > 0 && !ok {
			return fmt.Errorf("no root file system at place %d", pc.Spare)
		}
		if s == nil && (own || pc.Spare > 0) {
			c.init.state.Containers = append(c.init.state.Containers, podinit.ContainerState{Name: pc.Name, Phase: podinit.Waiting})
			s = c.init.find(pc.Name)
		}
		switch {
		case s == nil:
			return fmt.Errorf("no container %q", pc.Name)
		case s.Attempt > pc.Attempt || (s.Attempt == pc.Attempt && s.Phase != podinit.Waiting):
			return nil
		case s.Phase == podinit.Running:
			return fmt.Errorf("container %q runs", pc.Name)
		}
		c.init.startLocked(pc)
		c.init.saveLocked()
		if why := c.init.find(pc.Name).ConfigError; why != "" {
			return &podinit.Error{Reason: podinit.ReasonConfig, Message: why}
		}
		return nil
	})
}

func (c fakeChannel) Signal(ctx context.Context, container, signal string) error {
	if err := c.ready(); err != nil {
		return err
	}
	return c.s.do(ctx, "signal "+container, func() error {
		c.init.mu.Lock()
		s, exit := c.init.find(container), c.init.exits[container]
		c.init.signals = append(c.init.signals, container+" "+signal)
		b := behaviour{}
		if s != nil {
			b = c.init.host.program(container, s.Attempt)
		}
		c.init.mu.Unlock()
		if s == nil {
			return fmt.Errorf("no container %q", container)
		}
		if !b.stubborn && exit != nil {
			time.AfterFunc(max(b.stopAfter, time.Millisecond), func() { exit(143, 15) })
		}
		return nil
	})
}

func (c fakeChannel) Kill(ctx context.Context, container string) error {
	if err := c.ready(); err != nil {
		return err
	}
	return c.s.do(ctx, "kill "+container, func() error {
		c.init.mu.Lock()
		exit := c.init.exits[container]
		c.init.mu.Unlock()
		if exit != nil {
			time.AfterFunc(time.Millisecond, func() { exit(137, 9) })
		}
		return nil
	})
}

func (c fakeChannel) Exec(ctx context.Context, r podinit.ExecRequest, s podinit.Streams) (podinit.ExitStatus, error) {
	if err := c.ready(); err != nil {
		return podinit.ExitStatus{}, err
	}
	c.s.mu.Lock()
	check := c.s.check
	c.s.mu.Unlock()
	if check != nil {
		return c.runCheck(ctx, check, r, s)
	}
	if err := c.s.do(ctx, "exec "+r.Container+" "+r.Args[0], func() error { return nil }); err != nil {
		return podinit.ExitStatus{}, err
	}
	switch r.Args[0] {
	case "sleep":
		d, err := time.ParseDuration(r.Args[1])
		if err != nil {
			return podinit.ExitStatus{}, err
		}
		select {
		case <-ctx.Done():
			return podinit.ExitStatus{}, ctx.Err()
		case <-c.init.ended:
			return podinit.ExitStatus{}, io.ErrUnexpectedEOF
		case <-time.After(d):
			return podinit.ExitStatus{}, nil
		}
	case "echo":
		_, err := fmt.Fprintln(s.Out, r.Container, r.Args[1])
		return podinit.ExitStatus{}, err
	case "exit":
		return podinit.ExitStatus{Code: 7}, nil
	}
	return podinit.ExitStatus{}, &podinit.Error{Reason: podinit.ReasonStart, Message: "no such program", Code: 127}
}

func (c fakeChannel) Attach(_ context.Context, container string, s podinit.Streams) error {
	if err := c.ready(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out, "attached to", container)
	return err
}

func (c fakeChannel) Read(ctx context.Context, volume, path string) ([]byte, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	var text string
	err := c.s.do(ctx, "read "+volume+"/"+path, func() error {
		var ok bool
		if text, ok = c.s.files[volume+"/"+path]; !ok {
			return &podinit.Error{Reason: podinit.ReasonNotFound, Message: "no such file"}
		}
		return nil
	})
	return []byte(text), err
}

func (c fakeChannel) Forward(context.Context, uint16) (io.ReadWriteCloser, error) {
	return nil, errNoListener
}
