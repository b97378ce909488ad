package supervisor

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// reaper starts processes and waits for every child, its own or inherited. It
// is the only caller of wait, as process 1 must wait for any child and two
// waiters would take each other's. For that reason nothing in podinit uses
// package os/exec.
type reaper struct {
	signals chan os.Signal

	mu      sync.Mutex
	waiting map[int]chan<- exit
}

// exit is how a child of ours ended, and the processor time that it and the
// descendants that were waited for had used.
type exit struct {
	status syscall.WaitStatus
	cpu    time.Duration
}

func newReaper() *reaper {
	r := &reaper{
		signals: make(chan os.Signal, 1),
		waiting: map[int]chan<- exit{},
	}
	signal.Notify(r.signals, syscall.SIGCHLD)
	return r
}

// close gives the signal back.
func (r *reaper) close() { signal.Stop(r.signals) }

// start starts a program. Its status comes by the channel, once. Holding the
// mutex keeps run from waiting for the child before it is known.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	exited := make(chan exit, 1)
	r.waiting[pid] = exited
	return pid, exited, nil
}

// expect registers a child that an earlier program of this process has started.
func (r *reaper) expect(pid int) <-chan exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	exited := make(chan exit, 1)
	r.waiting[pid] = exited
	return exited
}

// signal sends a signal to a child that has not been waited for, so that it
// cannot reach another process that got the same id.
func (r *reaper) signal(pid int, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[pid] == nil {
		return syscall.ESRCH
	}
	return syscall.Kill(pid, sig)
}

// until waits for children until quit is closed.
func (r *reaper) until(quit <-chan struct{}) {
	for {
		r.reap()
		select {
		case <-r.signals:
		case <-quit:
			return
		}
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		var used syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &used)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if exited := r.waiting[pid]; exited != nil && (status.Exited() || status.Signaled()) {
			delete(r.waiting, pid)
			exited <- exit{status, time.Duration(used.Utime.Nano() + used.Stime.Nano())}
		}
	}
}
