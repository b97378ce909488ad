//go:build linux

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

func TestEnterReturnsTheExactStatus(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	for code := range 256 {
		if code > 3 && code < 250 && code != 127 && code != 128 {
			continue
		}
		if _, _, st := f.sh(t, 1, fmt.Sprintf("exit %d", code)); !st.Exited() || st.ExitStatus() != code {
			t.Errorf("exit %d arrived as %v", code, st)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGSEGV} {
		if _, _, st := f.sh(t, 1, fmt.Sprintf("kill -%d $$", sig)); !st.Signaled() || st.Signal() != sig {
			t.Errorf("death by %v arrived as %v", sig, st)
		}
	}
	_, err := f.Enter(t.Context(), 1, zones.Entry{Argv: []string{"/no/such"}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("enter of a missing program: %v", err)
	}
}

func TestEnterCarriesStreams(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	var out, errOut bytes.Buffer
	big := strings.Repeat("0123456789abcdef", 64<<10)
	st, err := f.Enter(t.Context(), 1, zones.Entry{
		Argv: []string{"/bin/sh", "-c", "cat; echo $A >&2; cat /proc/self/stat | busybox cut -d' ' -f6 >&2; pwd >&2"},
		Env:  []string{"PATH=/bin", "A=b c"}, Dir: "/tmp", Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errOut,
	})
	if err != nil || st != 0 {
		t.Fatal(st, err)
	}
	if out.String() != big {
		t.Errorf("%d bytes came back, want %d", out.Len(), len(big))
	}
	lines := strings.Split(errOut.String(), "\n")
	if len(lines) != 4 || lines[0] != "b c" || lines[1] == "0" || lines[2] != "/tmp" {
		t.Errorf("stderr = %q", errOut.String())
	}
}

// A program that leaves something behind must not hold up its caller.
func TestEnterDoesNotWaitForWhatStays(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	out, _, st := f.sh(t, 1, "sleep 1234 & echo started")
	if out != "started\n" || st != 0 {
		t.Errorf("%q, %v", out, st)
	}
	if out, _, _ := f.sh(t, 1, "busybox ps"); !strings.Contains(out, "sleep 1234") {
		t.Errorf("the program in the background is gone: %s", out)
	}
}

func TestEnterEndsWithItsContextAndTheProgramStays(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error)
	go func() {
		_, err := f.Enter(ctx, 1, zones.Entry{Argv: []string{"/bin/sh", "-c", "echo up; sleep 4321; true"}, Env: []string{"PATH=/bin"}, Stdout: w})
		done <- err
	}()
	if _, err := r.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("enter = %v", err)
	}
	if out, _, _ := f.sh(t, 1, "busybox ps"); !strings.Contains(out, "sleep 4321") {
		t.Errorf("the program was killed with its caller: %s", out)
	}
}

func TestEnterWithATerminal(t *testing.T) {
	f := setup(t)
	f.boot(t, 1, forever, nil)
	var out bytes.Buffer
	in, w := pipe(t)
	if _, err := w.WriteString("echo on $(tty); exit 3\n"); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	st, err := f.Enter(t.Context(), 1, zones.Entry{
		Argv: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, Terminal: true, Stdin: in, Stdout: &out,
	})
	if err != nil || unix.WaitStatus(st).ExitStatus() != 3 {
		t.Errorf("enter = %v, %v", st, err)
	}
	if !strings.Contains(out.String(), "on /dev/pts/0\r\n") {
		t.Errorf("output %q", out.String())
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}
