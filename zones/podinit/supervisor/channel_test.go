//go:build linux

package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// text is a buffer that can be waited on.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *text) wait(t *testing.T, want string) {
	t.Helper()
	for !strings.Contains(w.String(), want) {
		if t.Context().Err() != nil {
			t.Fatalf("no %q in %q", want, w.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// web boots a zone with one container that sleeps.
func web(t *testing.T) (*zonetest.Zone, *podinit.Client) {
	t.Helper()
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "sleep 1000"))
	c := z.Client()
	until(t, c, "web", running)
	return z, c
}

func TestExecOnATerminal(t *testing.T) {
	_, c := web(t)
	in, typing := io.Pipe()
	sizes := make(chan podinit.Size, 1)
	sizes <- podinit.Size{Rows: 33, Cols: 77}
	var out text
	done := make(chan error, 1)
	var st podinit.ExitStatus
	go func() {
		var err error
		st, err = c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"sh"}, TTY: true},
			podinit.Streams{In: in, Out: &out, Resize: sizes})
		done <- err
	}()
	out.wait(t, "#")
	io.WriteString(typing, "until stty size | grep -q 33; do :; done; stty size; tty; echo $TERM\n")
	out.wait(t, "33 77\r\n/dev/pts/")
	out.wait(t, "xterm")
	io.WriteString(typing, "exit 5\n")
	if err := <-done; err != nil || st.Code != 5 {
		t.Errorf("Exec = %+v, %v; %q", st, err, out.String())
	}
	typing.Close()
}

func TestExecEndsWithItsClient(t *testing.T) {
	z, c := web(t)
	for name, script := range map[string]string{
		"on SIGHUP":         "echo up; sleep 3001",
		"ignoring SIGHUP":   "trap '' HUP; echo up; sleep 3002; sleep 3003",
		"not reading stdin": "echo up; sleep 3004",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var out text
			done := make(chan error, 1)
			go func() {
				_, err := c.Exec(ctx, podinit.ExecRequest{Container: "web", Args: []string{"sh", "-c", script}},
					podinit.Streams{In: endless{}, Out: &out})
				done <- err
			}()
			out.wait(t, "up")
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Exec = %v", err)
			}
			for strings.Contains(ps(t, z, "web"), "sleep 300") {
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// endless is input that never stops.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExecDiesOfASignal(t *testing.T) {
	_, c := web(t)
	st, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"sh", "-c", "kill -9 $$"}}, podinit.Streams{})
	if err != nil || st.Code != 137 || st.Signal != 9 {
		t.Errorf("Exec = %+v, %v", st, err)
	}
}

func TestExecLosesNoOutput(t *testing.T) {
	_, c := web(t)
	const size = 3 << 20
	var out slow
	st, err := c.Exec(t.Context(), podinit.ExecRequest{
		Container: "web", Args: []string{"sh", "-c", "head -c 3145728 /dev/zero; sleep 100 &"},
	}, podinit.Streams{Out: &out})
	if err != nil || st.Code != 0 || out.n != size {
		t.Errorf("Exec = %+v, %v, %d bytes of %d", st, err, out.n, size)
	}
}

// slow takes its time, so that the process ends long before its output.
type slow struct{ n int }

func (s *slow) Write(p []byte) (int, error) {
	if s.n += len(p); s.n < 1<<20 {
		time.Sleep(50 * time.Millisecond)
	}
	return len(p), nil
}

func TestExecsDoNotWaitForEachOther(t *testing.T) {
	_, c := web(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			var out bytes.Buffer
			st, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"sh", "-c", "echo x; exit 3"}}, podinit.Streams{Out: &out})
			if err != nil || st.Code != 3 || out.String() != "x\n" {
				t.Errorf("Exec = %+v, %v, %q", st, err, out.String())
			}
		})
	}
	wg.Wait()
}

func TestAttach(t *testing.T) {
	for _, tty := range []bool{false, true} {
		name := map[bool]string{false: "pipes", true: "terminal"}[tty]
		t.Run(name, func(t *testing.T) {
			z := zonetest.New(t)
			z.Busybox(t, "web")
			spec := shell("web", `echo start; while read l; do echo "got $l"; echo "err $l" >&2; done; echo over; exit 6`)
			spec.Stdin, spec.StdinOnce, spec.TTY = true, true, tty
			z.Boot(t, spec)
			c := z.Client()
			until(t, c, "web", running)
			in, typing := io.Pipe()
			var out, errOut text
			done := make(chan error, 1)
			go func() {
				done <- c.Attach(t.Context(), "web", podinit.Streams{In: in, Out: &out, Err: &errOut})
			}()
			io.WriteString(typing, "one\n")
			out.wait(t, "got one")
			io.WriteString(typing, "two\n")
			if tty {
				out.wait(t, "err two")
			} else {
				errOut.wait(t, "err two")
			}
			typing.Close()
			if err := <-done; err != nil {
				t.Errorf("Attach = %v", err)
			}
			if st := until(t, c, "web", exited); st.ExitCode != 6 {
				t.Errorf("state %+v", st)
			}
			if log := readLog(t, z, "web/0.log"); !strings.Contains(log, "got two") || !strings.Contains(log, "over") {
				t.Errorf("log %q", log)
			}
			if err := c.Attach(t.Context(), "web", podinit.Streams{}); !errors.Is(err, podinit.ErrNotRunning) {
				t.Errorf("Attach to what has ended = %v", err)
			}
		})
	}
}

func TestASlowViewerDoesNotStopTheContainer(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "sleep 0.3; head -c 30000000 /dev/zero; exit 2"))
	c := z.Client()
	until(t, c, "web", running)
	release := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- c.Attach(t.Context(), "web", podinit.Streams{Out: stuck(release)}) }()
	if st := until(t, c, "web", exited); st.ExitCode != 2 {
		t.Errorf("state %+v", st)
	}
	close(release)
	if err := <-done; err == nil {
		t.Error("a viewer that missed output is told nothing")
	}
}

// stuck is a writer that waits.
type stuck chan struct{}

func (s stuck) Write(p []byte) (int, error) { <-s; return len(p), nil }

func TestForward(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "nc -ll -p 8080 -e cat"))
	c := z.Client()
	until(t, c, "web", running)
	if _, err := c.Forward(t.Context(), 9); !errors.Is(err, podinit.ErrNotFound) {
		t.Errorf("Forward to a closed port = %v", err)
	}
	var conn io.ReadWriteCloser
	var err error
	for conn == nil && t.Context().Err() == nil {
		if conn, err = c.Forward(t.Context(), 8080); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	defer conn.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 64<<10/4)
	go func() {
		conn.Write(data)
		conn.(*podinit.Forwarded).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(data), err)
	}
}

func TestAZoneHasNoShell(t *testing.T) {
	z, _ := web(t)
	for _, args := range [][]string{
		{"/sbin/sh", "-c", "echo hi"}, {"/sbin/sh", "-c", "/sbin/podinit channel; id"}, {"/sbin/sh", "-c", "/sbin/podinit $(id)"}, {"/sbin/sh"},
	} {
		var out bytes.Buffer
		if err := z.Enter(t.Context(), strings.NewReader("id\n"), &out, args...); err == nil || !strings.Contains(err.Error(), "126") || out.Len() > 0 {
			t.Errorf("%q: %v, output %q", args, err, out.String())
		}
	}
}

func TestBadClientsAreSentAway(t *testing.T) {
	z, c := web(t)
	for _, junk := range []string{"GET / HTTP/1.0\r\n\r\n", "\x01\xff\xff\xff\xff", "\x01\x00\x00\x00\x02{}", "\x04\x00\x00\x00\x01x"} {
		conn, err := net.Dial("unix", z.Socket())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, junk)
		answer, err := io.ReadAll(conn)
		if err != nil && !strings.Contains(err.Error(), "reset") || strings.Contains(string(answer), `"state"`) {
			t.Errorf("%q is answered %q, %v", junk, answer, err)
		}
		conn.Close()
	}
	if _, err := c.State(t.Context()); err != nil {
		t.Errorf("podinit does not answer any more: %v", err)
	}
}
