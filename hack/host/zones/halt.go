package zones

import (
	"context"
	"fmt"
	"io"
	"time"
)

// halt is zone_halt. again says that the zone comes back at once or went down
// by itself; otherwise an administrator halts it, which leaves its mark in
// ZONEPATH/lastexited.
func (op *operation) halt(ctx context.Context, again bool) bool {
	k := op.kernel()
	if k == nil {
		return true
	}
	wasRunning := k.state == stateRunning
	op.update(func(*zone) { k.state = stateShuttingDown })
	if !op.release(ctx, k) {
		op.say("unable to destroy zone")
		return false
	}
	op.update(func(z *zone) { z.kernel = nil })
	if wasRunning && !again {
		op.m.logExit(k, -1)
	}
	return true
}

// logExit writes ZONEPATH/lastexited: when init ended, and its wait(3C)
// status, or -1 after an explicit halt.
func (m *Model) logExit(k *kernelZone, status int) {
	if !m.distro.lastExited() {
		return
	}
	now := m.clock()
	text := fmt.Sprintf("%d.%06d %d\n", now.Unix(), now.Nanosecond()/1000, status)
	if err := m.paths.WriteFile(k.config.path()+"/lastexited", []byte(text), 0o644); err != nil {
		m.log(k.config.Name, "unable to write lastexited: "+err.Error())
	}
}

// shutdownTimeout is how long zoneadm shutdown waits where the service
// system/zones sets no time.
const shutdownTimeout = 60 * time.Second

// shutdownPoll is how often it looks.
const shutdownPoll = 100 * time.Millisecond

// shutdown is zone_graceful_shutdown: init 0 within the zone.
func (op *operation) shutdown(ctx context.Context) bool {
	k := op.kernel()
	if k == nil {
		return false
	}
	cmd := k.brand.Hooks["shutdown"]
	if cmd == "" {
		cmd = "/sbin/init 0"
	}
	status, err := op.m.backend.Enter(ctx, k.id, Entry{
		Argv: []string{"/bin/sh", "-c", cmd}, Env: []string{"PATH=/usr/sbin:/usr/bin"}, Dir: "/",
		Stdin: eof{}, Stdout: discard{}, Stderr: discard{},
	})
	if err != nil || status != 0 {
		op.say("unable to shutdown zone")
		return false
	}
	return true
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
