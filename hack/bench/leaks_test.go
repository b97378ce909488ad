package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/component-base/metrics/legacyregistry"
)

// The agent serves this registry, and the benchmark reads these metrics of it.
func TestGauge(t *testing.T) {
	w := httptest.NewRecorder()
	legacyregistry.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if n, err := gauge(w.Body.String(), name); err != nil || n < 1 {
			t.Errorf("%s = %d, %v", name, n, err)
		}
	}
	for _, text := range []string{"", "go_goroutines_total 3\n", "go_goroutines{a=\"b\"} 3\n", "go_goroutines many\n"} {
		if n, err := gauge(text, "go_goroutines"); err == nil {
			t.Errorf("%q: %d, want an error", text, n)
		}
	}
	if n, err := gauge("# HELP go_goroutines 7\ngo_goroutines 1.2e+01\n", "go_goroutines"); err != nil || n != 12 {
		t.Errorf("got %d, %v", n, err)
	}
}
