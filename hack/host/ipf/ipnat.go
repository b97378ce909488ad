package ipf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// simulated begins messages that illumos does not have.
const simulated = "simulated host: "

// ipnatRun is one run of ipnat.
type ipnatRun struct {
	*program.Invocation
	m                                              *Model
	clear, flush, list, nothing, numeric           bool
	remove, stats, verbose, debug, hits, otherZone bool
	file                                           string
	hasFile                                        bool
}

// ipnat is ipnat(8). It exits with 1 for wrong options and syntax errors;
// everything else that goes wrong is only told.
func (m *Model) ipnat(ctx context.Context, inv *program.Invocation) int {
	r := &ipnatRun{Invocation: inv, m: m}
	if !r.options(inv.Args()) {
		inv.Errf("Usage: %s [-CdFhlnrRsv] [-f filename] [-G|-z zonename]\n", inv.Argv[0])
		return 1
	}
	if r.otherZone || r.debug || r.hits && r.list {
		inv.Errf("%sipnat -d, -G, -z, -M, -N and -h with -l are not simulated\n", simulated)
		return 1
	}
	if !m.enabled && !r.nothing {
		inv.Errf("ioctl(SIOCGNATS): I/O error\n") // the engine answers only when ipf -E was given
		return 1
	}
	if code := r.flushes(ctx); code != 0 {
		return code
	}
	if r.hasFile {
		if code := r.load(ctx); code != 0 {
			return code
		}
	}
	return r.show(ctx)
}

// options reads the command line as getopt(3C); operands are ignored.
func (r *ipnatRun) options(args []string) bool {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "--" {
		cluster := args[0][1:]
		args = args[1:]
		for i := 0; i < len(cluster); i++ {
			c := cluster[i]
			if strings.IndexByte("fGzMN", c) < 0 {
				if !r.flag(c) {
					return false
				}
				continue
			}
			value := cluster[i+1:]
			if value == "" {
				if len(args) == 0 {
					return false
				}
				value, args = args[0], args[1:]
			}
			if c == 'f' {
				r.file, r.hasFile = value, true
			} else {
				r.otherZone = true
			}
			break
		}
	}
	return true
}

func (r *ipnatRun) flag(c byte) bool {
	flags := map[byte]*bool{'C': &r.clear, 'F': &r.flush, 'l': &r.list, 'n': &r.nothing, 'R': &r.numeric, 'r': &r.remove,
		's': &r.stats, 'v': &r.verbose, 'd': &r.debug, 'h': &r.hits}
	if flags[c] == nil {
		return false
	}
	*flags[c] = true
	return true
}

// flushes is what happens before any file is read: sessions first, then rules.
// With -n it prints the numbers of the ioctls instead of counts.
func (r *ipnatRun) flushes(ctx context.Context) int {
	if r.flush {
		n := 1
		if !r.nothing {
			var err error
			if n, err = r.m.backend.Flush(ctx); err != nil {
				return r.backendFailed(err)
			}
		}
		r.Outf("%d entries flushed from NAT table\n", n)
	}
	if r.clear {
		n := 0
		if !r.nothing {
			n = len(r.m.nat)
			if err := r.m.backend.Load(ctx, nil, r.m.filter); err != nil {
				return r.backendFailed(err)
			}
			r.m.nat = nil
		}
		r.Outf("%d entries flushed from NAT list\n", n)
	}
	return 0
}

func (r *ipnatRun) backendFailed(err error) int {
	r.Errf("%s%v\n", simulated, err)
	return 1
}

const maxFile = 16 << 20 // bytes of rules; more is a mistake

// load adds or removes the rules of a file, one by one.
func (r *ipnatRun) load(ctx context.Context) int {
	text, err := r.read()
	if err != nil {
		r.Errf("fopen(%s) failed: %s\n", r.file, errnoText(err))
		return 0
	}
	set := newRuleSet(r.m.nat)
	warnings, err := ParseRules(text, func(rule Rule, line int) error {
		if r.verbose {
			r.Outf("%s\n", rule.text(r.numeric))
		}
		if !r.nothing {
			r.change(set, rule, line)
		}
		return nil
	})
	for _, w := range warnings {
		r.Errf("%s\n", w)
	}
	if set.changed {
		rules := set.list()
		if lerr := r.m.backend.Load(ctx, rules, r.m.filter); lerr != nil {
			return r.backendFailed(lerr)
		}
		r.m.nat = rules
	}
	if err != nil {
		r.Errf("%v\n", err)
		return 1
	}
	return 0
}

// change is the ioctl for one rule.
func (r *ipnatRun) change(set *ruleSet, rule Rule, line int) {
	if r.remove {
		if !set.remove(rule) {
			r.Errf("%d:ioctl(delete nat rule): No such process\n", line)
		}
		return
	}
	if set.has(rule) {
		r.Errf("%d:ioctl(add/insert nat rule): File exists\n", line)
		return
	}
	if err := rule.Supported(); err != nil {
		r.Errf("%s%v\n%d:ioctl(add/insert nat rule): Operation not supported\n", simulated, err, line)
		return
	}
	set.add(rule)
}

func (r *ipnatRun) read() (string, error) {
	if r.file == "-" {
		return readAll(r.Stdin)
	}
	path := r.file
	if !strings.HasPrefix(path, "/") {
		path = r.Dir + "/" + path
	}
	f, err := r.Files.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	return string(data), err
}

func errnoText(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return "Permission denied"
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// show is -s and -l.
func (r *ipnatRun) show(ctx context.Context) int {
	if !r.list && !r.stats {
		return 0
	}
	var sessions []Session
	var rules []Rule
	if r.m.enabled {
		var err error
		if sessions, err = r.m.backend.Sessions(ctx); err != nil {
			return r.backendFailed(err)
		}
		rules = r.m.nat
	}
	if r.stats {
		r.Errf("%sonly inuse and rules are counted\n", simulated)
		r.Outf("mapped\tin\t0\tout\t0\nadded\t0\texpired\t0\nno memory\t0\tbad nat\t0\n")
		r.Outf("inuse\t%d\norphans\t0\nrules\t%d\nwilds\t0\n", len(sessions), len(rules))
	}
	if !r.list {
		return 0
	}
	r.Outf("List of active MAP/Redirect filters:\n")
	var b strings.Builder
	for _, rule := range rules {
		b.WriteString(rule.text(r.numeric) + "\n")
	}
	r.Outf("%s\nList of active sessions:\n", b.String())
	for _, s := range sessions {
		r.Outf("%s\n", s.text())
	}
	if r.verbose {
		r.Outf("\nList of active host mappings:\n")
	}
	return 0
}

// text is printactivenat() without -v.
func (s Session) text() string {
	kind := map[Kind]string{Map: "MAP", Redirect: "RDR", Bimap: "BIMAP", MapBlock: "MAP-BLOCK"}[s.Kind]
	if s.Proto != protoTCP && s.Proto != protoUDP {
		return fmt.Sprintf("%s %-15s <- -> %-15s [%s]", kind, s.Inside.Addr, s.Outside.Addr, s.Peer.Addr)
	}
	return fmt.Sprintf("%s %-15s %-5d <- -> %-15s %-5d [%s %d]", kind, s.Inside.Addr, s.Inside.Port,
		s.Outside.Addr, s.Outside.Port, s.Peer.Addr, s.Peer.Port)
}
