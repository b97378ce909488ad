// Package supervise runs the parts of a program that belong together: it starts
// them in order, ends all of them when one ends, and stops them in reverse.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Part is something that runs until its context ends.
type Part struct {
	Name string
	// Run returns when ctx ends, or earlier with the reason.
	Run func(ctx context.Context) error
	// Check returns nil once the part does its work. It is asked again and
	// again while the part starts.
	Check func(ctx context.Context) error
}

// Options are how patient Run is.
type Options struct {
	Start time.Duration // for all parts of a stage to become ready
	Stop  time.Duration // for all parts of a stage to end
	Poll  time.Duration // between two checks of a part
	// Report is told of each step, if it is not nil.
	Report func(format string, args ...any)
}

// ErrStuck means that a part did not end when it was told to. It still runs.
var ErrStuck = errors.New("did not stop in time")

// running is a started stage.
type running struct {
	cancel context.CancelFunc
	parts  []Part
	ended  []chan struct{} // one per part, closed when it has ended
}

type exit struct {
	name string
	err  error
}

// Run starts the stages one after the other, the parts of a stage together,
// and calls ready when the last is ready. It returns nil after ctx has ended and
// everything has stopped, else the reason why a part failed.
func Run(ctx context.Context, o Options, ready func() error, stages ...[]Part) error {
	if o.Report == nil {
		o.Report = func(string, ...any) {}
	}
	var count int
	for _, s := range stages {
		count += len(s)
	}
	exits := make(chan exit, count)
	var started []running
	err := func() error {
		for _, parts := range stages {
			started = append(started, start(ctx, parts, exits))
			if err := waitReady(ctx, o, parts, exits); err != nil {
				return err
			}
		}
		if err := ready(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case e := <-exits:
			return e.reason()
		}
	}()
	if ctx.Err() != nil {
		err = nil // told to stop: what the parts said on the way is no failure
	}
	for i := len(started) - 1; i >= 0; i-- {
		err = errors.Join(err, stop(o, started[i]))
	}
	return err
}

func (e exit) reason() error {
	if e.err == nil {
		return fmt.Errorf("%s: ended by itself", e.name)
	}
	return fmt.Errorf("%s: %w", e.name, e.err)
}

// start runs parts under a context of their own, so that they can be stopped
// after the parts that need them.
func start(ctx context.Context, parts []Part, exits chan<- exit) running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := running{cancel: cancel, parts: parts}
	for _, p := range parts {
		ended := make(chan struct{})
		r.ended = append(r.ended, ended)
		go func() {
			defer close(ended)
			exits <- exit{p.Name, p.Run(ctx)}
		}()
	}
	return r
}

func waitReady(ctx context.Context, o Options, parts []Part, exits <-chan exit) error {
	ctx, cancel := context.WithTimeout(ctx, o.Start)
	defer cancel()
	tick := time.NewTicker(o.Poll)
	defer tick.Stop()
	for _, p := range parts {
		for {
			err := p.Check(ctx)
			if err == nil {
				o.Report("%s is ready", p.Name)
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: not ready: %w", p.Name, err)
			case e := <-exits:
				return e.reason()
			case <-tick.C:
			}
		}
	}
	return nil
}

func stop(o Options, r running) error {
	r.cancel()
	timeout := time.NewTimer(o.Stop)
	defer timeout.Stop()
	for i, ended := range r.ended {
		select {
		case <-ended:
			o.Report("%s has stopped", r.parts[i].Name)
		case <-timeout.C:
			return fmt.Errorf("%s: %w", r.parts[i].Name, ErrStuck)
		}
	}
	return nil
}
