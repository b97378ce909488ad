package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// journal notes what parts do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// part becomes ready after warm and ends after life; zero life means until told.
func (j *journal) part(name string, warm, life time.Duration, err error) Part {
	var begin time.Time
	return Part{
		Name: name,
		Run: func(ctx context.Context) error {
			j.note("+%s", name)
			defer j.note("-%s", name)
			if life == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(life):
				return err
			}
		},
		Check: func(context.Context) error {
			if begin.IsZero() {
				begin = time.Now()
			}
			if time.Since(begin) < warm {
				return errors.New("warming up")
			}
			return nil
		},
	}
}

var errBroken = errors.New("broken")

func TestRun(t *testing.T) {
	options := Options{Start: time.Minute, Stop: 10 * time.Second, Poll: 100 * time.Millisecond}
	for _, tt := range []struct {
		name   string
		stages func(*journal) [][]Part
		cancel time.Duration // when to tell it to stop; 0 means never
		want   []string
		err    string
		ready  bool
	}{
		{
			name: "stopped in reverse order",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", time.Second, 0, nil)}, {j.part("b", 0, 0, nil)}}
			},
			cancel: 5 * time.Second,
			want:   []string{"+a", "+b", "-b", "-a"},
			ready:  true,
		},
		{
			name: "one dies, all end",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", time.Second, 0, nil)}, {j.part("b", 0, 30*time.Second, errBroken)}}
			},
			want: []string{"+a", "+b", "-b", "-a"},
			err:  "b: broken", ready: true,
		},
		{
			name: "one ends without a reason",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", 0, time.Second, nil)}}
			},
			want: []string{"+a", "-a"}, err: "a: ended by itself", ready: true,
		},
		{
			name: "one dies while it starts",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", time.Hour, time.Second, errBroken)}, {j.part("b", 0, 0, nil)}}
			},
			want: []string{"+a", "-a"}, err: "a: broken",
		},
		{
			name: "one never becomes ready",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", time.Second, 0, nil)}, {j.part("b", time.Hour, 0, nil)}}
			},
			want: []string{"+a", "+b", "-b", "-a"}, err: "b: not ready: warming up",
		},
		{
			name: "stopped while it starts",
			stages: func(j *journal) [][]Part {
				return [][]Part{{j.part("a", time.Hour, 0, nil)}, {j.part("b", 0, 0, nil)}}
			},
			cancel: time.Second,
			want:   []string{"+a", "-a"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				var j journal
				ready := false
				err := Run(ctx, options, func() error { ready = true; return nil }, tt.stages(&j)...)
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Run() = %v, want %q", err, tt.err)
				}
				if !slices.Equal(j.lines, tt.want) {
					t.Errorf("journal %v, want %v", j.lines, tt.want)
				}
				if ready != tt.ready {
					t.Errorf("ready = %v", ready)
				}
			})
		})
	}
}

func TestRunStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := Part{
			Name:  "s",
			Run:   func(context.Context) error { <-release; return nil },
			Check: func(context.Context) error { return nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := Run(ctx, Options{Start: time.Second, Stop: time.Second, Poll: time.Second}, func() error { cancel(); return nil }, []Part{stuck})
		if !errors.Is(err, ErrStuck) {
			t.Errorf("Run() = %v, want ErrStuck", err)
		}
		close(release)
	})
}

func TestRunReadyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		err := Run(t.Context(), Options{Start: time.Second, Stop: time.Second, Poll: time.Second},
			func() error { return errBroken }, []Part{j.part("a", 0, 0, nil)})
		if !errors.Is(err, errBroken) {
			t.Errorf("Run() = %v", err)
		}
		if !slices.Equal(j.lines, []string{"+a", "-a"}) {
			t.Errorf("journal %v", j.lines)
		}
	})
}
