// Package supervisor is podinit's working part: it runs the containers of a
// pod as process trees of one zone, keeps what became of them, and serves the
// channel to the agent.
//
// It expects to be process 1, so that every process of the zone that loses its
// parent becomes its child. It can also run as an ordinary process, for
// containers of the global zone and for tests; it then asks for the same where
// the system has a way (Linux).
//
// An attempt is started at most once, ever: after a restart of podinit itself
// an attempt that was running counts as killed.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
)

// Config says where things are. The zero value of a field is the place in a
// pod zone.
type Config struct {
	Base string // put before every other path; empty in a zone
	Self string // podinit's own program, for starting itself again

	// Host is the directory of a host pod, whose containers are processes of
	// the global zone; empty in a zone. See podinit.HostPod.
	Host string

	volumes map[string]podinit.HostVolume // of a host pod

	// Zone says that every process here belongs to the pod or to podinit, so
	// that one which belongs to no container may be killed. It is so for
	// process 1.
	Zone bool

	Log *log.Logger // the console
}

func (c Config) spec() string            { return c.own(podinit.SpecDir, podinit.HostSpecDir) }
func (c Config) run() string             { return c.own(podinit.RunDir, podinit.HostRunDir) }
func (c Config) logs() string            { return c.own(podinit.LogDir, podinit.HostLogDir) }
func (c Config) root(name string) string { return filepath.Join(c.Base, podinit.ContainerDir, name) }
func (c Config) spare(n int) string      { return filepath.Join(c.Base, podinit.SpareDir, strconv.Itoa(n)) }
func (c Config) spares() string          { return filepath.Join(c.Base, podinit.SpareDir) }
func (c Config) view(name string) string { return filepath.Join(c.Base, "/reddwarf/view", name) }

// own is a directory of podinit's own: where a zone has it, or a host pod.
func (c Config) own(zone, host string) string {
	if c.Host != "" {
		return filepath.Join(c.Host, host)
	}
	return filepath.Join(c.Base, zone)
}

func (c Config) volume(name string) string {
	if c.Host != "" {
		return c.volumes[name].Path // "" cannot be opened
	}
	return filepath.Join(c.Base, podinit.VolumeDir, name)
}

// Supervisor runs the containers of one pod.
type Supervisor struct {
	config Config
	spec   podinit.Spec
	reaper *reaper
	states *states
	log    *log.Logger

	ctx  context.Context //nolint:containedctx // the supervisor's own life, which Run owns
	stop context.CancelFunc
	work sync.WaitGroup // every goroutine of containers and connections

	renewed bool // an earlier program of this process has started the pod

	served chan struct{} // a client was served
	slots  chan struct{} // one for each client
	hangUp chan os.Signal

	// gate is held for reading by whatever a renewal would cut in two, and for
	// writing by the renewal.
	gate sync.RWMutex

	// brands are the processes that were here before any container's, such as
	// the brand's address daemon, by process id and program.
	brands map[int]string

	// volumes are the faults of volumes that could not be made ready.
	volumes map[string]error

	mu         sync.Mutex
	containers map[string]*container // by name; the newest attempt
	watchers   map[*net.UnixConn]bool
}

// Run supervises until ctx ends or a client asks for the end, and returns when
// every container has been killed.
func Run(ctx context.Context, config Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &Supervisor{
		config: config, log: config.Log, ctx: ctx, stop: stop,
		served: make(chan struct{}, maxConnections), slots: make(chan struct{}, maxConnections), hangUp: make(chan os.Signal, 1),
		reaper: newReaper(), volumes: map[string]error{}, containers: map[string]*container{}, watchers: map[*net.UnixConn]bool{},
	}
	if s.log == nil {
		s.log = log.New(io.Discard, "", 0)
	}
	defer s.reaper.close()
	if s.config.Host != "" {
		unlock, err := s.config.lockHost()
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.config.readHost(); err != nil {
			return err
		}
	}
	if err := s.readSpec(); err != nil {
		return err
	}
	listener, stopReaping, err := s.begin()
	if err != nil {
		return err
	}
	signal.Notify(s.hangUp, syscall.SIGHUP)
	defer signal.Stop(s.hangUp)
	s.work.Go(func() { s.mind(afterCollection, s.giveBack(listener)) })
	s.serve(listener) // until ctx ends
	s.killAll()
	s.work.Wait()
	stopReaping()
	return nil
}

// begin goes on where an earlier program of this process was, or starts the
// containers.
func (s *Supervisor) begin() (l *net.UnixListener, stopReaping func(), err error) {
	h, err := takeHandover()
	if h != nil {
		if l, err = s.takeOver(h); err == nil {
			s.renewed = true
			return l, s.reapMeanwhile(), nil
		}
	}
	if err != nil {
		s.log.Printf("the containers are started again: %v", err)
	}
	if err := s.readState(); err != nil {
		return nil, nil, err
	}
	if err := s.setUpZone(s.spec, s.config.Zone); err != nil {
		return nil, nil, err
	}
	if l, err = s.listen(); err != nil {
		return nil, nil, err
	}
	stopReaping = s.reapMeanwhile()
	s.clearOut()
	s.readyVolumes()
	s.startMarked()
	return l, stopReaping, nil
}

// reapMeanwhile waits for children until the returned function is called,
// which returns when that has ended.
func (s *Supervisor) reapMeanwhile() (stop func()) {
	reaped, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reaped)
		s.reaper.until(quit)
	}()
	return func() {
		close(quit)
		<-reaped
	}
}

func (s *Supervisor) readSpec() error {
	f, err := os.Open(filepath.Join(s.config.spec(), podinit.SpecFile))
	if err != nil {
		return fmt.Errorf("podinit: spec: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, podinit.MaxSpec+1))
	if err != nil {
		return fmt.Errorf("podinit: spec: %w", err)
	}
	s.spec, err = podinit.ParseSpec(data)
	return err
}

// readState reads what an earlier podinit of this zone left.
func (s *Supervisor) readState() error {
	if err := os.MkdirAll(s.config.run(), 0o755); err != nil {
		return err
	}
	before, err := podinit.ReadState(s.config.run())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Printf("the earlier state is of no use: %v", err)
	}
	boot := strconv.FormatUint(rand.Uint64(), 16)
	s.states = newStates(filepath.Join(s.config.run(), podinit.StateFile), s.spec, boot, before, s.log)
	return nil
}

func (s *Supervisor) mounter() mounter { return mounter{s.reaper, s.config.Host != ""} }

func (s *Supervisor) startMarked() {
	for _, c := range s.spec.Containers {
		if !c.Start || s.states.get(c.Name).Phase != podinit.Waiting {
			continue
		}
		if err := s.start(c); err != nil {
			s.log.Printf("container %s: %v", c.Name, err)
		}
	}
}

// clearOut removes what an earlier podinit of this zone left running or mounted:
// some brands start their init again without ending anything else. Whatever
// else runs is the brand's.
func (s *Supervisor) clearOut() {
	s.killLeft(context.Background()) //nolint:errcheck // it returns when nothing is left
	if err := s.unmountLeft(); err != nil {
		s.log.Printf("%v", err)
	}
}

// killLeft kills every process that has a container's root, until none is left
// or ctx ends.
func (s *Supervisor) killLeft(ctx context.Context) error {
	roots := s.config.roots()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		left := 0
		s.brands = map[int]string{}
		for _, p := range processes() {
			if p.pid == os.Getpid() || !within(p.root, roots) {
				s.brands[p.pid] = p.program
				continue
			}
			left++
			syscall.Kill(p.pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("podinit: %d processes do not end: %w", left, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// unmountLeft takes away every mount in a container's root.
func (s *Supervisor) unmountLeft() error { return s.mounter().unmountAll(s.config.madeByUs) }

// roots are the directories below which containers have their roots.
func (c Config) roots() []string { return []string{c.root(""), c.spares(), c.view("")} }

// madeByUs reports whether what is mounted at point is podinit's doing or a
// container's: it is inside a container's root, or a view of one.
func (c Config) madeByUs(point string) bool {
	for _, dir := range []string{c.root(""), c.spares()} {
		if rest, ok := strings.CutPrefix(point, dir+"/"); ok {
			return strings.Contains(rest, "/")
		}
	}
	return strings.HasPrefix(point, c.view("")+"/")
}

// start begins an attempt, and returns when it runs or never will.
func (s *Supervisor) start(spec podinit.Container) error {
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return refuse(podinit.ReasonInternal, "podinit is ending")
	}
	old := s.states.get(spec.Name)
	switch {
	case old.Phase != podinit.Waiting && spec.Attempt <= old.Attempt:
		s.mu.Unlock()
		return nil // was started before
	case old.Phase == podinit.Running:
		s.mu.Unlock()
		return refuse(podinit.ReasonRequest, "container %s: attempt %d still runs", spec.Name, old.Attempt)
	}
	if c := s.containers[spec.Name]; c != nil && !c.finished() {
		s.mu.Unlock()
		if c.spec.Attempt == spec.Attempt {
			<-c.started
			return c.fault
		}
		return refuse(podinit.ReasonRequest, "container %s: attempt %d is being started", spec.Name, c.spec.Attempt)
	}
	c := newContainer(s, spec)
	s.containers[spec.Name] = c
	s.work.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.work.Done()
		c.run()
	}()
	<-c.started
	return c.fault
}

// running returns the container of that name if its main process runs.
func (s *Supervisor) running(name string) (*container, error) {
	s.mu.Lock()
	c := s.containers[name]
	s.mu.Unlock()
	if c == nil {
		if s.states.known(name) {
			return nil, refuse(podinit.ReasonNotRunning, "container %s does not run", name)
		}
		return nil, refuse(podinit.ReasonNotFound, "no container %s", name)
	}
	if !c.alive() {
		return nil, refuse(podinit.ReasonNotRunning, "container %s does not run", name)
	}
	return c, nil
}

func (s *Supervisor) killAll() {
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.kill()
	}
}

// refuse makes an error that the client sees as it is.
func refuse(reason podinit.Reason, format string, args ...any) *podinit.Error {
	return &podinit.Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// listen makes the socket anew. Whoever could connect to an old one is told
// by the missing listener.
func (s *Supervisor) listen() (*net.UnixListener, error) {
	path := filepath.Join(s.config.run(), podinit.SocketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("podinit: socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("podinit: socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
