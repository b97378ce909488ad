package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	corev1 "k8s.io/api/core/v1"
)

// handles are what an agent that leaks has ever more of.
type handles struct{ goroutines, files int }

func (h handles) String() string {
	return fmt.Sprintf("%d goroutines, %d open files", h.goroutines, h.files)
}

// handles asks the agent's own metrics, by way of the API server.
func (b *bench) handles(ctx context.Context) (handles, error) {
	text, err := b.client.CoreV1().RESTClient().Get().Resource("nodes").Name(b.host.Name).SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	if err != nil {
		return handles{}, fmt.Errorf("metrics of the agent: %w", err)
	}
	var h handles
	for name, to := range map[string]*int{"go_goroutines": &h.goroutines, "process_open_fds": &h.files} {
		if *to, err = gauge(string(text), name); err != nil {
			return handles{}, err
		}
	}
	return h, nil
}

// gauge returns the value of a metric without labels, in Prometheus' text form.
func gauge(text, name string) (int, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" ")
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		return int(f), nil
	}
	return 0, fmt.Errorf("the agent has no metric %s", name)
}

// batch is how many pods are created and deleted together while leaks are
// looked for.
const batch = 20

// leaks creates and deletes pods and runs programs in one, and tells of the
// agent's goroutines and open files before and after. The first batch and the
// first program are not counted: connections and caches that they make stay.
func (b *bench) leaks(ctx context.Context, pods, execs int, config *rest.Config) error {
	cycle := func(name string, n int) error {
		if _, err := b.start(ctx, name, n); err != nil {
			return err
		}
		return b.remove(ctx)
	}
	programs := func(name string, n int) error {
		if _, err := b.start(ctx, name, 1); err != nil {
			return err
		}
		for range n {
			if err := b.exec(ctx, config, name+"-0"); err != nil {
				return err
			}
		}
		return b.remove(ctx)
	}
	if err := cycle("leakwarm", batch); err != nil {
		return err
	}
	if err := programs("leakexecwarm", 1); err != nil {
		return err
	}
	before, err := b.rested(ctx)
	if err != nil {
		return err
	}
	for i := 0; i*batch < pods; i++ {
		if err := cycle(fmt.Sprintf("leak%d", i), min(batch, pods-i*batch)); err != nil {
			return err
		}
	}
	if err := programs("leakexec", execs); err != nil {
		return err
	}
	after, err := b.rested(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("leaks: %s before, %s after %d pods came and went and %d programs ran\n", before, after, pods, execs)
	return nil
}

// restTime is how long streams, idle connections and the events of pods that
// are gone may take to end.
const restTime = 2 * time.Minute

// rested returns the fewest handles that the agent has within a while.
func (b *bench) rested(ctx context.Context) (handles, error) {
	least, err := b.handles(ctx)
	for end := time.Now().Add(restTime); err == nil && time.Now().Before(end); {
		if err = settle(ctx); err != nil {
			break
		}
		var h handles
		if h, err = b.handles(ctx); err == nil {
			least = handles{min(least.goroutines, h.goroutines), min(least.files, h.files)}
		}
	}
	return least, err
}

// exec runs a program in a pod's container to its end.
func (b *bench) exec(ctx context.Context, config *rest.Config, pod string) error {
	request := b.client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"/web", "print", "1", "0s"}, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	run, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := run.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &out}); err != nil {
		return fmt.Errorf("exec in %s: %w: %s", pod, err, out.String())
	}
	return nil
}
