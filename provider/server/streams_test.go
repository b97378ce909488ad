package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // the client library returns its types
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	clientexec "k8s.io/client-go/util/exec"
	utilexec "k8s.io/utils/exec"
)

// streams are the client's ends of a command.
type streams struct {
	in       io.Reader
	out, err io.Writer
	sizes    remotecommand.TerminalSizeQueue
}

func (h *harness) target(t *testing.T, path, query string) *url.URL {
	t.Helper()
	u, err := url.Parse(h.url + path + "?" + query)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// spdy returns the client that kubectl and the API server are.
func (h *harness) spdy(t *testing.T, path, query string) remotecommand.Executor {
	t.Helper()
	e, err := remotecommand.NewSPDYExecutor(h.restConfig(t, "admin"), "POST", h.target(t, path, query))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (h *harness) websocket(t *testing.T, path, query string) remotecommand.Executor {
	t.Helper()
	e, err := remotecommand.NewWebSocketExecutor(h.restConfig(t, "admin"), "GET", h.target(t, path, query).String())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func stream(ctx context.Context, e remotecommand.Executor, s streams) error {
	return e.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: s.in, Stdout: s.out, Stderr: s.err, Tty: s.sizes != nil, TerminalSizeQueue: s.sizes,
	})
}

// transports are both ways in which a command's streams come.
func transports(h *harness) map[string]func(t *testing.T, path, query string) remotecommand.Executor {
	return map[string]func(t *testing.T, path, query string) remotecommand.Executor{"spdy": h.spdy, "websocket": h.websocket}
}

func TestExecStreams(t *testing.T) {
	h := start(t)
	type call struct {
		container string
		cmd       []string
	}
	calls := make(chan call, 1)
	// Copies its input to its output in capitals, says so, and exits with 7.
	h.pods.exec = func(_ context.Context, container string, cmd []string, a AttachIO) error {
		calls <- call{container, cmd}
		if a.TTY() || a.Resize() != nil {
			return errors.New("a terminal nobody asked for")
		}
		in, err := io.ReadAll(a.Stdin())
		if err != nil {
			return err
		}
		if _, err := a.Stdout().Write(bytes.ToUpper(in)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.Stderr(), "%d bytes", len(in)); err != nil {
			return err
		}
		// Wrapped: the code must be found all the same.
		return fmt.Errorf("exec: %w", utilexec.CodeExitError{Err: errors.New("exit 7"), Code: 7})
	}
	input := strings.Repeat("some text\n", 50000) // more than any buffer on the way
	for name, dial := range transports(h) {
		for _, path := range []string{"/exec/ns/web/side", "/exec/ns/web/uid-1/side"} {
			t.Run(name+path, func(t *testing.T) {
				var out, errOut bytes.Buffer
				e := dial(t, path, "command=sh&command=a+%27b%27+%24%28c%29&input=1&output=1&error=1")
				err := stream(t.Context(), e, streams{in: strings.NewReader(input), out: &out, err: &errOut})
				exit, ok := errors.AsType[clientexec.CodeExitError](err)
				if !ok || exit.ExitStatus() != 7 {
					t.Errorf("error %v, want exit code 7", err)
				}
				if out.String() != strings.ToUpper(input) {
					t.Errorf("%d bytes of output, want %d in capitals", out.Len(), len(input))
				}
				if want := fmt.Sprintf("%d bytes", len(input)); errOut.String() != want {
					t.Errorf("stderr %q, want %q", errOut.String(), want)
				}
				if c := <-calls; c.container != "side" || !slices.Equal(c.cmd, []string{"sh", "a 'b' $(c)"}) {
					t.Errorf("called with %+v", c)
				}
			})
		}
	}
}

// sizes gives the sizes of a terminal, then no more.
type sizes struct {
	next chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.next
	if !ok {
		return nil
	}
	return &size
}

func TestExecTerminal(t *testing.T) {
	h := start(t)
	h.pods.exec = func(_ context.Context, _ string, _ []string, a AttachIO) error {
		if !a.TTY() || a.Stderr() != nil {
			return errors.New("no terminal, or stderr beside it")
		}
		for range 2 {
			size := <-a.Resize()
			if _, err := fmt.Fprintf(a.Stdout(), "%dx%d\n", size.Width, size.Height); err != nil {
				return err
			}
		}
		return nil
	}
	for name, dial := range transports(h) {
		t.Run(name, func(t *testing.T) {
			q := sizes{make(chan remotecommand.TerminalSize, 2)}
			q.next <- remotecommand.TerminalSize{Width: 80, Height: 24}
			q.next <- remotecommand.TerminalSize{Width: 132, Height: 50}
			defer close(q.next)
			var out bytes.Buffer
			e := dial(t, "/exec/ns/web/c", "command=sh&input=1&output=1&tty=1")
			if err := stream(t.Context(), e, streams{in: strings.NewReader(""), out: &out, sizes: q}); err != nil {
				t.Error(err)
			}
			if got := out.String(); got != "80x24\n132x50\n" {
				t.Errorf("output %q", got)
			}
		})
	}
}

func TestExecOutcomes(t *testing.T) {
	h := start(t)
	var outcome error
	h.pods.exec = func(context.Context, string, []string, AttachIO) error { return outcome }
	for name, dial := range transports(h) {
		outcome = nil
		if err := stream(t.Context(), dial(t, "/exec/ns/web/c", "command=x&output=1"), streams{out: io.Discard}); err != nil {
			t.Errorf("%s: success gave %v", name, err)
		}
		outcome = errors.New("zone is gone")
		err := stream(t.Context(), dial(t, "/exec/ns/web/c", "command=x&output=1"), streams{out: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "zone is gone") {
			t.Errorf("%s: failure gave %v", name, err)
		}
	}
}

func TestAttach(t *testing.T) {
	h := start(t)
	h.pods.exec = func(_ context.Context, container string, cmd []string, a AttachIO) error {
		_, err := fmt.Fprint(a.Stdout(), container, cmd)
		return err
	}
	for name, dial := range transports(h) {
		var out bytes.Buffer
		if err := stream(t.Context(), dial(t, "/attach/ns/web/c", "output=1"), streams{out: &out}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out.String() != "c[attached]" {
			t.Errorf("%s: output %q", name, out.String())
		}
	}
}

// A command must not run on for nobody.
func TestExecClientGone(t *testing.T) {
	h := start(t)
	for name, dial := range transports(h) {
		t.Run(name, func(t *testing.T) {
			entered, left := make(chan struct{}), make(chan struct{})
			h.pods.exec = func(ctx context.Context, _ string, _ []string, _ AttachIO) error {
				close(entered)
				<-ctx.Done()
				close(left)
				return ctx.Err()
			}
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				stream(ctx, dial(t, "/exec/ns/web/c", "command=x&output=1"), streams{out: io.Discard}) //nolint:errcheck // it is cut
			}()
			<-entered
			leave()
			<-left
			<-done
		})
	}
}

func TestPortForward(t *testing.T) {
	h := start(t)
	ports := make(chan int32, 8)
	echo := h.pods.forward
	h.pods.forward = func(ctx context.Context, port int32, s io.ReadWriteCloser) error {
		ports <- port
		if port == 9 {
			io.Copy(io.Discard, s) //nolint:errcheck // a reset before the client has its stream would be all it sees
			return errors.New("connection refused")
		}
		return echo(ctx, port, s)
	}
	rc := h.restConfig(t, "admin")
	for _, path := range []string{"/portForward/ns/web", "/portForward/ns/web/uid-1"} {
		for name, dial := range map[string]func() (httpstream.Connection, string, error){
			"spdy": func() (httpstream.Connection, string, error) {
				transport, upgrader, err := spdy.RoundTripperFor(rc)
				if err != nil {
					return nil, "", err
				}
				return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", h.target(t, path, "")).Dial(portforward.PortForwardProtocolV1Name)
			},
			"websocket": func() (httpstream.Connection, string, error) {
				d, err := portforward.NewSPDYOverWebsocketDialer(h.target(t, path, ""), rc)
				if err != nil {
					return nil, "", err
				}
				return d.Dial(portforward.PortForwardProtocolV1Name)
			},
		} {
			t.Run(name+path, func(t *testing.T) {
				conn, protocol, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close() //nolint:errcheck // the end of the test
				if protocol != portforward.PortForwardProtocolV1Name {
					t.Errorf("protocol %q", protocol)
				}
				message := strings.Repeat("ping ", 100000)
				data, fault := forward(t, conn, "8080", message)
				if data != message || fault != "" || <-ports != 8080 {
					t.Errorf("%d bytes came back of %d, fault %q", len(data), len(message), fault)
				}
				if _, fault := forward(t, conn, "9", ""); !strings.Contains(fault, "connection refused") || <-ports != 9 {
					t.Errorf("fault %q", fault)
				}
			})
		}
	}
}

// forward opens one forwarded connection, sends message, and returns what came
// back and what the error stream said.
func forward(t *testing.T, conn httpstream.Connection, port, message string) (data, fault string) {
	t.Helper()
	headers := http.Header{}
	headers.Set("streamType", "error")
	headers.Set("port", port)
	headers.Set("requestID", port)
	errStream, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	headers.Set("streamType", "data")
	dataStream, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(dataStream, message) //nolint:errcheck // what comes back tells
		dataStream.Close()                  //nolint:errcheck // likewise: half closed
	}()
	back, _ := io.ReadAll(dataStream) //nolint:errcheck // a reset is an end too
	said, _ := io.ReadAll(errStream)  //nolint:errcheck // likewise
	<-sent
	return string(back), string(said)
}
