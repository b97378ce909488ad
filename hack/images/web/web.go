// Web is a small web server for test pods, and a few tools in the same program
// for images that have nothing else.
//
//	web [serve]             answer HTTP until SIGTERM, then exit 0
//	web sleep SECONDS       do nothing for a while
//	web exit CODE           exit with a code
//	web env                 print the environment
//	web print N INTERVAL    print N numbered lines, one per interval (0: for ever)
//	web fetch URL           print what a URL answers; exit 1 unless it is 200
//	web answer              answer datagrams until SIGTERM
//	web resolve NAME        print the addresses that a name has
//	web ask ADDRESS:PORT    send a datagram and print the answer
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "web:", err) //nolint:errcheck // nowhere else to say it
	}
	stop()
	os.Exit(code)
}

// run is main without the process. It returns the exit code.
func run(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"serve"}, args...)
	}
	commands := map[string]func(ctx context.Context, args []string, out io.Writer) (int, error){
		"serve": serve, "sleep": sleep, "exit": exit, "env": env, "print": printLines, "fetch": fetch, "answer": answer, "ask": ask,
		"resolve": resolve,
	}
	command, ok := commands[args[0]]
	if !ok {
		return 2, fmt.Errorf("no tool %q", args[0])
	}
	return command(ctx, args[1:], out)
}

// killed is what a shell reports of a process that died by SIGTERM.
const killed = 128 + int(syscall.SIGTERM)

func serve(ctx context.Context, args []string, out io.Writer) (int, error) {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	port := fs.String("port", envOr("PORT", "8080"), "TCP port (environment: PORT)")
	stopDelay := fs.Duration("stop-delay", 0, "how long to go on after SIGTERM")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", net.JoinHostPort("", *port))
	if err != nil {
		return 1, err
	}
	fmt.Fprintf(out, "listening on %s\n", l.Addr()) //nolint:errcheck // nobody may be looking
	server := &http.Server{Handler: newHandler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return 1, err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "stopping") //nolint:errcheck // as above
	time.Sleep(*stopDelay)        // being slow to stop is what the flag asks for
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(last)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// newHandler answers with who and where it is, and by a health that a PUT of a
// status code to /healthz changes.
func newHandler() http.Handler {
	var health atomic.Int32
	health.Store(http.StatusOK)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(health.Load()))
		fmt.Fprintln(w, health.Load()) //nolint:errcheck // the client may be gone
	})
	mux.HandleFunc("PUT /healthz", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 16))
		code, perr := strconv.Atoi(strings.TrimSpace(string(body)))
		if err != nil || perr != nil || code < 200 || code > 599 {
			http.Error(w, "a status code from 200 to 599 is needed", http.StatusBadRequest)
			return
		}
		health.Store(int32(code))
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		vars := make(map[string]string)
		for _, v := range os.Environ() {
			key, value, _ := strings.Cut(v, "=")
			vars[key] = value
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(vars) //nolint:errcheck // the client may be gone
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, err := os.Hostname()
		if err != nil {
			host = err.Error()
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "hostname: %s\nremote: %s\npath: %s\n", host, r.RemoteAddr, r.URL.Path) //nolint:errcheck // the client may be gone
	})
	return mux
}

func sleep(ctx context.Context, args []string, _ io.Writer) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("sleep: how many seconds?")
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil || seconds < 0 || seconds > 1e9 {
		return 2, fmt.Errorf("sleep: bad number of seconds %q", args[0])
	}
	select {
	case <-ctx.Done():
		return killed, nil
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return 0, nil
	}
}

func exit(_ context.Context, args []string, _ io.Writer) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("exit: which code?")
	}
	code, err := strconv.Atoi(args[0])
	if err != nil || code < 0 || code > 255 {
		return 2, fmt.Errorf("exit: bad code %q", args[0])
	}
	return code, nil
}

func env(_ context.Context, _ []string, out io.Writer) (int, error) {
	for _, v := range os.Environ() {
		if _, err := fmt.Fprintln(out, v); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

func printLines(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) != 2 {
		return 2, errors.New("print: how many lines, and how often?")
	}
	count, err := strconv.Atoi(args[0])
	if err != nil || count < 0 {
		return 2, fmt.Errorf("print: bad number %q", args[0])
	}
	every, err := time.ParseDuration(args[1])
	if err != nil || every < 0 {
		return 2, fmt.Errorf("print: bad interval %q, such as 500ms", args[1])
	}
	for i := 1; count == 0 || i <= count; i++ {
		if _, err := fmt.Fprintf(out, "line %d\n", i); err != nil {
			return 1, err
		}
		if i == count {
			break
		}
		select {
		case <-ctx.Done():
			return killed, nil
		case <-time.After(every):
		}
	}
	return 0, nil
}

func fetch(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("fetch: which URL?")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return 2, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 1, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if _, err := io.Copy(out, resp.Body); err != nil {
		return 1, err
	}
	if resp.StatusCode != http.StatusOK {
		return 1, errors.New(resp.Status)
	}
	return 0, nil
}

func envOr(key, fallback string) string {
	if v, ok := os.LookupEnv(key); ok {
		return v
	}
	return fallback
}
