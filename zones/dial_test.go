//go:build linux

package zones_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

func TestMain(m *testing.M) { zonetest.Main(m) }

// entering runs zlogin by going into a sandbox, with the one shell line that
// zlogin would pass.
type entering struct {
	t *testing.T
	z *zonetest.Zone
}

func (e entering) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	e.t.Errorf("unplanned command %s", c)
	return nil, errors.New("no such command")
}

func (e entering) Stream(ctx context.Context, c command.Cmd, in io.Reader, out io.Writer) error {
	switch {
	case slices.Equal(c.Args, []string{"rdw-1", "/sbin/podinit channel"}):
		return e.z.Enter(ctx, in, out, "/bin/su", "root", "-c", c.Args[1])
	case slices.Equal(c.Args, []string{"-S", "rdw-1", "/sbin/podinit channel"}):
		return e.z.Enter(ctx, in, out, "/sbin/sh", "-c", c.Args[2])
	}
	e.t.Errorf("unplanned command %s", c)
	return errors.New("no such command")
}

// TestTransports runs one suite over every way to reach podinit.
func TestTransports(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	if err := os.Symlink("../sbin/init", z.Root("bin/su")); err != nil {
		t.Fatal(err)
	}
	z.Boot(t, podinit.Container{
		Name: "web", Start: true, Args: []string{"sh", "-c", "nc -ll -p 8080 -e cat & while read l; do echo got $l; done"},
		Env: []string{"PATH=/bin"}, Stdin: true,
	})
	if _, err := z.Client().State(t.Context()); err != nil { // waits for the socket
		t.Fatal(err)
	}
	h := zones.New(entering{t, z}, zones.Features{})
	for _, tt := range []struct {
		name      string
		zone      zones.Zone
		transport zones.Transport
	}{
		{"socket", zones.Zone{Name: "rdw-1", Path: z.Dir, Brand: "lx"}, zones.Socket},
		{"zlogin", zones.Zone{Name: "rdw-1", Path: z.Dir, Brand: "lx"}, zones.Zlogin},
		{"zlogin-native", zones.Zone{Name: "rdw-1", Path: z.Dir, Brand: "reddwarf"}, zones.Zlogin},
		{"auto", zones.Zone{Name: "rdw-1", Path: z.Dir, Brand: "lx"}, zones.Auto},
		{"auto-without-socket", zones.Zone{Name: "rdw-1", Path: "/nonexistent", Brand: "lx"}, zones.Auto},
	} {
		t.Run(tt.name, func(t *testing.T) {
			converse(t, podinit.NewClient(func(ctx context.Context) (net.Conn, error) {
				return h.Dial(ctx, tt.zone, tt.transport)
			}))
		})
	}
}

func converse(t *testing.T, c *podinit.Client) {
	t.Helper()
	ctx := t.Context()
	s, err := c.State(ctx)
	if err != nil || s.PodUID != "uid-1" || len(s.Containers) != 1 {
		t.Fatalf("State = %+v, %v", s, err)
	}
	watching, cancel := context.WithCancel(ctx)
	if err := c.Watch(watching, func(podinit.State) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v", err)
	}
	var out, errOut bytes.Buffer
	big := strings.Repeat("0123456789abcdef", 1<<14)
	st, err := c.Exec(ctx, podinit.ExecRequest{Container: "web", Args: []string{"sh", "-c", "cat; echo e >&2; exit 7"}},
		podinit.Streams{In: strings.NewReader(big), Out: &out, Err: &errOut})
	if err != nil || st.Code != 7 || out.String() != big || errOut.String() != "e\n" {
		t.Errorf("Exec = %+v, %v; %d bytes, %q", st, err, out.Len(), errOut.String())
	}
	if _, err := c.Exec(ctx, podinit.ExecRequest{Container: "none", Args: []string{"id"}}, podinit.Streams{}); !errors.Is(err, podinit.ErrNotFound) {
		t.Errorf("Exec in no container = %v", err)
	}
	killed, stop := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, stop)
	if _, err := c.Exec(killed, podinit.ExecRequest{Container: "web", Args: []string{"sleep", "4001"}}, podinit.Streams{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Exec that was stopped = %v", err)
	}
	for { // the process goes with its client
		out.Reset()
		if _, err := c.Exec(ctx, podinit.ExecRequest{Container: "web", Args: []string{"ps"}}, podinit.Streams{Out: &out}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "sleep 4001") {
			break
		}
	}
	attached(t, c)
	forwarded(t, c)
}

func attached(t *testing.T, c *podinit.Client) {
	t.Helper()
	in, typing := io.Pipe()
	got, written := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Attach(ctx, "web", podinit.Streams{In: in, Out: written}) }()
	io.WriteString(typing, "hello\n")
	line := make([]byte, len("got hello\n"))
	if _, err := io.ReadFull(got, line); err != nil || string(line) != "got hello\n" {
		t.Errorf("attach: %q, %v", line, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Attach = %v", err)
	}
	typing.Close()
}

func forwarded(t *testing.T, c *podinit.Client) {
	t.Helper()
	conn, err := c.Forward(t.Context(), 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "ping")
	conn.(*podinit.Forwarded).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "ping" {
		t.Errorf("forward: %q, %v", got, err)
	}
}

// failing is a zlogin that cannot enter.
type failing struct{ entering }

func (failing) Stream(_ context.Context, c command.Cmd, _ io.Reader, _ io.Writer) error {
	return &command.Error{Cmd: c, ExitCode: 1, Stderr: "zlogin: login allowed only to running zones (rdw-1 is 'installed').\n", Err: errors.New("exit status 1")}
}

func TestZloginsWordsReachTheCaller(t *testing.T) {
	h := zones.New(failing{}, zones.Features{})
	c := podinit.NewClient(func(ctx context.Context) (net.Conn, error) {
		return h.Dial(ctx, zones.Zone{Name: "rdw-1", Path: "/nonexistent", Brand: "lx"}, zones.Auto)
	})
	if _, err := c.State(t.Context()); err == nil || !strings.Contains(err.Error(), "login allowed only to running zones") {
		t.Errorf("State = %v", err)
	}
}

// hanging is a zlogin that does not end with its input.
type hanging struct{ entering }

func (hanging) Stream(ctx context.Context, _ command.Cmd, _ io.Reader, _ io.Writer) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestAHangingZloginIsEnded(t *testing.T) {
	h := zones.New(hanging{}, zones.Features{})
	conn, err := h.Dial(t.Context(), zones.Zone{Name: "rdw-1", Brand: "lx"}, zones.Zlogin)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now())
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v", err)
	}
	if err := conn.Close(); err != nil { // it waits for the end of Stream
		t.Error(err)
	}
}

// TestSocketOfAHostileZone has a zone that puts something else where its socket
// belongs.
func TestSocketOfAHostileZone(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.sock")
	l, err := net.Listen("unix", foreign)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := zones.New(failing{}, zones.Features{})
	for name, place := range map[string]func(run string) error{
		"link":           func(run string) error { return os.Symlink(foreign, filepath.Join(run, podinit.SocketFile)) },
		"file":           func(run string) error { return os.WriteFile(filepath.Join(run, podinit.SocketFile), nil, 0o600) },
		"directory link": func(run string) error { return errors.Join(os.Remove(run), os.Symlink(dir, run)) },
	} {
		t.Run(name, func(t *testing.T) {
			zonepath := t.TempDir()
			run := filepath.Join(zonepath, "run")
			if err := errors.Join(os.Mkdir(run, 0o755), place(run)); err != nil {
				t.Fatal(err)
			}
			conn, err := h.Dial(t.Context(), zones.Zone{Name: "rdw-1", Path: zonepath, Brand: "lx"}, zones.Socket)
			if err == nil {
				conn.Close()
				t.Error("it is connected to")
			}
			if name != "directory link" && !errors.Is(err, zones.ErrPeer) {
				t.Errorf("Dial = %v", err)
			}
		})
	}
}
