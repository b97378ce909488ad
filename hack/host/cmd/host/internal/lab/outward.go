//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// bindTime is how long the lab's LAN may take to come up.
const bindTime = 10 * time.Second

// outward carries connections to an address inside the lab, whose first
// process is pid, to one outside, until the launcher ends.
func outward(pid int, r Relay) error {
	ln, err := listenInside(pid, r.Listen)
	if err != nil {
		return fmt.Errorf("lab: relay %s: %w", r.Listen, err)
	}
	go func() {
		for {
			inside, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go join(inside, r.Target)
			}
		}
	}()
	return nil
}

// listenInside opens a listener in the network namespace of a process. A socket
// stays in the namespace that it was made in, so only one thread has to go there.
func listenInside(pid int, address string) (net.Listener, error) {
	type result struct {
		ln  net.Listener
		err error
	}
	made := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			made <- result{err: err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		for deadline := time.Now().Add(bindTime); ; time.Sleep(20 * time.Millisecond) {
			ln, err := net.Listen("tcp", address)
			if err == nil || time.Now().After(deadline) {
				made <- result{ln, err}
				return
			}
		}
	}()
	m := <-made
	return m.ln, m.err
}
