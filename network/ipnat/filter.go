package ipnat

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Enable switches the packet filter on if it is off. It runs ipf -E, which
// loads no rules: a filter without rules passes everything. Enabling
// svc:/network/ipfilter instead would also load an ipf.conf that its owner has
// left switched off, and may cut the host off. If the service is starting or
// stopping, that is waited for: the error is [ErrOff], and it is worth trying
// again.
//
// When somebody enables the service later, its method flushes all rules; the
// next [Loader.Sync] brings ours back.
func (l *Loader) Enable(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch on, err := l.running(ctx); {
	case err != nil:
		return err
	case on:
		return nil
	}
	// Without SMF's answer the filter itself is asked.
	out, err := l.host.Run(ctx, command.New("svcs", "-H", "-o", "state", "svc:/network/ipfilter:default"))
	if state := strings.TrimSpace(string(out)); err == nil && strings.HasSuffix(state, "*") {
		return fmt.Errorf("ipnat: svc:/network/ipfilter is %s: %w", state, ErrOff)
	}
	if _, err := l.host.Run(ctx, command.New("ipf", "-E")); err != nil { // complains if it was quicker
		return fmt.Errorf("ipnat: enabling the packet filter: %w", err)
	}
	on, err := l.running(ctx)
	if err == nil && !on {
		err = fmt.Errorf("ipnat: ipf -E has not enabled it: %w", ErrOff)
	}
	return err
}

func (l *Loader) running(ctx context.Context) (bool, error) {
	out, err := l.host.Run(ctx, command.New("ipf", "-V"))
	if err != nil {
		return false, fmt.Errorf("ipnat: asking the packet filter: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Running:"); ok {
			return strings.TrimSpace(value) == "yes", nil
		}
	}
	return false, errors.New("ipnat: ipf -V does not tell whether the filter is running")
}

// Limits of the kernel's tables, from ipf -T. The sizes are numbers of hash
// buckets.
type tables struct{ rules, sessions, maxSessions uint64 }

const (
	// crowded is how many rules a bucket may hold on average: every new
	// connection looks through one.
	crowded = 64
	// fullPercent of the session table is when the kernel is about to end old
	// sessions: it does at 95.
	fullPercent = 80
)

// Tables says how full the kernel's tables are.
type Tables struct {
	Sessions, MaxSessions uint64
	Advice                []string // for the operator, a sentence each
}

// CheckTables compares the kernel's tables with the number of rules and with
// the sessions that there are. Nothing is changed here, because the sizes can
// be set only while the filter is disabled, which ends every session.
func (l *Loader) CheckTables(ctx context.Context, rules int) (Tables, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.tables(ctx)
	if err != nil {
		return Tables{}, err
	}
	inUse, err := l.statistic(ctx, "inuse")
	if err != nil {
		return Tables{}, err
	}
	return Tables{inUse, t.maxSessions, t.advice(uint64(rules), inUse)}, nil
}

func (l *Loader) tables(ctx context.Context) (tables, error) {
	var t tables
	out, err := l.host.Run(ctx, command.New("ipf", "-T", "ipf_rdrrules_sz,ipf_nattable_sz,ipf_nattable_max"))
	if err != nil {
		return t, fmt.Errorf("ipnat: reading the limits: %w", err)
	}
	for name, to := range map[string]*uint64{"ipf_rdrrules_sz": &t.rules, "ipf_nattable_sz": &t.sessions, "ipf_nattable_max": &t.maxSessions} {
		if *to, err = tunable(string(out), name); err != nil {
			return t, err
		}
	}
	return t, nil
}

// tunable reads one line of ipf -T: NAME min 0x1 max 0x7fffffff current 127.
func tunable(out, name string) (uint64, error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 7 || f[0] != name || f[5] != "current" {
			continue
		}
		n, err := strconv.ParseUint(f[6], 10, 64)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("ipnat: reading the limits: %q", strings.TrimSpace(line))
		}
		return n, nil
	}
	return 0, fmt.Errorf("ipnat: reading the limits: ipf -T does not tell %s", name)
}

func (t tables) advice(rules, inUse uint64) []string {
	var out []string
	if rules > t.rules*crowded {
		out = append(out, fmt.Sprintf("%d rules share %d buckets, so new connections are slow to find theirs: in a maintenance window, "+
			"run ipf -D; ipf -T ipf_rdrrules_sz=%d; ipf -E (this ends all translated connections)", rules, t.rules, odd(rules/8)))
	}
	if inUse*100 > t.maxSessions*fullPercent {
		out = append(out, fmt.Sprintf("%d of %d translated connections are in use, and old ones are ended when the table is full: "+
			"run ipf -T ipf_nattable_max=%d", inUse, t.maxSessions, t.maxSessions*2))
	}
	if t.maxSessions > t.sessions*crowded {
		out = append(out, fmt.Sprintf("%d translated connections may share %d buckets: in a maintenance window, "+
			"run ipf -D; ipf -T ipf_nattable_sz=%d; ipf -E (this ends all translated connections)", t.maxSessions, t.sessions, odd(t.maxSessions/8)))
	}
	return out
}

// odd returns the next odd number: a power of two would leave buckets empty,
// because the kernel takes the hash modulo the size.
func odd(n uint64) uint64 { return n | 1 }
