package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health says whether rules follow the cluster.
type health struct {
	// late is how long nothing may be heard of the loop until it counts as stuck,
	// and how long changes may fail until the host counts as not ready.
	late time.Duration

	mu    sync.Mutex
	heard time.Time // of the last run, however it ended; it begins with the start
	good  time.Time // of the last run that ended well; zero if none has
	err   error     // of the last run
}

func (h *health) observe(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard, h.err = time.Now(), err
	if err == nil {
		h.good = h.heard
	}
}

// alive fails if the loop that changes rules is stuck. Waiting for an API server
// is not: nothing has begun then.
func (h *health) alive() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := time.Since(h.heard); !h.heard.IsZero() && since > h.late {
		return fmt.Errorf("nothing was done for %v", since.Round(time.Second))
	}
	return nil
}

// ready fails until the rules were in line once, and when they have not been
// for long. It does not ask for the API server: without one, rules are as right
// as they can be.
func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch since := time.Since(h.good); {
	case h.good.IsZero() && h.err != nil:
		return fmt.Errorf("the rules were not in line yet: %w", h.err)
	case h.good.IsZero():
		return errors.New("the rules were not in line yet")
	case h.err != nil && since > h.late:
		return fmt.Errorf("the rules were last in line %v ago: %w", since.Round(time.Second), h.err)
	}
	return nil
}

// serve answers on one address until ctx ends. It has no secrets to tell, and
// the address is the loopback's unless the operator says otherwise.
func serve(ctx context.Context, address string, m *metrics, h *health) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	mux.HandleFunc("GET /healthz", check(h.alive))
	mux.HandleFunc("GET /readyz", check(h.ready))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	select {
	case err = <-ended: // it does so only by a failure
		return fmt.Errorf("--listen %s: %w", address, err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err = s.Shutdown(last); errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func check(f func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := f(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}
