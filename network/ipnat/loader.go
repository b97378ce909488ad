package ipnat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"reddwarf.io/reddwarf/zones/command"
)

// batch is how many rules one run of ipnat reads. The kernel compares each new
// rule with all that it has, so a run must not take for ever, nor its answer be
// larger than command.Runner keeps.
const batch = 2000

// Loader keeps the kernel's rules of ours equal to what it is told. It never
// flushes rules or sessions, and never touches rules that are not ours. Its
// methods may be called concurrently; they wait for each other.
//
// It keeps nothing on disk: after a restart the kernel says what is there.
type Loader struct {
	host command.Host

	mu    sync.Mutex
	known int // rules in the kernel when they were read or changed last, all people's; -1 if that is not sure
}

// NewLoader returns a Loader. It runs nothing.
func NewLoader(h command.Host) *Loader { return &Loader{host: h, known: -1} }

// Report says what a run of the Loader did.
type Report struct {
	Added, Removed int
	Foreign        int // rules of other people, after [Loader.Sync]
}

// Sync makes the kernel's rules of ours equal to want: it reads them, adds what
// is missing, then removes what is too much, and reads again whether that is
// so. It asks for everything, so it also repairs what others did: a flush, a
// restart of svc:/network/ipfilter, a reboot. Nothing is loaded if ipnat
// understands a single rule otherwise than meant.
//
// The error is [ErrOff] if the filter is not enabled, [ErrNoDevice] if there is
// none, and [ErrDrift] if the kernel's rules are still different afterwards.
func (l *Loader) Sync(ctx context.Context, want Rules) (Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = -1 // until all has gone well
	have, err := l.list(ctx)
	if err != nil {
		return Report{}, err
	}
	add, remove := have.missing(want)
	rep := Report{Added: len(add), Removed: len(remove), Foreign: len(have.Foreign)}
	if len(add)+len(remove) == 0 {
		l.known = have.rules()
		return rep, nil
	}
	if err := l.check(ctx, add); err != nil {
		return Report{}, err
	}
	// Nothing is removed when not all was added. Somebody else may add or remove
	// the same rule meanwhile: a complaint counts only if the result is wrong.
	said := l.feed(ctx, lines(add), "-f", "-")
	if said == nil {
		said = l.feed(ctx, remove, "-r", "-f", "-")
	}
	if said != nil && !errors.Is(said, command.ErrComplained) {
		return Report{}, said
	}
	if have, err = l.list(ctx); err != nil {
		return Report{}, errors.Join(said, err)
	}
	rep.Foreign = len(have.Foreign)
	if add, remove = have.missing(want); len(add)+len(remove) > 0 {
		return rep, errors.Join(fmt.Errorf("ipnat: %w: %d rules are missing and %d too many after loading, such as %s",
			ErrDrift, len(add), len(remove), example(add, remove)), said)
	}
	l.known = have.rules()
	return rep, nil
}

// Apply makes one change to rules that are what the last call left there. It
// looks at the changed rules only: ipnat must understand them, must not
// complain, and the kernel must have no fewer rules in the end than it should.
// Anything else is [ErrDrift], and [Loader.Sync] is due. The first call needs a
// Sync before it.
func (l *Loader) Apply(ctx context.Context, d Delta) (Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Empty() {
		return Report{}, nil
	}
	if l.known < 0 {
		return Report{}, fmt.Errorf("ipnat: %w: they have not been read", ErrDrift)
	}
	want := l.known + len(d.Add) - len(d.Remove)
	l.known = -1 // until all has gone well
	if err := l.check(ctx, d.Add); err != nil {
		return Report{}, err
	}
	for _, step := range []struct {
		rules []string
		args  []string
	}{{lines(d.Add), []string{"-f", "-"}}, {lines(d.Remove), []string{"-r", "-f", "-"}}} {
		err := l.feed(ctx, step.rules, step.args...)
		switch {
		case err == nil:
		case errors.Is(err, command.ErrComplained):
			return Report{}, fmt.Errorf("%w: %w", ErrDrift, err)
		default:
			return Report{}, err
		}
	}
	have, err := l.count(ctx)
	if err != nil {
		return Report{}, err
	}
	// It may be more: a removed rule counts until its last session has ended.
	if have < want {
		return Report{}, fmt.Errorf("ipnat: %w: the kernel has %d rules, not %d", ErrDrift, have, want)
	}
	l.known = want
	return Report{Added: len(d.Add), Removed: len(d.Remove)}, nil
}

// missing compares by meaning. Rules to add keep their order; rules to remove
// are texts, because some may be of another version of this program.
func (l *Listing) missing(want Rules) (add Rules, remove []string) {
	surplus := make(map[Rule]bool, len(l.Ours)) // false once it is wanted
	for _, r := range l.Ours {
		surplus[r] = true
	}
	for _, r := range want {
		if _, ok := surplus[r]; !ok {
			add = append(add, r)
		}
		surplus[r] = false
	}
	for r, yes := range surplus {
		if yes {
			remove = append(remove, r.String())
		}
	}
	slices.Sort(remove)
	return add, append(remove, l.Stale...)
}

func lines(rules []Rule) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = r.String()
	}
	return out
}

func example(add Rules, remove []string) string {
	if len(add) > 0 {
		return add[0].String()
	}
	return remove[0]
}

// check lets ipnat read rules without loading them, and compares what it
// understood. A syntax error would stop a real run in the middle.
func (l *Loader) check(ctx context.Context, rules Rules) error {
	for some := range slices.Chunk(rules, batch) {
		for _, r := range some {
			if again, err := ParseRule(r.String()); err != nil || again != r || !r.ours() {
				return fmt.Errorf("ipnat: rule %q: %w", r, ErrSyntax)
			}
		}
		out, err := l.host.Run(ctx, command.Cmd{Name: "ipnat", Args: []string{"-R", "-nv", "-f", "-"}, Stdin: some.String(), Silent: true})
		if err != nil {
			return fmt.Errorf("ipnat: rules that ipnat cannot read: %w", classify(err))
		}
		i := 0
		for line := range strings.Lines(string(out)) {
			line = strings.TrimRight(line, " \r\n")
			if line == "" {
				continue
			}
			if r, err := ParseRule(line); i >= len(some) || err != nil || r != some[i] {
				return fmt.Errorf("ipnat: rule %d: ipnat understands %q: %w", i, line, ErrSyntax)
			}
			i++
		}
		if i != len(some) {
			return fmt.Errorf("ipnat: ipnat read %d rules of %d: %w", i, len(some), ErrSyntax)
		}
	}
	return nil
}

// feed gives lines to ipnat in batches. It goes on after complaints: each line
// is a step of its own to the kernel, and the others are still right.
func (l *Loader) feed(ctx context.Context, text []string, args ...string) error {
	var said error
	for some := range slices.Chunk(text, batch) {
		_, err := l.host.Run(ctx, command.Cmd{Name: "ipnat", Args: args, Stdin: strings.Join(some, "\n") + "\n", Silent: true})
		if err = classify(err); err == nil {
			continue
		}
		err = fmt.Errorf("ipnat: loading: %w", err)
		if !errors.Is(err, command.ErrComplained) {
			return errors.Join(said, err)
		}
		if said == nil { // the first is enough: there may be one for every batch
			said = err
		}
	}
	return said
}

// classify is the only place that reads what ipnat says of a failure.
func classify(err error) error {
	var ce *command.Error
	if err == nil || !errors.As(err, &ce) {
		return err
	}
	switch {
	case strings.Contains(ce.Stderr, "/dev/ipnat: open: "):
		return fmt.Errorf("%w: %w", ErrNoDevice, err)
	case strings.Contains(ce.Stderr, "ioctl(SIOCGNATS)"), strings.Contains(ce.Stderr, "nat rule): I/O error"):
		return fmt.Errorf("%w: %w", ErrOff, err) // frsync and the NAT answer EIO before SIOCFRENB
	}
	return err
}
