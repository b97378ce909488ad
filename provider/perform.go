package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// perform does one step. Doing what is done already succeeds.
func (w *worker) perform(ctx context.Context, s step) error {
	switch s.act {
	case actPull:
		return w.pull(ctx, s.container)
	case actRetire:
		return w.retire(s.container)
	case actRenew:
		return w.renew(ctx, s.container)
	case actFetch:
		return w.fetchVolume(ctx, s.container)
	case actAddress:
		return w.assignAddress()
	case actStorage:
		return w.makeStorage(ctx)
	case actMount:
		return w.mountVolumes(ctx)
	case actLink:
		return w.makeLink(ctx)
	case actExpose:
		return w.expose(ctx)
	case actFiles:
		return w.writeFiles(ctx)
	case actConfigure, actInstall, actBoot:
		return w.bringUp(ctx, s.act)
	case actStart:
		return w.start(ctx, s.container)
	case actRestart:
		return w.restart(s.container)
	case actRestartAll:
		return w.restartAll()
	case actResize:
		return w.resize(ctx)
	case actRefresh:
		return w.refreshVolumes(ctx)
	case actLost:
		return w.takeInLoss()
	case actEnd:
		return w.end()
	case actPostStart, actPreStop:
		return w.beginHook(ctx, s)
	case actSignal, actKill:
		return w.stopContainer(ctx, s)
	case actHalt, actUninstall, actUnconfigure:
		return w.bringDown(ctx, s.act)
	case actConceal, actUnlink, actReclaim, actErase, actRelease, actReport, actForget:
		return w.clear(ctx, s.act)
	}
	return fmt.Errorf("provider: no way to perform %q", s.act)
}

// input is what translations are made from.
func (w *worker) input(ctx context.Context) (translate.Input, error) {
	w.mu.Lock()
	pod, st := w.pod, w.st.Clone()
	w.mu.Unlock()
	brands, err := brands(pod, st, w.p.c.Node)
	if err != nil {
		return translate.Input{}, err
	}
	in := translate.Input{
		Pod: translate.WithResources(pod, st.Allocated), Node: w.p.c.Node, Brand: brands[0], Slot: st.Slot,
		Images: map[string]*ledger.Image{}, Places: map[string]int{},
		Objects: reader{ctx, w.p.c.Cluster}, Services: w.p.c.Cluster, Shown: w.shown,
	}
	for i := range st.Containers {
		in.Images[st.Containers[i].Name] = st.Containers[i].Image
		in.Places[st.Containers[i].Name] = st.Containers[i].Place
	}
	if translate.HostPod(pod) {
		for _, a := range w.p.c.Node.HostIPs {
			in.Addresses = append(in.Addresses, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, a := range st.Addresses {
		if pool := w.p.poolOf(a); pool != nil {
			in.Addresses = append(in.Addresses, netip.PrefixFrom(a, pool.Prefix().Bits()))
			in.Gateways = append(in.Gateways, pool.Gateway().Addr())
		}
	}
	return in, nil
}

// brands are the brands that the pod may have: the one that was decided on, or
// those between which its images decide.
func brands(pod *corev1.Pod, st ledger.State, node translate.Node) ([]string, error) {
	if st.Brand != "" {
		return []string{st.Brand}, nil
	}
	return translate.Brands(pod, node)
}

// reader is the cluster's for the length of one step.
type reader struct {
	ctx     context.Context //nolint:containedctx // lives no longer than the step
	cluster Cluster
}

func (o reader) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return o.cluster.ConfigMap(o.ctx, namespace, name)
}

func (o reader) Secret(namespace, name string) (*corev1.Secret, error) {
	return o.cluster.Secret(o.ctx, namespace, name)
}

// volumeFiles are read through podinit for the length of one step.
type volumeFiles struct {
	ctx     context.Context //nolint:containedctx // lives no longer than the step
	channel Podinit
}

func (f volumeFiles) File(volume, path string) ([]byte, error) {
	return f.channel.Read(f.ctx, volume, path)
}

func (o reader) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return o.cluster.Claim(o.ctx, namespace, name)
}

func (o reader) PersistentVolume(name string) (*corev1.PersistentVolume, error) {
	return o.cluster.PersistentVolume(o.ctx, name)
}

// assignAddress decides on slot and addresses, which a host pod has none of.
// They are on disk before a link or a zone has them.
//
// In a new pod's record they come with the boot that is to follow, which must be
// on disk before the zone is booted too. That is early, but no lie: if this
// agent dies before it boots the zone, the next one finds no state of podinit's
// and takes the boot for one that has not happened.
func (w *worker) assignAddress() error {
	slot, addrs, err := w.allocate()
	if err != nil {
		return err
	}
	fresh := false
	err = w.changeBehind(func(st *ledger.State) {
		fresh = !w.durable
		st.Slot, st.Addresses = slot, addrs
		if fresh {
			st.Boot = ledger.BootPending
		}
	})
	if err != nil {
		return err
	}
	w.have.address = true
	w.have.pending = w.have.pending || fresh
	return nil
}

func (w *worker) allocate() (slot int, addrs []netip.Addr, err error) {
	if translate.HostPod(w.object()) {
		return 0, nil, nil
	}
	if slot, err = w.p.c.Slots.Allocate(w.uid); err != nil {
		return 0, nil, fmt.Errorf("slot: %w", err)
	}
	w.mu.Lock()
	brand := w.st.Brand
	w.mu.Unlock()
	for _, pool := range w.p.c.Addresses {
		if pool.Prefix().Addr().Is6() && brand == translate.BrandNative {
			continue // podinit gives such a zone IPv4 only
		}
		a, err := pool.Allocate(w.uid)
		if err != nil {
			return 0, nil, fmt.Errorf("address: %w", err)
		}
		addrs = append(addrs, a)
	}
	if len(addrs) == 0 {
		return 0, nil, errors.New("address: a native zone takes IPv4 only, and this node's pods have IPv6 addresses only")
	}
	return slot, addrs, nil
}

// makeStorage makes the pod's datasets.
func (w *worker) makeStorage(ctx context.Context) error {
	pod := w.object()
	dir, err := w.p.c.Storage.EnsurePod(ctx, w.uid, translate.EphemeralQuota(pod))
	if err != nil {
		return err
	}
	rooted, linked := w.ahead(ctx, dir), w.linkAhead(ctx)
	defer func() { w.have.root, w.have.link = rooted(), linked() }()
	d := translate.Datasets{ZonePath: dir, Containers: map[string]string{}, Volumes: map[string]string{}}
	w.mu.Lock()
	st := w.st.Clone()
	w.mu.Unlock()
	if !translate.HostPod(pod) {
		if d.Spares, err = w.p.c.Storage.EnsureSpares(ctx, st.Slot); err != nil {
			return err
		}
	}
	if err := w.clearRenewals(ctx, st.Places); err != nil {
		return err
	}
	for _, c := range st.Containers {
		if translate.Spare(pod, c.Name) > 0 {
			continue // its root comes when it is started
		}
		if d.Containers[c.Name], err = w.makeRoot(ctx, c); err != nil {
			return &fault{c.Name, translate.ReasonCreateError, w.imageGone(err, imageOf(c.Name))}
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.Image != nil {
			name, err := w.p.c.Storage.EnsureImageVolume(ctx, w.uid, v.Name, st.VolumeImages[v.Name].Dataset)
			if err != nil {
				return fmt.Errorf("volume %q: %w", v.Name, w.imageGone(err, volumeImage(v.Name)))
			}
			d.Volumes[v.Name] = name
			continue
		}
		if !translate.HasDataset(v) {
			continue
		}
		name, err := w.p.c.Storage.EnsureVolume(ctx, w.uid, v.Name, translate.VolumeQuota(v))
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		d.Volumes[v.Name] = name
	}
	w.datasets, w.have.storage = d, true
	return nil
}

func (w *worker) slot() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.st.Slot
}

func (w *worker) makeLink(ctx context.Context) error {
	if err := w.ensureLink(ctx); err != nil {
		return err
	}
	w.have.link = true
	return nil
}

func (w *worker) ensureLink(ctx context.Context) error {
	pod := w.object()
	if translate.HostPod(pod) {
		return nil // the host's
	}
	limit, err := translate.Bandwidth(pod)
	if err != nil {
		return err
	}
	return w.p.c.Links.EnsureVNIC(ctx, network.VNIC{Name: translate.LinkName(w.slot()), Bandwidth: limit})
}

// expose leads the pod's host ports to it.
func (w *worker) expose(ctx context.Context) error {
	if err := w.p.c.Ports.SetPorts(ctx, w.uid, w.hostPorts()); err != nil {
		return err
	}
	w.have.ports = true
	return nil
}

// hostPorts are the ports of the host that lead to the pod.
func (w *worker) hostPorts() []network.HostPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return translate.HostPorts(w.pod, w.st.Addresses, w.p.c.Node)
}

// bringUp performs the steps of zonecfg and zoneadm towards a running zone.
func (w *worker) bringUp(ctx context.Context, a action) error {
	switch a {
	case actConfigure:
		in, err := w.input(ctx)
		if err != nil {
			return err
		}
		d := w.datasets
		d.Shown = w.shown
		if err := w.p.c.Zones.Configure(ctx, translate.Zone(in, d)); err != nil {
			return err
		}
		w.p.survey.learn(w.zone, zones.Configured)
		if err := w.configured(translate.Resources(in.Pod)); err != nil {
			return err
		}
		w.have.configured = true
	case actInstall:
		if err := w.p.c.Zones.MarkInstalled(ctx, w.zone); err != nil {
			return err
		}
		w.p.survey.learn(w.zone, zones.Installed)
	case actBoot:
		if !w.have.pending {
			if err := w.change(func(st *ledger.State) { st.Boot = ledger.BootPending }); err != nil {
				return err
			}
			w.have.pending = true
		}
		if err := w.p.c.Zones.Boot(ctx, w.zone); err != nil {
			w.have.link = false // it may be what is missing
			return err
		}
		w.have = prepared{} // the next boot is prepared anew
		// The zone's number in the kernel, which the channel checks.
		return w.p.survey.refresh(ctx)
	}
	return nil
}

// start starts the decided attempt of a container on a fresh root.
func (w *worker) start(ctx context.Context, name string) error {
	in, err := w.input(ctx)
	if err != nil {
		return err
	}
	pod := in.Pod
	c := container(pod, name)
	if translate.NeedsFiles(c) {
		in.Files = volumeFiles{ctx, w.channel()}
	}
	if in.Node, err = w.p.withDomain(ctx, in.Node); err != nil {
		return err
	}
	pc, err := translate.Container(in, c)
	if err != nil {
		return configFault(name, err)
	}
	w.mu.Lock()
	pc.Attempt = w.st.Container(name).Attempt
	w.mu.Unlock()
	w.forgetAttempts(attempt{name, pc.Attempt})
	if err := w.freshRoot(ctx, in, pc); err != nil {
		return &fault{name, translate.ReasonCreateError, err}
	}
	if err := w.channel().Start(ctx, pc); err != nil {
		var pe *podinit.Error
		if errors.As(err, &pe) && pe.Reason == podinit.ReasonConfig {
			return &fault{name, translate.ReasonConfigError, errors.New(pe.Message)}
		}
		return &fault{name, translate.ReasonCreateError, err}
	}
	if w.autostart == nil {
		w.autostart = map[string]int{}
	}
	w.autostart[name] = pc.Attempt // until podinit reports it
	return nil
}

func configFault(container string, err error) error {
	var ce *translate.ConfigError
	if !errors.As(err, &ce) {
		return err
	}
	reason := translate.ReasonConfigError
	if errors.Is(err, translate.ErrNoCommand) {
		reason = translate.ReasonCreateError
	}
	if container == "" {
		container = ce.Container
	}
	return &fault{container, reason, err}
}

// channel reaches the podinit of the zone as it runs now.
func (w *worker) channel() Podinit { return w.p.c.Dial(w.p.survey.zone(w.zone)) }

// restart decides on a container's next attempt.
func (w *worker) restart(name string) error {
	return w.change(func(st *ledger.State) {
		if r := st.Container(name); r != nil && r.Phase == podinit.Exited {
			again(r)
		}
	})
}

// end decides that the pod's life is over, and how it ended.
func (w *worker) end() error {
	now := time.Now()
	pod := w.object()
	return w.change(func(st *ledger.State) {
		if st.End != nil {
			return
		}
		limit := pod.Spec.ActiveDeadlineSeconds
		if limit != nil && !now.Before(st.Accepted.Add(time.Duration(*limit)*time.Second)) {
			st.End = &ledger.End{
				Phase: corev1.PodFailed, Reason: translate.ReasonDeadline,
				Message: "Pod was active on the node longer than the specified deadline", At: now,
			}
			return
		}
		e := outcome(st, pod, now)
		st.End = &e
	})
}

// outcome judges a pod that has run: by its own containers, or by the init
// container that failed it. How its sidecars end does not matter.
func outcome(st *ledger.State, pod *corev1.Pod, now time.Time) ledger.End {
	end := ledger.End{Phase: corev1.PodSucceeded, At: now}
	for _, c := range translate.AllContainers(pod) {
		if r := st.Container(c.Name); r != nil && exitCode(r) != 0 && !sidecar(pod, c.Name) {
			end.Phase = corev1.PodFailed
		}
	}
	return end
}
