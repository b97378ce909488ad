package probes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxOutput is how much of what a service says is kept.
const maxOutput = 10 << 10

// Exec passes when a program ends with exit code 0.
type Exec struct {
	Args []string

	// Run runs args, copies what the program writes to out, and returns its
	// exit code. An error means that the program did not run; ctx ends it.
	Run func(ctx context.Context, args []string, out io.Writer) (code int, err error)
}

// Check implements Checker. What a program that failed wrote is the message.
func (e Exec) Check(ctx context.Context) (Result, error) {
	limit := allowed(ctx)
	var out head
	code, err := e.Run(ctx, e.Args, &out)
	switch {
	case err == nil && code == 0:
		return Result{Passed: true}, nil
	case err == nil:
		return Result{Message: out.kept.String()}, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Message: fmt.Sprintf("command timed out: %q timed out after %s",
			strings.Join(e.Args, " "), limit)}, nil
	}
	return Result{}, err
}

// head keeps the first bytes that are written and drops the rest.
type head struct{ kept bytes.Buffer }

// Write implements io.Writer and never fails: a program that says much is not
// ill.
func (h *head) Write(p []byte) (int, error) {
	if room := maxOutput - h.kept.Len(); room > 0 {
		h.kept.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
