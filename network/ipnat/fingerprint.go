package ipnat

import (
	"context"
	"fmt"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Fingerprint tells sets of rules apart without keeping them: how many there
// are, and the sum of their hashes, which does not depend on their order.
type Fingerprint struct {
	Rules     int
	high, low uint64
}

// with returns the fingerprint with a rule more, or less.
func (f Fingerprint) with(r Rule, scratch *[]byte, less bool) Fingerprint {
	*scratch = r.AppendTo((*scratch)[:0])
	a, b := uint64(14695981039346656037), uint64(0x9e3779b97f4a7c15)
	for _, c := range *scratch {
		a = (a ^ uint64(c)) * 1099511628211
		b = (b + uint64(c)) * 0xd1342543de82ef95
	}
	a, b = mix(a), mix(b)
	if less {
		return Fingerprint{f.Rules - 1, f.high - a, f.low - b}
	}
	return Fingerprint{f.Rules + 1, f.high + a, f.low + b}
}

// Fingerprint returns that of the table's rules.
func (t *Table) Fingerprint() Fingerprint { return t.print }

// Matches says whether the kernel's rules of ours are the wanted ones. It holds
// one rule at a time, so it is what is done from time to time; [Loader.Sync]
// is for when it says no.
func (l *Loader) Matches(ctx context.Context, want Fingerprint) (bool, Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = -1
	var got Fingerprint
	var scratch []byte
	stale, foreign := 0, 0
	p := listParser{take: func(line string) {
		switch r, kind := classifyLine(line); kind {
		case lineOurs:
			got = got.with(r, &scratch, false)
		case lineStale:
			stale++
		case lineForeign:
			foreign++
		}
	}}
	err := l.host.Stream(ctx, command.Cmd{Name: "ipnat", Args: []string{"-lR"}, Silent: true}, strings.NewReader(""), &p)
	if err != nil {
		return false, Report{}, fmt.Errorf("ipnat: reading rules: %w", classify(err))
	}
	if err := p.end(); err != nil {
		return false, Report{}, err
	}
	if got != want || stale > 0 {
		return false, Report{Foreign: foreign}, nil
	}
	l.known = got.Rules + foreign
	return true, Report{Foreign: foreign}, nil
}
