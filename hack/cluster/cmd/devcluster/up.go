package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/cluster/components"
	"reddwarf.io/reddwarf/hack/cluster/config"
	"reddwarf.io/reddwarf/hack/cluster/lock"
	"reddwarf.io/reddwarf/hack/cluster/pki"
	"reddwarf.io/reddwarf/hack/cluster/supervise"
)

// Files of a cluster besides those that package config names.
const (
	lockFile  = "lock"           // held by the running cluster
	readyFile = "ready"          // there while all components are ready
	stateFile = "state.json"     // a state
	logFile   = "devcluster.log" // what the components say
)

// collectAt makes the garbage collector run at 50 % growth instead of 100 %: the
// control plane shares a small machine with what is developed on it.
const collectAt = 50

// state is what up tells the other subcommands.
type state struct {
	Server  string            // URL for nodes
	Health  map[string]string // component → URL
	Started time.Time
}

func up(ctx context.Context, args []string, _, stderr io.Writer) error {
	c := config.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		PodCIDR:     netip.MustParsePrefix("10.244.0.0/16"),
	}
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	dir := dirFlag(fs)
	fs.TextVar(&c.Bind, "bind", netip.MustParseAddr("127.0.0.1"), "`address` the API server listens on")
	fs.TextVar(&c.Advertise, "advertise", netip.Addr{}, "its `address` for nodes and pods; none or loopback: no endpoints for the kubernetes Service")
	fs.IntVar(&c.Port, "port", 6443, "its port")
	fs.TextVar(&c.ServiceCIDR, "service-cidr", c.ServiceCIDR, "addresses of Services")
	fs.TextVar(&c.PodCIDR, "pod-cidr", c.PodCIDR, "addresses of pods; each node gets a /24")
	fs.StringVar(&c.FeatureGates, "feature-gates", "", "`list` of gates to set, such as A=true,B=false")
	withParent := fs.Bool("die-with-parent", false, "stop as by SIGTERM when the process that started this one ends, however it ends")
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	var err error
	if c.Dir, err = dir(); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if *withParent {
		if err := dieWithParent(); err != nil {
			return err
		}
	}
	return serve(ctx, c, stderr)
}

// serve runs the cluster until ctx ends.
func serve(ctx context.Context, c config.Config, progress io.Writer) (err error) {
	begin := time.Now()
	report := func(format string, args ...any) {
		fmt.Fprintf(progress, "devcluster %5.1fs %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...)) //nolint:errcheck // nobody may be looking
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	held, err := lock.Acquire(c.File(lockFile))
	if err != nil {
		return err
	}
	defer held.Release() //nolint:errcheck // the process ends anyway
	if err := remove(c, readyFile, stateFile); err != nil {
		return err
	}
	if err := c.WriteCredentials(); err != nil {
		return err
	}
	closeLog, err := redirectLogs(c.File(logFile))
	if err != nil {
		return err
	}
	defer closeLog()
	debug.SetGCPercent(collectAt)
	report("starting in %s, log in %s", c.Dir, c.File(logFile))

	plane, err := components.New(c, c.File(logFile))
	if err != nil {
		return err
	}
	defer plane.Close()
	ready := func() error {
		if err := plane.AllowKubeletAPI(ctx); err != nil {
			return err
		}
		if err := announce(c, plane, begin); err != nil {
			return err
		}
		report("ready: export KUBECONFIG=%s", c.Kubeconfig(config.Admin))
		return nil
	}
	err = supervise.Run(ctx, supervise.Options{
		Start: 3 * time.Minute, // a loaded machine, cold caches
		Stop:  10 * time.Second,
		Poll:  50 * time.Millisecond,
		Report: func(format string, args ...any) {
			report(format, args...)
		},
	}, ready, plane.Stages()...)
	err = errors.Join(err, remove(c, readyFile, stateFile))
	if err != nil {
		return fmt.Errorf("%w (log: %s)", err, c.File(logFile))
	}
	report("stopped")
	return nil
}

// announce tells the others that the cluster is ready.
func announce(c config.Config, plane *components.ControlPlane, begin time.Time) error {
	data, err := json.MarshalIndent(state{Server: c.URL(), Health: plane.Health(), Started: begin}, "", "  ")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := pki.WriteFile(c.File(stateFile), append(data, '\n')); err != nil {
		return err
	}
	took := time.Since(begin).Round(time.Millisecond)
	return pki.WriteFile(c.File(readyFile), []byte(took.String()+"\n"))
}

func remove(c config.Config, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// redirectLogs sends what the components print to the file at path, and keeps
// the standard error for progress. A panic still goes to descriptor 2.
func redirectLogs(path string) (closeLog func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	old := os.Stderr
	os.Stderr = f
	log.SetOutput(f)
	return func() {
		os.Stderr = old
		log.SetOutput(old)
		f.Close() //nolint:errcheck // the last lines of a log
	}, nil
}

// dieWithParent has the kernel send SIGTERM when the parent ends.
func dieWithParent() error {
	// The setting belongs to the thread that makes it, so the thread has to
	// stay: main's goroutine keeps it.
	runtime.LockOSThread()
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("die with parent: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("die with parent: it has ended already")
	}
	return nil
}
