//go:build linux

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// lastWords is how long the output of a program that has ended is copied to a
// writer that is no file: something else may hold the pipe open.
const lastWords = 2 * time.Second

// Enter implements zones.Backend. A process of its own stands between the
// caller and the program, as zlogin(1) does: it carries the streams, and when
// ctx ends it goes and the program stays, with its pipes closed.
func (b *Backend) Enter(ctx context.Context, id int, e zones.Entry) (int, error) {
	z, err := b.zone(id)
	if err != nil {
		return 0, err
	}
	if len(e.Argv) == 0 {
		return 0, errors.New("enter: no program given")
	}
	if !z.running() {
		return 0, fmt.Errorf("enter zone %d: %w", id, ErrNoZone)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer ours.Close() //nolint:errcheck // nothing is lost
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{enterName}
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{theirs, z.pidfd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = e.Stdout, e.Stderr
	cmd.WaitDelay = lastWords
	closeInput, err := connectInput(cmd, e.Stdin)
	if err != nil {
		return 0, err
	}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		closeInput()
		return 0, fmt.Errorf("enter zone %d: %w", id, err)
	}
	a, askErr := z.enter(ours, e)
	if askErr != nil {
		_ = cmd.Process.Kill() // it may wait for ever for what we could not say
	}
	closeInput()
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case askErr != nil:
		return 0, errors.Join(askErr, waitErr)
	}
	return a.Status, a.err()
}

// enter tells the process at the other end of control what to run, and returns
// its report, which comes when the program has ended.
func (z *zone) enter(control *os.File, e zones.Entry) (answer, error) {
	var a answer
	err := json.NewEncoder(control).Encode(entry{
		Argv: e.Argv, Env: e.Env, Dir: e.Dir, Terminal: e.Terminal,
		Groups: z.group.dirs(), V2: z.group.v2(), Locked: z.sandbox.Caps.Locked,
	})
	if err != nil {
		return a, fmt.Errorf("enter: %w", err)
	}
	if err := json.NewDecoder(control).Decode(&a); err != nil {
		return a, fmt.Errorf("enter: the program's end was not reported: %w", err)
	}
	return a, nil
}

// connectInput gives cmd its standard input. A reader that is no file is
// copied by a goroutine that nobody waits for: it ends with its reader, or at
// its next write after the returned function was called.
func connectInput(cmd *exec.Cmd, in io.Reader) (stop func(), err error) {
	if f, ok := in.(*os.File); ok || in == nil {
		if ok {
			cmd.Stdin = f
		}
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("enter: %w", err)
	}
	cmd.Stdin = r
	go func() {
		_, _ = io.Copy(w, in) // a program need not read all of its input
		_ = w.Close()
	}()
	return func() { _, _ = r.Close(), w.Close() }, nil
}
