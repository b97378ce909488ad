package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
)

// podinit renews itself: it runs its own program again in its place, as init(8)
// of other systems does when it is told to. The process stays the same, so its
// children, and with them the containers, do not notice; what podinit knows and
// has open it hands over. That is how it gives memory back. A zone's podinit
// needs 1.2 MiB. Whoever it serves, as by a program for a probe, leaves garbage,
// and the first collection makes the runtime touch tables of half a megabyte
// that it never gives back: every zone of a host would keep that for the sake of
// a probe.
//
// A renewal takes some milliseconds of processor time. It is due when the pod has
// been started, which leaves garbage, too; when garbage was collected; and when
// so many clients were served that it soon would be. To ask the runtime for
// figures would touch the same tables.
const (
	renewTime    = time.Minute // the least time from the start and between two renewals
	renewClients = 8           // each leaves 15 to 30 KiB

	// renewRoom is more than a starting podinit reserves.
	renewRoom = 8 << 20
)

// renewedVar is the environment variable by which a renewed podinit finds the
// handover: the number of an open file.
const renewedVar = "PODINIT_RENEWED"

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// handover is what podinit knows, for its next program. Its numbers are open
// files.
type handover struct {
	Version    int               `json:"version"`
	State      podinit.State     `json:"state"`
	Listener   int               `json:"listener"`
	Watchers   []int             `json:"watchers,omitempty"` // connections
	Brands     map[int]string    `json:"brands,omitempty"`
	Volumes    map[string]string `json:"volumes,omitempty"` // faults
	Containers []living          `json:"containers,omitempty"`
}

// errBusy means that something is going on that cannot be handed over.
var errBusy = errors.New("podinit is busy")

// mind calls giveBack when memory is to be given back: when that is due, and on
// SIGHUP. next returns a channel that is closed after the next collection.
func (s *Supervisor) mind(next func() <-chan struct{}, giveBack func()) {
	collected := next()
	clients, due, last := 0, !s.renewed, time.Now()
	var wait <-chan time.Time
	for {
		if due && wait == nil {
			wait = time.After(time.Until(last.Add(renewTime)))
		}
		select {
		case <-s.served:
			clients++
			due = due || clients >= renewClients
			continue
		case <-collected:
			collected, due = nil, true
			continue
		case <-wait:
		case <-s.hangUp:
		case <-s.ctx.Done():
			return
		}
		giveBack()
		// If that could not be now, then after as many again.
		clients, due, last, wait = 0, false, time.Now(), nil
		collected = next()
	}
}

// giveBack returns what mind calls. The lock of a host pod would not survive a
// renewal.
func (s *Supervisor) giveBack(l *net.UnixListener) func() {
	if s.config.Host != "" {
		return debug.FreeOSMemory
	}
	return func() { l.SetDeadline(longAgo) } //nolint:errcheck // a socket has deadlines; serve does the rest
}

// afterCollection returns a channel that is closed after the next collection of
// garbage.
func afterCollection() <-chan struct{} {
	done := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(c chan struct{}) { close(c) }, done)
	return done
}

// renew runs podinit's program anew in this process. It returns only if that
// could not be, and then everything goes on as before. Only the goroutine that
// accepts connections may call it, so that none is lost.
func (s *Supervisor) renew(l *net.UnixListener) error {
	if s.ctx.Err() != nil || !s.gate.TryLock() {
		return errBusy
	}
	defer s.gate.Unlock()
	// Until the next program waits for them, those who end are kept by the
	// kernel.
	s.reaper.mu.Lock()
	defer s.reaper.mu.Unlock()
	all, err := s.settled()
	if err != nil {
		return err
	}
	for _, c := range all {
		c.output.pause()
		defer c.output.run()
	}
	// A process that finds no memory while it executes is killed. So a zone at its
	// cap is left alone, and what is held here is free for the next program.
	room, err := unix.Mmap(-1, 0, renewRoom, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return errBusy
	}
	defer unix.Munmap(room) //nolint:errcheck // nothing is in it
	var kept openFiles
	defer kept.close()
	h, err := s.handOver(&kept, all, l)
	if err != nil {
		return err
	}
	file, err := h.save(filepath.Join(s.config.run(), "renewal.json"), &kept)
	if err != nil {
		return err
	}
	// One that comes before the next program minds it would end that.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Notify(s.hangUp, syscall.SIGHUP)
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, renewedVar+"=") })
	err = syscall.Exec(s.config.Self, os.Args, append(env, renewedVar+"="+strconv.Itoa(file)))
	return fmt.Errorf("exec %s: %w", s.config.Self, err)
}

// settled returns the containers that live. It is an error if one is just being
// started or has ended and that has not been seen to. The caller holds the gate
// and the reaper.
func (s *Supervisor) settled() ([]*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*container
	for _, c := range s.containers {
		if c.finished() {
			continue
		}
		c.mu.Lock()
		main := c.main
		c.mu.Unlock()
		if main == 0 || s.reaper.waiting[main] == nil || c.output.log.Dropped() > 0 {
			return nil, errBusy
		}
		all = append(all, c)
	}
	return all, nil
}

func (s *Supervisor) handOver(kept *openFiles, all []*container, l *net.UnixListener) (handover, error) {
	h := handover{
		Version: podinit.Version, State: s.states.copy(), Brands: s.brands, Volumes: map[string]string{},
		Listener: kept.add(l),
	}
	for name, fault := range s.volumes {
		h.Volumes[name] = fault.Error()
	}
	for _, conn := range s.watching() {
		h.Watchers = append(h.Watchers, kept.add(conn))
	}
	for _, c := range all {
		h.Containers = append(h.Containers, c.handOver(kept))
	}
	return h, kept.err
}

// save writes the handover to a file without a name, and returns its number.
func (h handover) save(path string, kept *openFiles) (int, error) {
	data, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // a duplicate stays
	if err := os.Remove(path); err != nil {
		return 0, err
	}
	if _, err := f.WriteAt(data, 0); err != nil { // which leaves the file at its start
		return 0, err
	}
	n := kept.add(f)
	return n, kept.err
}

// takeHandover returns what an earlier program of this process has left for
// this one, or nil.
func takeHandover() (*handover, error) {
	text, ok := os.LookupEnv(renewedVar)
	if !ok {
		return nil, nil //nolint:nilnil // both are answers
	}
	os.Unsetenv(renewedVar) //nolint:errcheck // the name is one
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("podinit: handover: %w", err)
	}
	f := reopen(n)
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("podinit: handover: %w", err)
	}
	var h handover
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, fmt.Errorf("podinit: handover: %w", err)
	}
	if h.Version != podinit.Version {
		return nil, fmt.Errorf("podinit: handover: version %d, not %d", h.Version, podinit.Version)
	}
	return &h, nil
}

// takeOver goes on where the earlier program was. Nothing may wait for children
// before it returns.
func (s *Supervisor) takeOver(h *handover) (*net.UnixListener, error) {
	f := reopen(h.Listener)
	defer f.Close() //nolint:errcheck // the listener has a duplicate
	listener, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("podinit: socket: %w", err)
	}
	l, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("podinit: socket: it is a %T", listener), listener.Close())
	}
	s.states = continueStates(filepath.Join(s.config.run(), podinit.StateFile), h.State, s.log)
	s.brands = h.Brands
	for name, fault := range h.Volumes {
		s.volumes[name] = errors.New(fault)
	}
	for _, one := range h.Containers {
		s.continueContainer(one)
	}
	for _, n := range h.Watchers {
		s.continueWatch(reopen(n))
	}
	return l, nil
}

// continueWatch serves a client who was watching.
func (s *Supervisor) continueWatch(f *os.File) {
	defer f.Close() //nolint:errcheck // the connection has a duplicate
	c, err := net.FileConn(f)
	conn, ok := c.(*net.UnixConn)
	if err != nil || !ok {
		s.log.Printf("channel: a watcher is lost: %v", err) // it connects again
		return
	}
	s.slots <- struct{}{} // there were no more before
	k := newClient(s, conn)
	k.join()
	s.work.Go(func() {
		defer func() { <-s.slots }()
		defer conn.Close() //nolint:errcheck // the client has all it gets
		k.watch()
	})
}

// openFiles are open files that the next program gets, with the first fault.
type openFiles struct {
	numbers []int
	err     error
}

// add returns the number by which the next program has the file open.
func (o *openFiles) add(f syscall.Conn) int {
	raw, err := f.SyscallConn()
	if err == nil {
		n := -1
		var derr error
		err = raw.Control(func(fd uintptr) { n, derr = unix.Dup(int(fd)) })
		if err == nil && derr == nil {
			o.numbers = append(o.numbers, n)
			return n
		}
		err = errors.Join(err, os.NewSyscallError("dup", derr))
	}
	o.err = errors.Join(o.err, err)
	return -1
}

// addOpen is add for a file that may be missing or closed, which it tells by -1.
func (o *openFiles) addOpen(f *os.File) int {
	if f == nil {
		return -1
	}
	if raw, err := f.SyscallConn(); err != nil || raw.Control(func(uintptr) {}) != nil {
		return -1
	}
	return o.add(f)
}

func (o *openFiles) close() {
	for _, n := range o.numbers {
		unix.Close(n) //nolint:errcheck // a duplicate
	}
}

// reopen returns the file that the earlier program had open under a number, or
// nil for -1. Programs that podinit starts do not get it.
func reopen(n int) *os.File {
	if n < 0 {
		return nil
	}
	unix.CloseOnExec(n)
	return os.NewFile(uintptr(n), "handed over")
}
