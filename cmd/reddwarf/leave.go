package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/mounts"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/hostpods"
)

// leaving is what `reddwarf leave` takes. What it shares with `reddwarf node`
// must be the same.
type leaving struct {
	config
	adminKubeconfig string
	timeout         time.Duration
	hostOnly        bool
	keepIdentity    bool

	out  io.Writer
	host command.Host
}

func leaveCommand() *cobra.Command {
	l := leaving{host: command.Local{}}
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take this host out of the cluster and remove everything that Reddwarf made on it",
		Long: `Take this host out of the cluster and remove everything that Reddwarf made on it, and nothing else.

First the node is cordoned and its pods are evicted, while the agent still runs and ends them. Then it waits until the agent was stopped
(svcadm disable reddwarf), and removes zones, datasets, links, addresses, routes and rules, the records and the identity. Give it the flags
that "reddwarf node" has, or the same file of settings. It may be repeated. The packet filter (svc:/network/ipfilter) stays enabled, because others may use it.

A node must not delete itself: with --admin-kubeconfig the Node is deleted, too; without it you are told how.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l.out = cmd.OutOrStdout()
			if err := l.fill(); err != nil {
				return err
			}
			return l.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	l.registerHost(f)
	f.StringVar(&l.PodinitNative, "podinit-native", defaultPodinitNative, "podinit for native zones; it sweeps what host pods leave behind")
	f.StringVar(&l.adminKubeconfig, "admin-kubeconfig", "", "kubeconfig of somebody who may delete nodes")
	f.DurationVar(&l.timeout, "timeout", 10*time.Minute, "how long to wait for pods to end and for the agent to be stopped")
	f.BoolVar(&l.hostOnly, "host-only", false, "do not speak to the cluster: it is gone, or has forgotten this node")
	f.BoolVar(&l.keepIdentity, "keep-identity", false, "keep the kubeconfig and the certificates")
	return cmd
}

func (l *leaving) say(format string, args ...any) {
	fmt.Fprintf(l.out, format+"\n", args...) //nolint:errcheck // nowhere else to say it
}

func (l *leaving) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.timeout, errors.New("--timeout is over"))
	defer cancel()
	var api kubernetes.Interface
	if !l.hostOnly {
		var err error
		if api, err = l.cluster(); err != nil {
			return fmt.Errorf("%w (with --host-only the cluster is left alone)", err)
		}
		if err := l.drain(ctx, api); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
	unlock, err := l.awaitAgentEnd(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if api != nil {
		if err := l.deregister(ctx, api); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{l.removeZones, l.removeNetwork, l.removeMounts, l.removeDatasets} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	if err := l.removeFiles(); err != nil {
		return err
	}
	l.say("Nothing of Reddwarf is left on this host but its programs, its service and your settings. The packet filter stays as it is: others may use it.")
	return nil
}

// awaitAgentEnd waits until no agent runs, and keeps others from starting.
func (l *leaving) awaitAgentEnd(ctx context.Context) (unlock func(), err error) {
	for said := false; ; {
		unlock, err := lockHost(l.RunDir)
		if err == nil || !errors.Is(err, errAgentRuns) {
			return unlock, err
		}
		if !said {
			l.say("Stop the agent now (svcadm disable reddwarf); waiting for its end.")
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// removeZones removes the zones that carry our mark, and the pods of the global
// zone.
func (l *leaving) removeZones(ctx context.Context) error {
	dir := storage.New(l.host, storage.Config{Pool: l.Pool}).PodsDir()
	var host provider.Zones = zones.New(l.host, zones.Features{})
	if _, err := os.Stat(dir); err == nil {
		host = provider.WithHostPods(host, hostpods.New(l.host, dir, translate.ZonePrefix, l.PodinitNative))
	}
	all, err := host.List(ctx)
	if err != nil {
		return err
	}
	for _, z := range all {
		uid, named := strings.CutPrefix(z.Name, translate.ZonePrefix)
		if !named {
			continue
		}
		attrs, err := host.Attrs(ctx, z.Name)
		if err != nil {
			return err
		}
		if attrs[translate.AttrUID] != uid {
			continue // somebody else's, whatever its name
		}
		if err := removeZone(ctx, host, z.Name); err != nil {
			return err
		}
		l.say("removed zone %s of pod %s/%s", z.Name, attrs[translate.AttrNamespace], attrs[translate.AttrName])
	}
	return nil
}

// removeZone looks before every step, as the agent's workers do: a zone that is
// on its way down takes its time.
func removeZone(ctx context.Context, host provider.Zones, name string) error {
	for {
		all, err := host.List(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(z zones.Zone) bool { return z.Name == name })
		if i < 0 || all[i].State == zones.Absent {
			return nil
		}
		switch all[i].State {
		case zones.Configured:
			return host.Delete(ctx, name)
		case zones.Installed, zones.Incomplete:
			err = host.MarkConfigured(ctx, name)
		default:
			err = host.Halt(ctx, name)
		}
		if err != nil && !errors.Is(err, zones.ErrState) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("zone %s is %s: %w", name, all[i].State, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// removeNetwork removes pods' links, then everything that the agent made.
func (l *leaving) removeNetwork(ctx context.Context) error {
	host := network.New(l.host, network.Config{Etherstub: l.Etherstub, Record: l.networkRecord()})
	vnics, err := host.VNICs(ctx)
	if err != nil {
		return err
	}
	for _, v := range vnics {
		slot, err := strconv.Atoi(strings.TrimPrefix(v.Name, "rdw"))
		if err != nil || translate.LinkName(slot) != v.Name {
			continue // the gateway's, or somebody else's
		}
		for {
			err := host.RemoveVNIC(ctx, v.Name)
			if err == nil {
				break
			}
			if !errors.Is(err, network.ErrBusy) {
				return err
			}
			select {
			case <-ctx.Done():
				return errors.Join(err, context.Cause(ctx))
			case <-time.After(500 * time.Millisecond): // a zone's end takes its time
			}
		}
	}
	if err := host.Teardown(ctx); err != nil {
		return err
	}
	l.say("removed links, addresses, routes and rules")
	return nil
}

// removeMounts unmounts what pods showed of the host and of NFS servers.
func (l *leaving) removeMounts(ctx context.Context) error {
	return mounts.New(l.host, mounts.DefaultDir).Teardown(ctx)
}

func (l *leaving) removeDatasets(ctx context.Context) error {
	kept, err := storage.New(l.host, storage.Config{Pool: l.Pool}).Teardown(ctx)
	if err != nil {
		return err
	}
	for _, name := range kept {
		l.say("dataset %s is not ours and stays, with those above it", name)
	}
	l.say("removed datasets")
	return nil
}

// removeFiles removes records, links to logs, and what `reddwarf join` wrote.
func (l *leaving) removeFiles() error {
	store := storage.New(l.host, storage.Config{Pool: l.Pool})
	errs := []error{
		os.RemoveAll(filepath.Join(l.DataDir, "pods")), removeEmpty(l.DataDir),
		removeLinks(l.LogDir, store.PodsDir()), removeEmpty(l.LogDir),
		removeEmpty(filepath.Dir(store.PodsDir())), // zfs leaves a mount point that was asked for by name
		removeEmpty(zones.DefaultScripts),
	}
	if !l.keepIdentity {
		for _, pattern := range []string{"kubeconfig", "ca.crt", "node-client-*.pem", "node-serving-*.pem"} {
			files, err := filepath.Glob(filepath.Join(l.IdentityDir, pattern))
			errs = append(errs, err)
			for _, f := range files {
				errs = append(errs, os.Remove(f))
			}
		}
		errs = append(errs, removeEmpty(l.IdentityDir))
	}
	errs = append(errs, os.RemoveAll(filepath.Dir(l.localSocket())), os.Remove(filepath.Join(l.RunDir, "agent.lock")), removeEmpty(l.RunDir))
	return errors.Join(errs...)
}

// removeLinks removes the links in dir that lead below target.
func removeLinks(dir, target string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, target+"/") {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}

// removeEmpty removes a directory unless something is in it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) > 0 {
		return nil
	}
	return errors.Join(err, os.Remove(dir))
}
