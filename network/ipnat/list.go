package ipnat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// listHeader begins what ipnat -l prints; an empty line ends the rules, and
// sessions follow.
const listHeader = "List of active MAP/Redirect filters:"

// List reads the kernel's rules.
func (l *Loader) List(ctx context.Context) (Listing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list(ctx)
}

func (l *Loader) list(ctx context.Context) (Listing, error) {
	var out Listing
	p := listParser{take: out.add}
	err := l.host.Stream(ctx, command.Cmd{Name: "ipnat", Args: []string{"-lR"}, Silent: true}, strings.NewReader(""), &p)
	if err != nil {
		return Listing{}, fmt.Errorf("ipnat: reading rules: %w", classify(err))
	}
	return out, p.end()
}

// ParseList reads the output of ipnat -lR.
func ParseList(out string) (Listing, error) {
	var l Listing
	p := listParser{take: l.add}
	if _, err := p.Write([]byte(out)); err != nil {
		return Listing{}, err
	}
	return l, p.end()
}

// listParser is a Writer that passes on the rules of a list line by line, so
// that a list of any length needs little memory.
type listParser struct {
	take    func(line string)
	state   listState
	partial []byte
}

type listState int

const (
	beforeRules listState = iota
	inRules
	afterRules
)

// maxLine is longer than any rule that ipnat can print.
const maxLine = 4096

// end says whether the list was whole.
func (p *listParser) end() error {
	if p.state != afterRules {
		return errors.New("ipnat: reading rules: not the whole list that ipnat -l prints")
	}
	return nil
}

// Write implements io.Writer.
func (p *listParser) Write(b []byte) (int, error) {
	n := len(b)
	for p.state != afterRules {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if len(p.partial)+len(line) > maxLine {
			return 0, errors.New("ipnat: reading rules: a line without end")
		}
		if !whole {
			p.partial = append(p.partial, line...)
			return n, nil
		}
		if len(p.partial) > 0 {
			line = append(p.partial, line...)
			p.partial = nil
		}
		b = rest
		if err := p.line(strings.TrimRight(string(line), " \t\r")); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (p *listParser) line(s string) error {
	switch {
	case p.state == inRules && s == "":
		p.state = afterRules
	case p.state == inRules:
		p.take(s)
	case s == listHeader:
		p.state = inRules
	default:
		return fmt.Errorf("ipnat: reading rules: %q is not the beginning of a list", s)
	}
	return nil
}

// count asks for the number of rules, which costs the same however many there
// are. Removed rules whose sessions go on are among them.
func (l *Loader) count(ctx context.Context) (int, error) {
	n, err := l.statistic(ctx, "rules")
	return int(n), err
}

// statistic returns a number of ipnat -s.
func (l *Loader) statistic(ctx context.Context, name string) (uint64, error) {
	out, err := l.host.Run(ctx, command.New("ipnat", "-s"))
	if err != nil {
		return 0, fmt.Errorf("ipnat: counting: %w", classify(err))
	}
	return statistic(string(out), name)
}

func statistic(out, name string) (uint64, error) {
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		for i := 0; i+1 < len(f); i += 2 {
			if f[i] == name {
				n, err := strconv.ParseUint(f[i+1], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("ipnat: counting: %w", err)
				}
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("ipnat: counting: ipnat -s does not tell %q", name)
}
