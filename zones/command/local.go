package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// DefaultTimeout bounds a command whose caller set no deadline. It is longer
// than any host command is expected to take: `zoneadm halt` may retry its
// unmounts for a minute.
const DefaultTimeout = 2 * time.Minute

// reapDelay is how long a killed program's pipes may stay open: a grandchild
// can hold them.
const reapDelay = 5 * time.Second

// maxOutput bounds what is kept of a program's output. A list of ten thousand
// zones is about 2 MiB.
const maxOutput = 16 << 20

// Local runs programs on this machine.
type Local struct{}

// Run implements Runner.
func (Local) Run(ctx context.Context, cmd Cmd) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	var out, errOut limitedBuffer
	var in io.Reader
	if cmd.Stdin != "" {
		in = strings.NewReader(cmd.Stdin)
	}
	if err := run(ctx, cmd, in, &out, &errOut); err != nil {
		return nil, newError(ctx, cmd, out.String(), errOut.String(), err)
	}
	if err := complained(cmd, out.String(), errOut.String()); err != nil {
		return nil, err
	}
	if out.full {
		return nil, &Error{Cmd: cmd, ExitCode: -1, Err: errors.New("more output than the agent accepts")}
	}
	return out.Bytes(), nil
}

// Stream implements Streamer.
func (Local) Stream(ctx context.Context, cmd Cmd, stdin io.Reader, stdout io.Writer) error {
	var errOut limitedBuffer
	if err := run(ctx, cmd, stdin, stdout, &errOut); err != nil {
		return newError(ctx, cmd, "", errOut.String(), err)
	}
	return complained(cmd, "", errOut.String())
}

// complained is the failure of a silent command that exited with 0.
func complained(cmd Cmd, stdout, stderr string) error {
	if !cmd.Silent || stderr == "" {
		return nil
	}
	return &Error{Cmd: cmd, ExitCode: 0, Stdout: stdout, Stderr: stderr, Err: ErrComplained}
}

func run(ctx context.Context, cmd Cmd, stdin io.Reader, stdout, stderr io.Writer) error {
	p := exec.CommandContext(ctx, cmd.Name, cmd.Args...)
	p.Env = append(os.Environ(), "LC_ALL=C") // messages are parsed: keep them English
	p.Stdin, p.Stdout, p.Stderr = stdin, stdout, stderr
	p.WaitDelay = reapDelay
	return p.Run()
}

func newError(ctx context.Context, cmd Cmd, stdout, stderr string, err error) error {
	code := -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx) // "signal: killed" would hide why
		code = -1
	}
	return &Error{Cmd: cmd, ExitCode: code, Stdout: stdout, Stderr: stderr, Err: err}
}

// limitedBuffer keeps the first maxOutput bytes and swallows the rest, so that
// a program that prints for ever cannot exhaust the agent.
type limitedBuffer struct {
	bytes.Buffer
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxOutput - b.Len(); len(p) > room {
		b.full = true
		b.Buffer.Write(p[:room])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
