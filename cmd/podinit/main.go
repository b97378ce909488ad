// Command podinit is process 1 of a pod zone. It is also the zone's only shell
// and su: zlogin(1) hands its command to one of them, and the only commands
// that a pod zone takes are podinit's own.
//
//	/sbin/init                    supervise the containers of the pod
//	podinit supervise [--base D]  the same, by name, with every path below D
//	podinit channel               join standard input and output to process 1
//	podinit host DIR              supervise the host pod in DIR, in the global zone
//	podinit sweep DIR             end what a host pod has left running and mounted
//	sh -c "/sbin/podinit VERB"    as podinit VERB; likewise su USER -c
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/supervisor"
)

// Exit codes of a shell that did not run a command.
const (
	exitRefused  = 126
	exitNotFound = 127
)

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process. It returns the exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	name := filepath.Base(args[0])
	words := args[1:]
	switch {
	case len(words) == 1 && words[0] == supervisor.StubVerb:
		supervisor.Stub() //nolint:errcheck // podinit has been told
		return exitNotFound
	case name == "init":
		if len(words) > 0 || !canBeInit() {
			fmt.Fprintln(errOut, "init: a pod zone is halted from outside, with zoneadm") //nolint:errcheck // nobody else to tell
			return exitRefused
		}
		return supervise(true, nil, errOut)
	case name == "sh" || name == "su":
		verb, err := shellCommand(name, words)
		if err != nil {
			fmt.Fprintf(errOut, "%s: %v\n", name, err) //nolint:errcheck // nobody else to tell
			return exitRefused
		}
		words = verb
	}
	if len(words) == 0 {
		fmt.Fprintln(errOut, "usage: podinit supervise | channel | host DIR | sweep DIR") //nolint:errcheck // as above
		return 2
	}
	switch words[0] {
	case "supervise":
		return supervise(false, words[1:], errOut)
	case "channel":
		base, err := parseBase(words[1:])
		if err == nil {
			err = supervisor.Relay(supervisor.Config{Base: base}, in, out)
		}
		return report(err, errOut)
	case "host", "sweep":
		if len(words) != 2 || !filepath.IsAbs(words[1]) {
			fmt.Fprintf(errOut, "usage: podinit %s DIR\n", words[0]) //nolint:errcheck // as above
			return 2
		}
		if words[0] == "sweep" {
			return sweep(words[1], errOut)
		}
		if err := supervisor.Detach(words[1]); err != nil {
			return report(err, errOut)
		}
		return superviseHost(words[1], errOut)
	}
	fmt.Fprintf(errOut, "podinit: unknown verb %q\n", words[0]) //nolint:errcheck // as above
	return exitNotFound
}

func report(err error, errOut io.Writer) int {
	if err != nil {
		fmt.Fprintf(errOut, "podinit: %v\n", err) //nolint:errcheck // nobody else to tell
		return 1
	}
	return 0
}

// shellCommand takes apart what zlogin passes to a shell (sh -c "STRING") or
// to su (su USER -c "STRING", su - USER -c "STRING"). There is no shell here:
// the string is podinit's path, a verb, and at most one word of characters that
// mean nothing to any shell.
func shellCommand(name string, args []string) ([]string, error) {
	if name == "su" {
		if len(args) > 0 && args[0] == "-" {
			args = args[1:]
		}
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			if args[0] != "root" {
				return nil, fmt.Errorf("this zone has no user %.32q to become", args[0])
			}
			args = args[1:]
		}
	}
	if len(args) != 2 || args[0] != "-c" {
		return nil, errors.New("a pod zone has no shell; run programs in its containers with kubectl exec")
	}
	words := strings.Split(args[1], " ")
	if len(words) < 2 || len(words) > 3 || words[0] != "/sbin/podinit" {
		return nil, errors.New("a pod zone runs no commands but /sbin/podinit VERB [WORD]")
	}
	for _, w := range words[1:] {
		if !opaque(w) {
			return nil, fmt.Errorf("the word %.32q has characters that are not allowed", w)
		}
	}
	return words[1:], nil
}

func opaque(w string) bool {
	for _, c := range []byte(w) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.=-", c) >= 0
		if !ok {
			return false
		}
	}
	return w != ""
}

func parseBase(args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", nil
	case len(args) == 2 && args[0] == "--base":
		dir, err := filepath.Abs(args[1])
		if err != nil {
			return "", err
		}
		return filepath.EvalSymlinks(dir) // as /proc shows it
	}
	return "", fmt.Errorf("bad arguments %q", args)
}

// Every zone has a podinit, so its memory counts more than its speed.
const (
	gcPercent   = 25
	memoryLimit = 12 << 20
	maxProcs    = 2
)

// failurePause is what process 1 waits before it ends in failure.
const failurePause = time.Second

// canBeInit says whether this process can be a zone's init. On illumos its
// process id does not tell: only the lx brand shows it as 1.
func canBeInit() bool { return runtime.GOOS == "illumos" || os.Getpid() == 1 }

// supervise runs the containers; first says whether as the zone's init.
func supervise(first bool, args []string, errOut io.Writer) int {
	base, err := parseBase(args)
	if err != nil {
		return report(err, errOut)
	}
	err = serve(supervisor.Config{Base: base, Zone: first}, errOut)
	switch {
	case err != nil && first:
		// Some brands start a failed init again at once.
		defer time.Sleep(failurePause)
	case first:
		supervisor.EndZone()
	}
	return report(err, errOut)
}

// superviseHost runs the containers of a host pod.
func superviseHost(dir string, errOut io.Writer) int {
	return report(serve(hostConfig(dir), errOut), errOut)
}

func hostConfig(dir string) supervisor.Config {
	return supervisor.Config{Host: dir, Base: filepath.Join(dir, podinit.HostRoot)}
}

// serve supervises until it is told to end.
func serve(c supervisor.Config, errOut io.Writer) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	runtime.GOMAXPROCS(maxProcs)
	var err error
	if c.Self, err = os.Executable(); err != nil {
		return err
	}
	c.Log = log.New(errOut, "podinit: ", 0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR)
	defer stop()
	return supervisor.Run(ctx, c)
}

// sweepTime bounds the killing of what does not want to end.
const sweepTime = 20 * time.Second

func sweep(dir string, errOut io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	c := hostConfig(dir)
	c.Log = log.New(errOut, "podinit: ", 0)
	return report(supervisor.Sweep(ctx, c), errOut)
}
