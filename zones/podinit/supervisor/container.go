package supervisor

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
)

// container is one attempt of a container. Its life is run, in a goroutine of
// its own: mount, start, wait, kill what is left, drain, unmount, report.
type container struct {
	s    *Supervisor
	spec podinit.Container

	started chan struct{} // closed when it runs or never will
	fault   error         // why it never will, where another try may help; set before
	done    chan struct{} // closed when nothing is left of it

	mu     sync.Mutex
	root   string
	main   int          // the main process while it lives, else 0
	leads  map[int]bool // leaders of the sessions that podinit made in it
	output *output      // while it lives
	ended  bool
	usage  usage
}

func newContainer(s *Supervisor, spec podinit.Container) *container {
	return &container{
		s: s, spec: spec, leads: map[int]bool{},
		started: make(chan struct{}), done: make(chan struct{}),
	}
}

func (c *container) finished() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *container) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.main != 0
}

func (c *container) logf(format string, args ...any) {
	c.s.log.Printf("container %s attempt %d: %s", c.spec.Name, c.spec.Attempt, fmt.Sprintf(format, args...))
}

// run is the whole life of the attempt.
func (c *container) run() {
	defer close(c.done)
	exited, err := c.begin()
	var config *configError
	if errors.As(err, &config) {
		// It does not count as an attempt: the same one is tried again.
		c.fault = refuse(podinit.ReasonConfig, "%s", clip(err.Error()))
		c.end()
		c.s.states.update(c.spec.Name, func(st *podinit.ContainerState) {
			*st = podinit.ContainerState{
				Name: c.spec.Name, Attempt: c.spec.Attempt, Phase: podinit.Waiting, ConfigError: clip(config.Error()),
			}
		})
		close(c.started)
		return
	}
	if err != nil {
		c.end()
		c.s.states.update(c.spec.Name, func(st *podinit.ContainerState) {
			now := time.Now()
			st.Attempt, st.Phase, st.PID = c.spec.Attempt, podinit.Exited, 0
			st.StartedAt, st.FinishedAt = time.Time{}, now
			st.ExitCode, st.Signal, st.StartError, st.Message = codeSetup, 0, clip(err.Error()), ""
			st.ConfigError = ""
		})
		close(c.started)
		return
	}
	close(c.started)
	c.finish(exited)
}

// finish waits for the end of the main process and sees to it.
func (c *container) finish(exited <-chan exit) {
	last := <-exited
	c.s.gate.RLock()
	defer c.s.gate.RUnlock()
	finished := time.Now()
	c.spent(last.cpu)
	c.end()
	code, sig := outcome(last.status)
	message := c.message()
	c.s.states.update(c.spec.Name, func(st *podinit.ContainerState) {
		st.Phase, st.PID, st.FinishedAt = podinit.Exited, 0, finished
		st.ExitCode, st.Signal, st.Message = code, sig, message
	})
}

const maxErrorText = 1024

func clip(s string) string {
	if len(s) > maxErrorText {
		return s[:maxErrorText] + "…"
	}
	return s
}

// outcome is what a wait status means to a kubelet.
func outcome(w syscall.WaitStatus) (code, sig int) {
	if w.Signaled() {
		return 128 + int(w.Signal()), int(w.Signal())
	}
	return w.ExitStatus(), 0
}

// begin gets the main process going. After an error end must be called too.
func (c *container) begin() (<-chan exit, error) {
	root, err := c.mount()
	if err != nil {
		return nil, err
	}
	log, err := logs.Create(c.logPath(), logs.DefaultLimits)
	if err != nil {
		return nil, err
	}
	streams, err := openStreams(c.spec.TTY, c.spec.Stdin)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	out := newOutput(log, streams, c.spec, nil)
	c.mu.Lock()
	c.root, c.output = root, out
	c.mu.Unlock()
	p, id, err := c.s.launch(order{Root: root, Container: c.spec}, streams)
	streams.closeChild()
	if err != nil {
		return nil, err
	}
	out.run()
	c.mu.Lock()
	c.main = p.pid
	c.leads[p.pid] = true
	c.mu.Unlock()
	c.s.states.update(c.spec.Name, func(st *podinit.ContainerState) {
		*st = podinit.ContainerState{
			Name: c.spec.Name, Attempt: c.spec.Attempt, Phase: podinit.Running,
			PID: p.pid, StartedAt: time.Now(), UID: id.UID, GID: id.GID, Groups: id.Groups,
		}
	})
	return p.exited, nil
}

func (c *container) logPath() string {
	return filepath.Join(c.s.config.logs(), c.spec.Name, strconv.Itoa(c.spec.Attempt)+".log")
}

// end leaves nothing of the attempt: no process, no open stream, no mount. It
// takes as long as that needs, and the container counts as running meanwhile.
func (c *container) end() {
	c.mu.Lock()
	c.main = 0
	c.ended = true
	out := c.output
	c.mu.Unlock()
	c.killAll()
	if out != nil {
		out.close()
	}
	if err := c.unmount(); err != nil {
		c.logf("%v", err)
	}
}

// kill sends SIGKILL to everything in the container, once.
func (c *container) kill() {
	<-c.started
	c.mu.Lock()
	pid := c.main
	c.mu.Unlock()
	if pid != 0 {
		c.s.reaper.signal(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
	}
	for _, p := range c.members() {
		syscall.Kill(p, syscall.SIGKILL) //nolint:errcheck // it may be gone
	}
}

// Pauses between two looks at what is left of a container.
const (
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// killAll kills until nothing is left. A process that forks while we look is
// seen at the next look, and one that has been killed forks no more, so only
// what forks faster than we look stays for long.
func (c *container) killAll() {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		left := c.members()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
		}
		time.Sleep(pause)
	}
}

// signal sends a signal to the main process.
func (c *container) signal(sig syscall.Signal) error {
	c.mu.Lock()
	pid := c.main
	c.mu.Unlock()
	if pid == 0 || c.s.reaper.signal(pid, sig) != nil {
		return refuse(podinit.ReasonNotRunning, "container %s does not run", c.spec.Name)
	}
	return nil
}
