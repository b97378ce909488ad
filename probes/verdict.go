package probes

// Verdict is what is concluded from checks.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota // too few checks agreed so far
	Passing
	Failing
)

// String returns the verdict in a word.
func (v Verdict) String() string {
	switch v {
	case Passing:
		return "passing"
	case Failing:
		return "failing"
	}
	return "unknown"
}

// tally counts results in a row.
type tally struct {
	verdict Verdict
	passed  bool // the newest result
	run     int  // how many results in a row were like it
}

// add takes in one result and reports whether the verdict changed. Thresholds
// below 1 count as 1.
func (t *tally) add(s Spec, passed bool) bool {
	if t.run > 0 && t.passed == passed {
		t.run++
	} else {
		t.passed, t.run = passed, 1
	}
	verdict, enough := Failing, max(s.Failures, 1)
	if passed {
		verdict, enough = Passing, max(s.Successes, 1)
	}
	if t.run < enough {
		return false
	}
	t.run = enough // it may go on for years
	changed := t.verdict != verdict
	t.verdict = verdict
	return changed
}
