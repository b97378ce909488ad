//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// Relay carries connections to Listen, an address outside of the lab, to
// Target, one inside.
type Relay struct {
	Listen, Target string
}

// ParseRelay reads "127.0.0.1:6443=198.51.100.1:6443". Nothing but loopback
// may be listened on: a lab is not for others.
func ParseRelay(s string) (Relay, error) {
	r, err := ParseAnyRelay(s)
	if err != nil {
		return Relay{}, err
	}
	host, _, err := net.SplitHostPort(r.Listen)
	if err != nil {
		return Relay{}, fmt.Errorf("relay %q: %w", s, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return Relay{}, fmt.Errorf("relay %q: %s is not a loopback address", s, host)
	}
	return r, nil
}

// ParseAnyRelay is ParseRelay for any address to listen on: one inside the lab,
// or one that was asked to be published.
func ParseAnyRelay(s string) (Relay, error) {
	listen, target, ok := strings.Cut(s, "=")
	if !ok {
		return Relay{}, fmt.Errorf("relay %q: want LISTEN=TARGET, such as 127.0.0.1:6443=198.51.100.1:6443", s)
	}
	for _, address := range []string{listen, target} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return Relay{}, fmt.Errorf("relay %q: %w", s, err)
		}
	}
	return Relay{Listen: listen, Target: target}, nil
}

// start is what the launcher tells the lab's first process.
type start struct {
	Dir     string
	Targets []string // of the relays whose listeners were passed
	Argv    []string
}

// File descriptors of the lab's first process.
const (
	startFD    = 3 // start, as JSON
	lifeFD     = 4 // ends with the launcher
	watchFD    = 5 // held open: ends, for the watchdog, with the last of us
	listenerFD = 6 // and following
)

// Options says how a lab is to run.
type Options struct {
	Relays  []Relay // from outside to inside
	Outward []Relay // from inside to outside

	// Temporary makes the lab end when whoever started it does, however that
	// ends, and removes the lab's directory at the end.
	Temporary bool
}

// Run makes a lab, runs argv in it and returns its exit code when everything
// of the lab has gone.
func (l Lab) Run(o Options, argv []string) (int, error) {
	// The lab's first process dies with the thread that started it.
	runtime.LockOSThread()
	if o.Temporary {
		// SIGTERM goes on to argv, which ends what it has started.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
			return 0, fmt.Errorf("lab: %w", err)
		}
	}
	if os.Geteuid() != 0 {
		return asRoot(os.Args)
	}
	group, err := stepAside()
	if err != nil {
		return 0, err
	}
	lock, err := l.prepare()
	if err != nil {
		return 0, err
	}
	defer lock.Close() //nolint:errcheck // only a lock
	listeners, targets, err := listen(o.Relays)
	if err != nil {
		return 0, err
	}
	watchdog, watch, err := l.startWatchdog(lock, group, o.Temporary)
	if err != nil {
		return 0, err
	}
	code, runErr := l.runInit(start{Dir: l.Dir, Targets: targets, Argv: argv}, group, watch, listeners, o.Outward)
	_ = watch.Close()
	if err := watchdog.Wait(); err != nil {
		return code, errors.Join(runErr, fmt.Errorf("lab: cleaning up, see %s: %w", l.watchdogLog(), err))
	}
	return code, runErr
}

// prepare makes the lab's directory and locks it.
func (l Lab) prepare() (*os.File, error) {
	for _, dir := range []string{l.Dir, l.Hosts(), l.Logs()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(l.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	// The watchdog of a lab that was killed holds the lock until it is done,
	// so the wait is short, if there is any.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if _, alive := l.Process(); alive == nil {
			_ = lock.Close()
			return nil, fmt.Errorf("lab: one is running in %s already; enter it with: host lab exec --dir %s -- CMD", l.Dir, l.Dir)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("lab: lock %s: %w", l.Dir, err)
		}
	}
	return lock, nil
}

func listen(relays []Relay) (files []*os.File, targets []string, err error) {
	for _, r := range relays {
		ln, err := net.Listen("tcp", r.Listen)
		if err != nil {
			return nil, nil, fmt.Errorf("lab: relay: %w", err)
		}
		f, err := ln.(*net.TCPListener).File()
		_ = ln.Close() // f is a copy
		if err != nil {
			return nil, nil, fmt.Errorf("lab: relay: %w", err)
		}
		files, targets = append(files, f), append(targets, r.Target)
	}
	return files, targets, nil
}

// runInit runs the lab's first process to its end.
func (l Lab) runInit(s start, group string, watch *os.File, listeners []*os.File, out []Relay) (int, error) {
	startR, startW, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("lab: %w", err)
	}
	defer lifeW.Close() //nolint:errcheck // its end is the message
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{InitName}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = append([]*os.File{startR, lifeR, watch}, listeners...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces.All, Pdeathsig: unix.SIGKILL}
	code, err := spaces.WaitStarted(cmd, func() error {
		for _, f := range append([]*os.File{startR, lifeR}, listeners...) {
			_ = f.Close()
		}
		defer startW.Close() //nolint:errcheck // written at once
		p, err := spaces.Find(cmd.Process.Pid)
		if err != nil {
			return err
		}
		if err := l.writeStatus(status{Init: p, Group: group}); err != nil {
			return err
		}
		if err := json.NewEncoder(startW).Encode(s); err != nil {
			return err
		}
		for _, r := range out {
			if err := outward(cmd.Process.Pid, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return code, fmt.Errorf("lab: %w", err)
	}
	return code, nil
}

func (l Lab) writeStatus(s status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := l.statusFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, l.statusFile())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
