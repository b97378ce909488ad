// Bench measures how fast pods start on one simulated host and what the agent
// costs; README.md says what is printed. hack/bench.sh runs it in a lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"reddwarf.io/reddwarf/hack/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pods := flags.Int("pods", 50, "pods of the burst")
	single := flags.Int("single", 10, "pods started one at a time")
	repeat := flags.Int("repeat", 1, "how often to measure everything")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	host, err := bed.AddHost(ctx, "bench1", testbed.HostOptions{CPUs: 64, Memory: "64G"})
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", bed.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	b := &bench{client: client, host: host}
	for i := range *repeat {
		if err := b.round(ctx, i, *single, *pods); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	client kubernetes.Interface
	host   *testbed.Host
}

func (b *bench) round(ctx context.Context, round, single, burst int) error {
	fmt.Printf("\nround %d; %s\n", round+1, calibrate())
	// The first pod pulls the image; it is not counted.
	if _, err := b.start(ctx, fmt.Sprintf("warm%d", round), 1); err != nil {
		return err
	}
	if err := b.remove(ctx); err != nil {
		return err
	}
	before, err := b.cost(ctx)
	if err != nil {
		return err
	}
	if err := b.oneAtATime(ctx, round, single); err != nil {
		return err
	}
	steal := stolen()
	began := time.Now()
	starts, err := b.start(ctx, fmt.Sprintf("burst%d", round), burst)
	if err != nil {
		return err
	}
	took := time.Since(began)
	times := totals(starts)
	fmt.Printf("%d pods at once: p50 %.2f s, p99 %.2f s, %.1f pods/s; steal %.1f %%\n",
		burst, quantile(times, 0.5).Seconds(), quantile(times, 0.99).Seconds(), float64(burst)/took.Seconds(), stolen().since(steal))
	with, err := b.cost(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("agent memory: %.1f MiB PSS with no pod, %.1f MiB with %d (%.2f MiB per pod); CPU of the burst %.2f s; podinit %.2f MiB PSS per pod\n",
		mib(before.agentPSS), mib(with.agentPSS), burst, mib(with.agentPSS-before.agentPSS)/float64(burst),
		(with.agentCPU - before.agentCPU).Seconds(), mib(with.podinitPSS)/float64(max(with.podinits, 1)))
	return b.remove(ctx)
}

func (b *bench) oneAtATime(ctx context.Context, round, n int) error {
	var all []started
	var commands []time.Duration
	for i := range n {
		s, err := b.start(ctx, fmt.Sprintf("single%d-%d-", round, i), 1)
		if err != nil {
			return err
		}
		busy, err := b.hostTime(s[0].scheduled, s[0].running)
		if err != nil {
			return err
		}
		all, commands = append(all, s[0]), append(commands, busy)
		if err := b.remove(ctx); err != nil {
			return err
		}
	}
	times := totals(all)
	var placed, rest []time.Duration
	for i, s := range all {
		placed = append(placed, s.scheduled.Sub(s.created))
		rest = append(rest, s.running.Sub(s.scheduled)-commands[i])
	}
	onHost := quantile(commands, 0.5) + quantile(rest, 0.5)
	fmt.Printf("one pod at a time: median %.3f s, worst %.3f s; medians of the parts: placing %.3f s, host commands %.3f s, the rest %.3f s (%.0f %% of the time on the host)\n",
		quantile(times, 0.5).Seconds(), slices.Max(times).Seconds(), quantile(placed, 0.5).Seconds(),
		quantile(commands, 0.5).Seconds(), quantile(rest, 0.5).Seconds(), 100*quantile(rest, 0.5).Seconds()/onHost.Seconds())
	return nil
}

func totals(all []started) []time.Duration {
	var out []time.Duration
	for _, s := range all {
		out = append(out, s.running.Sub(s.created))
	}
	return out
}

// quantile returns the smallest value that the share q of all does not exceed.
func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
