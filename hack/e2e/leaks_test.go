package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// handles asks the agent for what one that leaks has ever more of.
func handles(ctx context.Context) (goroutines, files int, err error) {
	text, err := bed.Kubectl(ctx, "get", "--raw", "/api/v1/nodes/e2e1/proxy/metrics")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(text) {
		for name, to := range map[string]*int{"go_goroutines ": &goroutines, "process_open_fds ": &files} {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
				if *to, err = strconv.Atoi(value); err != nil {
					return 0, 0, fmt.Errorf("metric %s: %w", name, err)
				}
			}
		}
	}
	if goroutines == 0 || files == 0 {
		return 0, 0, fmt.Errorf("the agent's metrics have %d goroutines and %d open files", goroutines, files)
	}
	return goroutines, files, nil
}

// TestAgentLeaksNothing lets 20 pods come and go and runs 100 programs in one: the
// agent comes to rest with as many goroutines and open files as before. hack/bench
// does the same with ten times as many.
func TestAgentLeaksNothing(t *testing.T) {
	const pods, programs = 20, 100
	// One of the two left open for each pod, let alone for each program, is more.
	const slack = pods / 2
	cycle := func(name string, n, programs int) {
		t.Helper()
		var all strings.Builder
		for i := range n {
			all.WriteString(pod(fmt.Sprintf("%s-%d", name, i), webImage, "terminationGracePeriodSeconds: 1", "") + "\n---\n")
		}
		if _, err := bed.KubectlIn(t.Context(), all.String(), "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			waitPod(t, fmt.Sprintf("%s-%d", name, i), "a ready pod", ready)
		}
		for range programs {
			if out, code := kubectlCode(t, "", "exec", name+"-0", "--", "/web", "print", "1", "0s"); code != 0 {
				t.Fatalf("exec: %q, exit code %d", out, code)
			}
		}
		if _, err := bed.KubectlIn(t.Context(), all.String(), "delete", "--wait=true", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	cycle("leak-warm", 2, 1) // connections and caches that stay
	var goroutines, files int
	rest := func(most time.Duration, enough func(g, f int) bool) error {
		goroutines, files = 1<<30, 1<<30
		return bed.Eventually(t.Context(), most, "an agent at rest", func(ctx context.Context) error {
			g, f, err := handles(ctx)
			if err != nil {
				return err
			}
			goroutines, files = min(goroutines, g), min(files, f)
			if !enough(goroutines, files) {
				return fmt.Errorf("it has %d goroutines and %d open files", g, f)
			}
			return nil
		})
	}
	began := time.Now()
	if err := rest(2*time.Minute, func(int, int) bool { return time.Since(began) > 20*time.Second }); err != nil {
		t.Fatal(err)
	}
	g, f := goroutines, files
	cycle("leak", pods/2, programs)
	cycle("leak", pods/2, 0)
	if err := rest(3*time.Minute, func(now, open int) bool { return now <= g+slack && open <= f+slack }); err != nil {
		t.Errorf("before it were %d goroutines and %d open files: %v", g, f, err)
	}
	t.Logf("%d goroutines and %d open files before, %d and %d after", g, f, goroutines, files)
}
