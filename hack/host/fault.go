package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Fault is something that goes wrong with the commands it matches.
type Fault struct {
	// Match is compared with the command's name and arguments, joined by
	// blanks. * stands for any text, ? for one character.
	Match string `json:"match"`

	After int `json:"after,omitempty"` // so many matching runs go well first
	Times int `json:"times,omitempty"` // and so many then meet the fault; 0 means all

	Delay  time.Duration `json:"delay,omitempty"`  // before anything else
	Hang   bool          `json:"hang,omitempty"`   // until the caller kills the command
	Exit   int           `json:"exit,omitempty"`   // not 0: nothing is done, and this is the exit code
	Stderr string        `json:"stderr,omitempty"` // what the command then says

	// KillBefore and KillAfter kill the command's caller with SIGKILL before
	// or after the command does its work.
	KillBefore bool `json:"killBefore,omitempty"`
	KillAfter  bool `json:"killAfter,omitempty"`
}

// Validate says what is wrong with f.
func (f Fault) Validate() error {
	var errs []error
	if f.Match == "" {
		errs = append(errs, errors.New("fault: no commands to match"))
	}
	if f.Delay == 0 && !f.Hang && f.Exit == 0 && !f.KillBefore && !f.KillAfter {
		errs = append(errs, errors.New("fault: nothing that goes wrong"))
	}
	if f.After < 0 || f.Times < 0 || f.Delay < 0 || f.Exit < 0 || f.Exit > 255 {
		errs = append(errs, errors.New("fault: a number is out of range"))
	}
	if f.Stderr != "" && f.Exit == 0 {
		errs = append(errs, errors.New("fault: only a command that fails says something"))
	}
	return errors.Join(errs...)
}

// faults are the faults in force.
type faults struct {
	mu   sync.Mutex
	list []*pending
}

// pending is a fault and how often its commands were run.
type pending struct {
	Fault
	seen int
}

func (fs *faults) add(f Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, &pending{Fault: f})
}

func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = nil
}

func (fs *faults) all() []Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := make([]Fault, len(fs.list))
	for i, p := range fs.list {
		all[i] = p.Fault
	}
	return all
}

// due returns the faults that this run of argv meets.
func (fs *faults) due(argv []string) []Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var due []Fault
	line := strings.Join(argv, " ")
	for _, p := range fs.list {
		if !matches(p.Match, line) {
			continue
		}
		p.seen++
		if p.seen > p.After && (p.Times == 0 || p.seen <= p.After+p.Times) {
			due = append(due, p.Fault)
		}
	}
	return due
}

// matches reports whether text fits a pattern with * and ?.
func matches(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	star, mark := -1, 0 // the last * and how far it has eaten
	i, j := 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return !slices.ContainsFunc(p[i:], func(r rune) bool { return r != '*' })
}

// exitKilled is what a shell sees of a command that was killed.
const exitKilled = 137

// meet runs do under the faults. kill kills the caller.
func meet(ctx context.Context, due []Fault, inv *program.Invocation, kill func(), do func() int) int {
	for _, f := range due {
		if f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-ctx.Done():
				return exitKilled
			}
		}
		if f.KillBefore {
			kill()
			return exitKilled
		}
		if f.Hang {
			<-ctx.Done()
			return exitKilled
		}
		if f.Exit != 0 {
			if f.Stderr != "" {
				inv.Errf("%s\n", strings.TrimSuffix(f.Stderr, "\n"))
			}
			return f.Exit
		}
	}
	code := do()
	if slices.ContainsFunc(due, func(f Fault) bool { return f.KillAfter }) {
		kill()
		return exitKilled
	}
	return code
}

// String returns f for people.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", f.Match)
	for _, part := range []struct {
		on   bool
		text string
	}{
		{f.After > 0, fmt.Sprintf("after %d", f.After)},
		{f.Times > 0, fmt.Sprintf("times %d", f.Times)},
		{f.Delay > 0, fmt.Sprintf("delay %v", f.Delay)},
		{f.Hang, "hang"},
		{f.Exit != 0, fmt.Sprintf("fail %d %q", f.Exit, f.Stderr)},
		{f.KillBefore, "kill the agent before"},
		{f.KillAfter, "kill the agent after"},
	} {
		if part.on {
			b.WriteString(", " + part.text)
		}
	}
	return b.String()
}
