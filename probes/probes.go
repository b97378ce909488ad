// Package probes checks, again and again, whether a service is well: by HTTP,
// TCP, gRPC, or a program run through a function. It knows nothing of pods;
// addresses and ports come resolved.
//
// A check has three ends: it passed, it failed, or it could not be carried out
// (an error). The surprising rule: the third says nothing about the service,
// so it counts neither as success nor as failure.
package probes

import (
	"context"
	"time"
)

// Spec says when to check and how many results in a row make a verdict.
type Spec struct {
	Delay   time.Duration // before the first check
	Period  time.Duration // from the start of one check to that of the next
	Timeout time.Duration // of one check

	// Successes and Failures are how many checks in a row must agree before
	// the verdict is Passing or Failing.
	Successes, Failures int
}

// Result is what one check that was carried out found.
type Result struct {
	Passed bool

	// Message is for users: why the check failed, or a warning if it passed.
	Message string
}

// Checker makes one check of one service. An error means that the check could
// not be carried out; what the service did or did not do is a Result. A check
// that is still under way when ctx ends counts as failed, so Check returns
// soon after that.
type Checker interface {
	Check(ctx context.Context) (Result, error)
}

// Report is one check and what is concluded from it and those before.
type Report struct {
	Result  Result
	Err     error // the check could not be carried out; Result is then empty
	Verdict Verdict

	// Changed tells that the verdict was another one before this check.
	Changed bool
}

// tries is how often a check that could not be carried out is tried before the
// next period.
const tries = 3

// Watch checks until ctx ends, and calls report from this goroutine after
// every check. A check that takes longer than the period is followed by the
// next at once. What a check that ctx interrupted said is not reported: it is
// not about the service.
func Watch(ctx context.Context, spec Spec, c Checker, report func(Report)) {
	if !pause(ctx, spec.Delay) {
		return
	}
	ticker := time.NewTicker(spec.Period)
	defer ticker.Stop()
	var t tally
	for {
		result, err := check(ctx, spec.Timeout, c)
		if ctx.Err() != nil {
			return
		}
		r := Report{Result: result, Err: err}
		if err == nil {
			r.Changed = t.add(spec, result.Passed)
		}
		r.Verdict = t.verdict
		report(r)
		if ctx.Err() != nil {
			return // a tick may be due as well
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pause waits, and returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// check makes one check, again at once if it could not be carried out.
func check(ctx context.Context, timeout time.Duration, c Checker) (result Result, err error) {
	for range tries {
		try, cancel := context.WithTimeout(ctx, timeout)
		result, err = c.Check(try)
		cancel()
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Result{}, err
}

// allowed returns how long a check may take that begins now. It is rounded, so
// that the same failure is told in the same words every time.
func allowed(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return time.Until(deadline).Round(100 * time.Millisecond)
}
