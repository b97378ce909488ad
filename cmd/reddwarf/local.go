package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"reddwarf.io/reddwarf/provider/images"
)

// The commands of this host ask a running agent through a socket that only root
// reaches: two processes must not change the images of a host at once, and the
// agent alone knows what it is about to use.

// localSocket is where the agent listens. Its directory keeps others out, also
// while the socket is new.
func (c *config) localSocket() string { return filepath.Join(c.RunDir, "local", "agent.sock") }

// serveLocal answers the commands of this host until ctx ends.
func (a *agent) serveLocal(ctx context.Context, collector *images.Collector) (serve func() error, err error) {
	name := a.localSocket()
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	// The lock says that what is there is a former agent's.
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "unix", name)
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	server := &http.Server{Handler: localHandler(collector), ReadHeaderTimeout: 10 * time.Second}
	return func() error {
		stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // nobody is left to hear it
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("local socket: %w", err)
		}
		return ctx.Err()
	}, nil
}

func localHandler(collector *images.Collector) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		list, err := collector.List(r.Context())
		answerLocal(w, list, err)
	})
	mux.HandleFunc("POST /images/prune", func(w http.ResponseWriter, r *http.Request) {
		// Whoever asked may go away: what has begun comes to its end.
		p, err := collector.Prune(context.WithoutCancel(r.Context()), r.URL.Query().Has("dry-run"))
		answerLocal(w, p, err)
	})
	return mux
}

func answerLocal(w http.ResponseWriter, what any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(what) //nolint:errcheck // the other side sees an answer that ends early
}

// askAgent sends one request to the agent that runs on this host.
func (c *config) askAgent(ctx context.Context, method, path string, answer any) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.localSocket())
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("an agent runs on this host, but does not answer: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent says: %s", body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return nil
}
