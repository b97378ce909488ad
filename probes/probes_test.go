package probes

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// script is a Checker whose nth check takes took[n] and ends as ends[n] says:
// p passes, f fails, e cannot be carried out. The last of each goes on for ever.
type script struct {
	ends string
	took []time.Duration
	n    int
	at   []time.Duration // when checks began
	zero time.Time
}

var errOwn = errors.New("no such thing here")

func (s *script) Check(ctx context.Context) (Result, error) {
	s.at = append(s.at, time.Since(s.zero))
	end := s.ends[min(s.n, len(s.ends)-1)]
	if len(s.took) > 0 {
		select {
		case <-ctx.Done():
			return Result{Message: "late"}, nil
		case <-time.After(s.took[min(s.n, len(s.took)-1)]):
		}
	}
	s.n++
	switch end {
	case 'p':
		return Result{Passed: true}, nil
	case 'f':
		return Result{Message: "ill"}, nil
	}
	return Result{}, errOwn
}

func seconds(n ...int) (out []time.Duration) {
	for _, s := range n {
		out = append(out, time.Duration(s)*time.Second)
	}
	return out
}

// TestWatch says when checks are made and when verdicts fall, to the second.
func TestWatch(t *testing.T) {
	spec := Spec{Period: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 3}
	for _, tt := range []struct {
		name     string
		edit     func(*Spec)
		script   script
		checks   []time.Duration // within a minute, without repeated tries
		verdicts []string        // as they changed
	}{
		{"three failures after a delay", func(s *Spec) { s.Delay = 5 * time.Second }, script{ends: "f"},
			seconds(5, 15, 25, 35, 45, 55), []string{"25s failing"}},
		{"passes at once", func(*Spec) {}, script{ends: "p"}, seconds(0, 10, 20, 30, 40, 50), []string{"0s passing"}},
		{"a success between failures starts the count again", func(*Spec) {}, script{ends: "pffpfff"},
			seconds(0, 10, 20, 30, 40, 50), []string{"0s passing"}},
		{"fails and recovers", func(s *Spec) { s.Failures, s.Successes = 1, 2 }, script{ends: "ppfpp"},
			seconds(0, 10, 20, 30, 40, 50), []string{"10s passing", "20s failing", "40s passing"}},
		{"a timeout is what the checker makes of it", func(s *Spec) { s.Failures = 2 }, script{ends: "p", took: seconds(3)},
			seconds(0, 10, 20, 30, 40, 50), []string{"11s failing"}},
		{"a check longer than the period delays the next", func(s *Spec) { s.Timeout = time.Minute }, script{ends: "p", took: seconds(14)},
			seconds(0, 14, 28, 42, 56), []string{"14s passing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := spec
				tt.edit(&s)
				tt.script.zero = time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
				defer cancel()
				var verdicts []string
				Watch(ctx, s, &tt.script, func(r Report) {
					if r.Changed {
						verdicts = append(verdicts, fmt.Sprint(time.Since(tt.script.zero), " ", r.Verdict))
					}
				})
				if !reflect.DeepEqual(tt.script.at, tt.checks) {
					t.Errorf("checks at %v, want %v", tt.script.at, tt.checks)
				}
				if !reflect.DeepEqual(verdicts, tt.verdicts) {
					t.Errorf("verdicts %v, want %v", verdicts, tt.verdicts)
				}
			})
		})
	}
}

// TestAnErrorIsNoFailure: a check that cannot be carried out is tried three
// times, reported once, and changes no count in either direction.
func TestAnErrorIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script{ends: "f" + "eee" + "f" + "ep" + "e", zero: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		var got []string
		Watch(ctx, Spec{Period: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 2}, &s, func(r Report) {
			got = append(got, fmt.Sprint(r.Verdict, r.Changed, errors.Is(r.Err, errOwn)))
		})
		want := []string{"unknown false false", "unknown false true", "failing true false", "passing true false", "passing false true"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("reports %v, want %v", got, want)
		}
		if want := seconds(0, 10, 10, 10, 20, 30, 30, 40, 40, 40); !reflect.DeepEqual(s.at, want) {
			t.Errorf("checks at %v, want %v", s.at, want)
		}
	})
}

// TestStopped: a watch that is told to stop ends at once and reports nothing of
// the check that was under way.
func TestStopped(t *testing.T) {
	for _, at := range seconds(1, 5, 6, 12) { // in the delay, in a check, after it, in the next
		synctest.Test(t, func(t *testing.T) {
			s := script{ends: "p", took: seconds(1), zero: time.Now()}
			ctx, cancel := context.WithTimeout(t.Context(), at+time.Millisecond)
			defer cancel()
			reports := 0
			Watch(ctx, Spec{Delay: 5 * time.Second, Period: 7 * time.Second, Timeout: 10 * time.Second}, &s, func(Report) { reports++ })
			if took := time.Since(s.zero); took != at+time.Millisecond {
				t.Errorf("stopped at %s, ended at %s", at, took)
			}
			if want := int(at / (6 * time.Second)); reports != min(want, 1) {
				t.Errorf("stopped at %s, %d reports", at, reports)
			}
		})
	}
}

// TestReportMayStop: nothing is checked after the report that ended the watch,
// even if the next check is due.
func TestReportMayStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script{ends: "f", took: seconds(3), zero: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		Watch(ctx, Spec{Period: time.Second, Timeout: 5 * time.Second}, &s, func(Report) { cancel() })
		if len(s.at) != 1 {
			t.Errorf("%d checks", len(s.at))
		}
	})
}

func TestTally(t *testing.T) {
	for _, tt := range []struct {
		successes, failures int
		results             string // p or f
		want                string // the verdict after each: u, P or F
	}{
		{1, 1, "pfpf", "PFPF"},
		{1, 3, "fff", "uuF"},
		{2, 3, "pfpp", "uuuP"},
		{3, 2, "pppfpffppp", "uuPPPPFFFP"},
		{0, 0, "fp", "FP"}, // nothing less than one result decides
		{1, 2, "ffffpffff", "uFFFPPFFF"},
	} {
		var c tally
		got := ""
		for _, r := range tt.results {
			before := c.verdict
			if changed := c.add(Spec{Successes: tt.successes, Failures: tt.failures}, r == 'p'); changed != (c.verdict != before) {
				t.Errorf("%s: says changed %v, went from %s to %s", tt.results, changed, before, c.verdict)
			}
			got += map[Verdict]string{Unknown: "u", Passing: "P", Failing: "F"}[c.verdict]
		}
		if got != tt.want {
			t.Errorf("%d/%d %s: %s, want %s", tt.successes, tt.failures, tt.results, got, tt.want)
		}
	}
}
