//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/lab"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/machine"
)

const usage = `usage:
  host lab run  --dir DIR [--temporary] [--relay OUTSIDE=INSIDE ...] [--relay-out INSIDE=OUTSIDE ...] -- CMD...
  host lab exec --dir DIR -- CMD...
  host lab check
  host up NAME [--distro omnios|smartos|openindiana] [--cpus N] [--memory 8G]
               [--ip ADDRESS] [--pool rpool] [--pool-size 20G] [--trace FILE]
               [--foreground]
  host run NAME -- CMD...
  host down NAME
  host reboot NAME
  host list
  host fault NAME --match 'zoneadm *boot*' [--after N] [--times N]
               [--fail CODE [--stderr TEXT]] [--delay D] [--hang]
               [--kill-agent-before | --kill-agent-after]
  host fault NAME [--clear]

Hosts live in a lab, which ends with the CMD of lab run. Outside of a lab, name
it with --dir DIR. An ordinary user's lab is in a user namespace; lab check says
what is missing for that.
`

var errUsage = errors.New("see: host help")

// command is one subcommand.
type command func(ctx context.Context, args []string) (int, error)

func run(args []string) (int, error) {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2, nil
	}
	commands := map[string]command{
		"lab": labCommand, "up": upCommand, "run": runCommand, "down": downCommand,
		"reboot": rebootCommand, "list": listCommand, "fault": faultCommand,
	}
	switch args[0] {
	case "help", "-h", "--help":
		fmt.Print(usage)
		return 0, nil
	}
	c, ok := commands[args[0]]
	if !ok {
		return 2, fmt.Errorf("no subcommand %q: %w", args[0], errUsage)
	}
	ctx := context.Background()
	if args[0] != "run" && args[0] != "lab" { // these pass signals on
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
	}
	return c(ctx, args[1:])
}

// words are the arguments of a subcommand: options and operands in any order,
// then, after --, a program.
type words struct {
	*flag.FlagSet
	dir     string
	operand []string
	program []string
}

func newWords(name string) *words {
	w := &words{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	w.StringVar(&w.dir, "dir", "", "directory of the lab, outside of it")
	return w
}

// parse reads args, of which operands are to be n.
func (w *words) parse(args []string, n int) error {
	for i, a := range args {
		if a == "--" {
			args, w.program = args[:i], args[i+1:]
			break
		}
	}
	for {
		if err := w.FlagSet.Parse(args); err != nil {
			return errUsage
		}
		if w.NArg() == 0 {
			break
		}
		w.operand = append(w.operand, w.Arg(0))
		args = w.Args()[1:]
	}
	if len(w.operand) != n {
		return fmt.Errorf("%s: want %d operands, got %q: %w", w.Name(), n, w.operand, errUsage)
	}
	return nil
}

// errElsewhere means that the subcommand was run inside of the lab.
var errElsewhere = errors.New("done in the lab")

// enterLab returns the lab that this process is in. Outside of it, the whole
// command is run again inside.
func (w *words) enterLab() (l lab.Lab, code int, err error) {
	l, inside := lab.Current()
	if inside {
		return l, 0, nil
	}
	if w.dir == "" {
		return l, 1, errors.New("hosts live in a lab: start one with `host lab run --dir DIR -- CMD`, or name one that runs with --dir DIR")
	}
	l, err = lab.At(w.dir)
	if err != nil {
		return l, 1, err
	}
	code, err = l.ExecSelf(append([]string{"host"}, os.Args[1:]...))
	if err == nil {
		err = errElsewhere
	}
	return l, code, err
}

// done turns errElsewhere into the exit code it stands for.
func done(code int, err error) (int, error) {
	if errors.Is(err, errElsewhere) {
		return code, nil
	}
	return 1, err
}

func labCommand(_ context.Context, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errUsage
	}
	if args[0] == "check" {
		if err := lab.Check(); err != nil {
			return 1, err
		}
		return 0, nil
	}
	w := newWords("lab " + args[0])
	var o lab.Options
	anyRelay := func(to *[]lab.Relay) func(string) error {
		return func(s string) error {
			r, err := lab.ParseAnyRelay(s)
			*to = append(*to, r)
			return err
		}
	}
	w.Func("publish", "as relay, but OUTSIDE may be any address of this machine", anyRelay(&o.Relays))
	w.Func("relay-out", "carry connections to INSIDE=OUTSIDE", anyRelay(&o.Outward))
	w.BoolVar(&o.Temporary, "temporary", false, "end with whoever started it, and remove DIR then")
	w.Func("relay", "carry connections to OUTSIDE=INSIDE", func(s string) error {
		r, err := lab.ParseRelay(s)
		o.Relays = append(o.Relays, r)
		return err
	})
	if err := w.parse(args[1:], 0); err != nil {
		return 2, err
	}
	if w.dir == "" || len(w.program) == 0 {
		return 2, fmt.Errorf("lab %s: want --dir DIR and -- CMD: %w", args[0], errUsage)
	}
	l, err := lab.At(w.dir)
	if err != nil {
		return 1, err
	}
	switch args[0] {
	case "run":
		return l.Run(o, w.program)
	case "exec":
		return l.Exec(w.program)
	}
	return 2, fmt.Errorf("no subcommand lab %q: %w", args[0], errUsage)
}

func upCommand(ctx context.Context, args []string) (int, error) {
	w := newWords("up")
	c := machine.Config{}
	w.StringVar(&c.Distro, "distro", "omnios", "omnios, smartos or openindiana")
	w.IntVar(&c.CPUs, "cpus", 4, "processors that the host shows")
	memory := w.String("memory", "8G", "memory that the host shows")
	ip := w.String("ip", "", "address on the LAN (default: the next free one)")
	w.StringVar(&c.Pool, "pool", "rpool", "name of the pool")
	size := w.String("pool-size", "20G", "size of the pool")
	w.StringVar(&c.Trace, "trace", os.Getenv("HOST_TRACE"), "file to trace commands to")
	foreground := w.Bool("foreground", false, "stay until the host goes down")
	if err := w.parse(args, 1); err != nil {
		return 2, err
	}
	l, code, err := w.enterLab()
	if err != nil {
		return done(code, err)
	}
	c.Name = w.operand[0]
	if c.Memory, err = parseSize(*memory); err != nil {
		return 2, err
	}
	if c.PoolSize, err = parseSize(*size); err != nil {
		return 2, err
	}
	if c.Address, err = address(l, c.Name, *ip); err != nil {
		return 1, err
	}
	if err := machine.Up(ctx, l, c, *foreground); err != nil {
		return 1, err
	}
	if !*foreground {
		fmt.Printf("host %s is up at %v\n", c.Name, c.Address.Addr())
	}
	return 0, nil
}

func runCommand(_ context.Context, args []string) (int, error) {
	w := newWords("run")
	if err := w.parse(args, 1); err != nil {
		return 2, err
	}
	if len(w.program) == 0 {
		return 2, fmt.Errorf("run: want -- CMD: %w", errUsage)
	}
	l, code, err := w.enterLab()
	if err != nil {
		return done(code, err)
	}
	return machine.Host{Lab: l, Name: w.operand[0]}.Run(w.program)
}

// named runs f on the host that a subcommand names.
func named(name string, args []string, f func(machine.Host) error) (int, error) {
	w := newWords(name)
	if err := w.parse(args, 1); err != nil {
		return 2, err
	}
	l, code, err := w.enterLab()
	if err != nil {
		return done(code, err)
	}
	if err := f(machine.Host{Lab: l, Name: w.operand[0]}); err != nil {
		return 1, err
	}
	return 0, nil
}

func downCommand(ctx context.Context, args []string) (int, error) {
	return named("down", args, func(h machine.Host) error { return h.Down(ctx) })
}

func rebootCommand(_ context.Context, args []string) (int, error) {
	return named("reboot", args, machine.Host.Reboot)
}

func listCommand(_ context.Context, args []string) (int, error) {
	w := newWords("list")
	if err := w.parse(args, 0); err != nil {
		return 2, err
	}
	l, code, err := w.enterLab()
	if err != nil {
		return done(code, err)
	}
	hosts, err := machine.List(l)
	if err != nil {
		return 1, err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(out, "NAME\tSTATE\tADDRESS\tDISTRO\tCPUS\tMEMORY")
	for _, h := range hosts {
		state := "down"
		if h.Up {
			state = "up"
		}
		c := h.Config
		fmt.Fprintf(out, "%s\t%s\t%v\t%s\t%d\t%dM\n", c.Name, state, c.Address.Addr(), c.Distro, c.CPUs, c.Memory>>20)
	}
	return 0, out.Flush()
}

func faultCommand(_ context.Context, args []string) (int, error) {
	w := newWords("fault")
	var f host.Fault
	w.StringVar(&f.Match, "match", "", "commands, with * and ?")
	w.IntVar(&f.After, "after", 0, "so many runs go well first")
	w.IntVar(&f.Times, "times", 0, "so many runs then go wrong (0: all)")
	w.IntVar(&f.Exit, "fail", 0, "exit code of a command that does nothing")
	w.StringVar(&f.Stderr, "stderr", "", "what it says")
	w.DurationVar(&f.Delay, "delay", 0*time.Second, "wait before the command")
	w.BoolVar(&f.Hang, "hang", false, "wait until the command is killed")
	w.BoolVar(&f.KillBefore, "kill-agent-before", false, "kill -9 the command's caller before it does anything")
	w.BoolVar(&f.KillAfter, "kill-agent-after", false, "kill -9 the command's caller when it has done everything")
	remove := w.Bool("clear", false, "remove all faults")
	if err := w.parse(args, 1); err != nil {
		return 2, err
	}
	l, code, err := w.enterLab()
	if err != nil {
		return done(code, err)
	}
	h := machine.Host{Lab: l, Name: w.operand[0]}
	switch {
	case *remove:
		err = h.ClearFaults()
	case f == host.Fault{}:
		var text string
		text, err = h.Faults()
		fmt.Print(text)
	default:
		err = h.AddFault(f)
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// parseSize reads a number of bytes with an optional suffix K, M, G or T.
func parseSize(s string) (uint64, error) {
	shift := 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			shift, s = 10*(i+1), s[:n-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("size %q: want a number with K, M, G or T", s)
	}
	return n << shift, nil
}

// address reads the host's address on the LAN; none means
// the one it has had or the next free one.
func address(l lab.Lab, name, ip string) (netip.Prefix, error) {
	if ip == "" {
		return machine.FreeAddress(l, name)
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("--ip: %w", err)
	}
	return netip.PrefixFrom(a, lab.Gateway().Bits()), nil
}
