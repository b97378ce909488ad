package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// run makes one check that may take long, and expects it to be carried out.
func run(t *testing.T, c Checker) Result {
	t.Helper()
	return runFor(t, c, 30*time.Second)
}

func runFor(t *testing.T, c Checker, limit time.Duration) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := c.Check(ctx)
	if err != nil {
		t.Fatalf("the check could not be carried out: %v", err)
	}
	return r
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestHTTPStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.WriteHeader(code)
		fmt.Fprint(w, "secret body")
	}))
	defer server.Close()
	for code, want := range map[int]bool{200: true, 204: true, 299: true, 302: true, 399: true, 400: false, 404: false, 500: false, 503: false} {
		got := run(t, HTTP{URL: parse(t, fmt.Sprintf("%s/%d", server.URL, code))})
		if got.Passed != want {
			t.Errorf("%d: %+v", code, got)
		}
		if !want && got.Message != fmt.Sprintf("HTTP probe failed with statuscode: %d", code) {
			t.Errorf("%d: message %q", code, got.Message)
		}
	}
}

func TestHTTPRequest(t *testing.T) {
	var seen *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	run(t, HTTP{URL: parse(t, server.URL+"/a/b?c=d")})
	if h := seen.Header; h.Get("User-Agent") != "kube-probe/1.37" || h.Get("Accept") != "*/*" || h.Get("Accept-Encoding") != "" || len(h["Connection"]) != 1 {
		t.Errorf("headers are %v", h)
	}
	if seen.RequestURI != "/a/b?c=d" || seen.Method != "GET" {
		t.Errorf("asked for %s %s", seen.Method, seen.RequestURI)
	}
	header := http.Header{"User-Agent": {"mine"}, "Accept": {""}, "Host": {"web.example"}, "X-Two": {"1", "2"}}
	run(t, HTTP{URL: parse(t, server.URL), Header: header})
	if h := seen.Header; h.Get("User-Agent") != "mine" || len(h["Accept"]) != 0 || len(h["X-Two"]) != 2 || seen.Host != "web.example" {
		t.Errorf("host %q, headers %v", seen.Host, h)
	}
	if len(header["Accept"]) != 1 {
		t.Error("the caller's headers were changed")
	}
}

func TestHTTPRedirects(t *testing.T) {
	var server *httptest.Server
	hops := 0
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/well":
		case "/to-well":
			http.Redirect(w, r, "/well", http.StatusFound)
		case "/to-ill":
			http.Redirect(w, r, "/ill", http.StatusMovedPermanently)
		case "/elsewhere": // nobody may be asked there
			http.Redirect(w, r, "http://elsewhere.invalid/ill", http.StatusFound)
		case "/loop":
			hops++
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()
	for path, want := range map[string]struct {
		passed  bool
		message string
	}{
		"/to-well":   {true, ""},
		"/to-ill":    {false, "statuscode: 418"},
		"/elsewhere": {true, "Probe terminated redirects"},
		"/loop":      {false, "stopped after 10 redirects"},
	} {
		got := run(t, HTTP{URL: parse(t, server.URL+path)})
		if got.Passed != want.passed || !strings.Contains(got.Message, want.message) || (want.message == "") != (got.Message == "") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if hops != 10 {
		t.Errorf("%d hops in a loop", hops)
	}
}

func TestHTTPSWithoutVerification(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	if got := run(t, HTTP{URL: parse(t, server.URL)}); !got.Passed {
		t.Errorf("HTTPS: %+v", got)
	}
	// To a server that speaks TLS, plain HTTP is a bad request.
	if got := run(t, HTTP{URL: parse(t, strings.Replace(server.URL, "https", "http", 1))}); got.Passed {
		t.Errorf("HTTP to a TLS port: %+v", got)
	}
}

func TestHTTP2Cleartext(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	for want, c := range map[bool]HTTP{true: {Cleartext2: true}, false: {}} {
		c.URL = parse(t, server.URL)
		if got := run(t, c); got.Passed != want {
			t.Errorf("Cleartext2 %v: %+v", c.Cleartext2, got)
		}
	}
}

// TestHTTPLargeAnswer: only the beginning of an answer is waited for.
func TestHTTPLargeAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", maxOutput))
		w.(http.Flusher).Flush()
		<-r.Context().Done() // there is more, but not now
	}))
	defer server.Close()
	if got := run(t, HTTP{URL: parse(t, server.URL)}); !got.Passed {
		t.Errorf("%+v", got)
	}
}

func TestHTTPSlowAnswersFail(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "half an answer")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	for _, path := range []string{"/header", "/body"} {
		got := runFor(t, HTTP{URL: parse(t, server.URL+path)}, 100*time.Millisecond)
		if got.Passed || !strings.Contains(got.Message, "deadline exceeded") {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// free is an address on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := run(t, TCP{l.Addr().String()}); !got.Passed {
		t.Errorf("to a listener: %+v", got)
	}
	if got := run(t, TCP{free(t)}); got.Passed || !strings.Contains(got.Message, "connection refused") {
		t.Errorf("to nobody: %+v", got)
	}
}

// TestOwnFaults: what this process cannot do is an error, not a failure.
func TestOwnFaults(t *testing.T) {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if r, err := failed(&net.OpError{Op: "dial", Err: own}); err == nil {
			t.Errorf("%v: %+v", own, r)
		}
	}
	for _, theirs := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ETIMEDOUT, context.DeadlineExceeded} {
		if r, err := failed(&net.OpError{Op: "dial", Err: theirs}); err != nil || r.Passed || r.Message == "" {
			t.Errorf("%v: %+v, %v", theirs, r, err)
		}
	}
}

func healthServer(t *testing.T, o ...grpc.ServerOption) (*health.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(o...), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return service, l.Addr().String()
}

func TestGRPC(t *testing.T) {
	service, address := healthServer(t)
	service.SetServingStatus("well", grpc_health_v1.HealthCheckResponse_SERVING)
	service.SetServingStatus("ill", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	for name, want := range map[string]string{
		"": "", "well": "", "ill": `service unhealthy (responded with "NOT_SERVING")`, "none": "error: health rpc probe failed",
	} {
		got := run(t, GRPC{Address: address, Service: name})
		if got.Passed != (want == "") || !strings.HasPrefix(got.Message, want) || (want == "") != (got.Message == "") {
			t.Errorf("service %q: %+v", name, got)
		}
	}
	if got := runFor(t, GRPC{Address: free(t)}, time.Second); got.Passed || !strings.Contains(got.Message, "within 1s") {
		t.Errorf("to nobody: %+v", got)
	}
}

func TestGRPCWithoutHealth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	defer server.Stop()
	go server.Serve(l)
	if got := run(t, GRPC{Address: l.Addr().String()}); got.Passed || !strings.Contains(got.Message, "does not implement the grpc health protocol") {
		t.Errorf("%+v", got)
	}
}

func TestGRPCWithTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate, which nobody knows
	defer certified.Close()
	_, address := healthServer(t, grpc.Creds(credentials.NewServerTLSFromCert(&certified.TLS.Certificates[0])))
	if got := run(t, GRPC{Address: address, TLS: true}); !got.Passed {
		t.Errorf("%+v", got)
	}
	if got := runFor(t, GRPC{Address: address}, 200*time.Millisecond); got.Passed {
		t.Errorf("without TLS: %+v", got)
	}
}

func TestExec(t *testing.T) {
	var args []string
	checker := func(code int, err error, says string) Exec {
		return Exec{Args: []string{"a", "b c"}, Run: func(_ context.Context, a []string, out io.Writer) (int, error) {
			args = a
			io.WriteString(out, says)
			return code, err
		}}
	}
	if got := run(t, checker(0, nil, "fine")); !got.Passed || got.Message != "" || len(args) != 2 {
		t.Errorf("code 0: %+v", got)
	}
	if got := run(t, checker(3, nil, "not fine")); got.Passed || got.Message != "not fine" {
		t.Errorf("code 3: %+v", got)
	}
	if got := run(t, checker(1, nil, strings.Repeat("x", 3*maxOutput))); got.Passed || len(got.Message) != maxOutput {
		t.Errorf("much output: %d bytes", len(got.Message))
	}
	own := errors.New("cannot start")
	if r, err := checker(0, own, "").Check(t.Context()); !errors.Is(err, own) {
		t.Errorf("a program that did not run: %+v, %v", r, err)
	}
	hangs := Exec{Args: []string{"sleep", "9"}, Run: func(ctx context.Context, _ []string, _ io.Writer) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}}
	if got := runFor(t, hangs, time.Second); got.Passed || got.Message != `command timed out: "sleep 9" timed out after 1s` {
		t.Errorf("a program that hangs: %+v", got)
	}
}

// TestChecksLeaveNothing: what a check starts has ended soon after it.
func TestChecksLeaveNothing(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	_, health := healthServer(t)
	checkers := []Checker{
		HTTP{URL: parse(t, plain.URL)}, HTTP{URL: parse(t, secure.URL)}, TCP{health}, GRPC{Address: health}, GRPC{Address: health, Service: "none"},
	}
	before := runtime.NumGoroutine()
	for range 20 {
		for _, c := range checkers {
			run(t, c)
		}
	}
	for range 1000 { // the servers' ends of the connections take a moment
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func BenchmarkCheckers(b *testing.B) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	u, err := url.Parse(plain.URL)
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]Checker{"http": HTTP{URL: u}, "tcp": TCP{u.Host}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r, err := c.Check(b.Context()); err != nil || !r.Passed {
					b.Fatal(r, err)
				}
			}
		})
	}
}
