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
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	pods := flags.Int("pods", 50, "pods of the burst")
	single := flags.Int("single", 10, "pods started one at a time")
	repeat := flags.Int("repeat", 1, "how often to measure everything")
	splits := flags.Bool("split", true, "split the time of a start, for which the agent logs at level debug")
	times := flags.Bool("timeline", false, "print all that was told of while the last single pod started; needs -split")
	idle := flags.Duration("idle", 0, "how long to watch what the agent does while the pods of the burst just run")
	leaks := flags.Int("leaks", 0, "instead of measuring time, look for leaks of the agent with that many pods and five times as many programs")
	probes := flags.Int("probes", 0, "instead of measuring time, measure what that many pods with three probes each cost")
	probing := flags.Duration("probe-time", 6*probePeriod, "with -probes, how long to watch them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *pods < 1 || *single < 1 || *repeat < 1 {
		return errors.New("-pods, -single and -repeat must be at least 1")
	}
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	options := testbed.HostOptions{CPUs: 64, Memory: "64G"}
	if *probes > 0 || *leaks > 0 {
		*splits = false // a log of every command would be part of the cost
	}
	if *splits {
		options.AgentFlags = []string{"--log-level", "debug"}
	}
	host, err := bed.AddHost(ctx, "bench1", options)
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
	b := &bench{client: client, host: host, splits: *splits, timeline: *times && *splits, idle: *idle}
	fmt.Println("machine:", machine())
	if *leaks > 0 {
		return b.leaks(ctx, *leaks, 5**leaks, config)
	}
	if *probes > 0 {
		return b.probes(ctx, *probes, *probing)
	}
	for i := range *repeat {
		if err := b.round(ctx, i, *single, *pods); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	client   kubernetes.Interface
	host     *testbed.Host
	splits   bool
	timeline bool
	idle     time.Duration
}

func (b *bench) round(ctx context.Context, round, single, burst int) error {
	fmt.Printf("\nround %d\n", round+1)
	// The first pod pulls the image; it is not counted.
	if _, err := b.start(ctx, fmt.Sprintf("warm%d", round), 1); err != nil {
		return err
	}
	if err := b.remove(ctx); err != nil {
		return err
	}
	if err := b.oneAtATime(ctx, round, single); err != nil {
		return err
	}
	return b.burst(ctx, round, burst)
}

func (b *bench) oneAtATime(ctx context.Context, round, n int) error {
	conditions := observe()
	var times []time.Duration
	var all []parts
	for i := range n {
		s, err := b.start(ctx, fmt.Sprintf("single%d-%d", round, i), 1)
		if err != nil {
			return err
		}
		times = append(times, s[0].running.Sub(s[0].created))
		if b.splits {
			p, err := split(b.host, s[0])
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		if b.timeline && i == n-1 {
			if err := timeline(os.Stdout, b.host, s[0]); err != nil {
				return err
			}
		}
		if err := b.remove(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("one pod at a time (%d): p50 %.3f s, worst %.3f s; %s\n", n, quantile(times, 0.5).Seconds(), slices.Max(times).Seconds(), conditions.end())
	if b.splits {
		printParts(all)
	}
	return nil
}

// printParts prints means: unlike medians they add up to a whole.
func printParts(all []parts) {
	var whole time.Duration
	for _, p := range all {
		whole += p.whole()
	}
	n := time.Duration(len(all))
	for _, row := range []struct {
		name string
		part func(parts) time.Duration
	}{
		{"host commands' own time", func(p parts) time.Duration { return p.commands }},
		{"starting the simulated commands' processes", func(p parts) time.Duration { return p.programs }},
		{"podinit, until it has started the container", func(p parts) time.Duration { return p.zone }},
		{"answers of the API server", func(p parts) time.Duration { return p.requests }},
		{"the agent itself", func(p parts) time.Duration { return p.agent }},
	} {
		var sum time.Duration
		for _, p := range all {
			sum += row.part(p)
		}
		fmt.Printf("  %6.1f ms  %3.0f %%  %s\n", (sum/n).Seconds()*1000, 100*sum.Seconds()/whole.Seconds(), row.name)
	}
	var placing time.Duration
	for _, p := range all {
		placing += p.placing
	}
	fmt.Printf("  %6.1f ms  from placed to Running (mean), after %.1f ms for the create request and the scheduler\n",
		(whole/n).Seconds()*1000, (placing/n).Seconds()*1000)
}

func (b *bench) burst(ctx context.Context, round, n int) error {
	before, err := b.cost()
	if err != nil {
		return err
	}
	conditions := observe()
	busy := processors()
	began := time.Now()
	starts, err := b.start(ctx, fmt.Sprintf("burst%d", round), n)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.cost()
	if err != nil {
		return err
	}
	used := processors().busy - busy.busy
	var times []time.Duration
	for _, s := range starts {
		times = append(times, s.running.Sub(s.created))
	}
	fmt.Printf("%d pods at once: p50 %.2f s, p99 %.2f s, %.1f pods/s; %s\n",
		n, quantile(times, 0.5).Seconds(), quantile(times, 0.99).Seconds(), float64(n)/took.Seconds(), conditions.end())
	fmt.Printf("  CPU: %.2f s in all; agent %.2f s, processes of its host commands %.2f s, simulated host %.2f s, podinits %.2f s, cluster %.2f s\n",
		used.Seconds(), (after.agentCPU - before.agentCPU).Seconds(), (after.commandCPU - before.commandCPU).Seconds(),
		(after.hostCPU - before.hostCPU).Seconds(), after.podinitCPU.Seconds(), (after.clusterCPU - before.clusterCPU).Seconds())
	// The end of a burst is not the rest that follows it.
	if err := settle(ctx); err != nil {
		return err
	}
	with, err := b.cost()
	if err != nil {
		return err
	}
	pods := float64(n)
	fmt.Printf("  memory: agent %s with no pod, %s at the end of the burst, %s a while later; podinit %.2f MiB PSS each; %.2f MiB per pod in all\n",
		before.agent, after.agent, with.agent, mib(with.podinitPSS)/float64(max(with.podinits, 1)),
		mib(with.agent.pss-before.agent.pss+with.podinitPSS)/pods)
	if err := b.rest(ctx); err != nil {
		return err
	}
	return b.remove(ctx)
}

// rest measures an agent whose pods need nothing.
func (b *bench) rest(ctx context.Context) error {
	if b.idle == 0 {
		return nil
	}
	before, err := b.cost()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.cost()
	if err != nil {
		return err
	}
	trace, err := readTrace(b.host.TraceFile(), anyCommand)
	if err != nil {
		return err
	}
	commands := 0
	for _, c := range trace {
		if c.from.After(began) {
			commands++
		}
	}
	fmt.Printf("  idle for %.0f s: agent %.0f ms of CPU time a minute, its host commands %.0f ms, of which there are %.0f a minute\n", took.Seconds(),
		float64((after.agentCPU-before.agentCPU).Milliseconds())/took.Minutes(),
		float64((after.commandCPU-before.commandCPU).Milliseconds())/took.Minutes(), float64(commands)/took.Minutes())
	return nil
}

// settleTime is for what follows a burst: events, the last statuses.
const settleTime = 10 * time.Second

func settle(ctx context.Context) error { return pause(ctx, settleTime) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// quantile returns the smallest value that the share q of all does not exceed.
func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
