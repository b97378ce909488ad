package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/network/ipam"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/provider/images"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/node"
	"reddwarf.io/reddwarf/provider/objects"
	"reddwarf.io/reddwarf/provider/peers"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/mounts"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/globalzone"
	"reddwarf.io/reddwarf/zones/hostpods"
	"reddwarf.io/reddwarf/zones/podinit"
)

// kubernetesVersion is the release whose kubelet the agent behaves as.
const kubernetesVersion = "v1.37.2"

// agent is the daemon. run builds each part and passes it on.
type agent struct {
	config
	log *logrus.Entry

	host   command.Host
	rest   *rest.Config
	api    clients
	facts  globalzone.Facts
	store  *storage.Store
	zones  *zones.Host
	links  *network.Host
	images *oci.Images
	events record.EventRecorder

	collector *images.Collector // there before the provider runs
	evicting  atomic.Pointer[provider.Provider]
}

func (a *agent) run(ctx context.Context) error {
	unlock, err := lockHost(a.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.lookAround(ctx); err != nil {
		return err
	}
	nodes, err := a.newNode()
	if err != nil {
		return err
	}
	broadcaster := newBroadcaster(ctx, a.MaxPods)
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: a.api.events.CoreV1().Events("")})
	a.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: a.NodeName})

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { nodes.Run(ctx); return nil })
	controller, err := a.nodeController(ctx, nodes)
	if err != nil {
		return err
	}
	group.Go(func() error { return a.keepIdentity(ctx) })
	group.Go(func() error { return a.keepNode(ctx, controller) })
	group.Go(func() error { return a.runPods(ctx, group, nodes) })
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // told to stop
	}
	return err
}

// lookAround reads what the host is and connects to the cluster; what is
// missing on the host is said here, before the node is registered.
func (a *agent) lookAround(ctx context.Context) error {
	a.host = command.Local{}
	if a.debug() {
		a.host = loggedHost{a.host, a.log}
	}
	features, err := zones.Probe(ctx, a.host)
	if err != nil {
		return err
	}
	if a.facts, err = globalzone.Read(ctx, a.host); err != nil {
		return err
	}
	if a.rest, a.api, err = newClients(a.Kubeconfig, a.wrapTransport()); err != nil {
		return err
	}
	a.zones = zones.New(a.host, features)
	a.links = network.New(a.host, network.Config{Etherstub: a.Etherstub, Record: a.networkRecord()})
	a.store = storage.New(a.host, storage.Config{Pool: a.Pool})
	if err := a.store.Setup(ctx); err != nil {
		return err
	}
	mirrors, err := a.mirrors()
	if err != nil {
		return err
	}
	a.images = oci.New(a.store, oci.Config{InsecureRegistries: a.InsecureRegistries, Mirrors: mirrors})
	a.log.WithFields(logrus.Fields{
		"host": a.facts.PrettyName, "kernel": a.facts.Kernel, "cpus": a.facts.CPUs, "memory": a.facts.MemoryBytes >> 20,
	}).Info("starting")
	return nil
}

func (a *agent) newNode() (*node.Provider, error) {
	reserved, err := resource.ParseQuantity(a.ReservedMemory)
	if err != nil {
		return nil, fmt.Errorf("--reserved-memory: %w", err)
	}
	return node.NewProvider(node.Config{
		Name:        a.NodeName,
		Addresses:   a.addresses(),
		Port:        a.port(),
		Brands:      a.Brands,
		Labels:      a.Labels,
		Annotations: peers.Annotations(a.addresses()),
		MaxPods:     a.MaxPods,
		Reserved:    node.Capacity{CPUs: a.ReservedCPUs, MemoryBytes: reserved.Value()},
		Version:     kubernetesVersion + "+reddwarf." + version,
		OSImage:     a.facts.PrettyName,
		Kernel:      a.facts.Kernel,
		Images:      a.nodeImages,
		Short:       a.shortOf,
		Source: node.SourceFunc(func(ctx context.Context) (node.Capacity, error) {
			cpus, err := globalzone.Processors(ctx, a.host)
			if err != nil {
				return node.Capacity{}, err
			}
			space, err := a.store.Capacity(ctx)
			if err != nil {
				return node.Capacity{}, err
			}
			used, err := a.Usage(ctx)
			if err != nil {
				return node.Capacity{}, err
			}
			return node.Capacity{
				CPUs: cpus, MemoryBytes: a.facts.MemoryBytes, EphemeralStorage: space.Total,
				Left: node.Left{
					MemoryBytes: used.Available, TotalMemoryBytes: used.Memory,
					StorageBytes: space.Available, TotalStorageBytes: space.Total,
					Processes: used.MaxProcs - used.Processes, TotalProcesses: used.MaxProcs,
				},
			}, nil
		}),
	})
}

// nodeController carries the Node to the API server and renews the lease.
func (a *agent) nodeController(ctx context.Context, nodes *node.Provider) (*vknode.NodeController, error) {
	object := nodes.Node(ctx)
	api := a.api.api.CoreV1().Nodes()
	return vknode.NewNodeController(nodes, object, api,
		vknode.WithNodeEnableLeaseV1(a.api.lease.CoordinationV1().Leases(corev1.NamespaceNodeLease), vknode.DefaultLeaseDuration),
		vknode.WithNodeStatusUpdateErrorHandler(func(ctx context.Context, err error) error {
			if !apierrors.IsNotFound(err) {
				return err
			}
			a.log.Warn("the node was deleted from the API; registering it again")
			_, err = api.Create(ctx, nodes.Node(ctx), metav1.CreateOptions{})
			return err
		}))
}

// keepNode registers the node, however long the API server takes to answer.
func (a *agent) keepNode(ctx context.Context, controller *vknode.NodeController) error {
	for {
		_, err := a.api.api.CoreV1().Nodes().Get(ctx, a.NodeName, metav1.GetOptions{})
		if err == nil || apierrors.IsNotFound(err) {
			return controller.Run(ctx)
		}
		a.log.WithError(err).Warn("the API server cannot be reached; trying again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// runPods starts everything that needs the node's pod addresses.
func (a *agent) runPods(ctx context.Context, group *errgroup.Group, nodes *node.Provider) error {
	prefixes, err := a.podCIDRs(ctx)
	if err != nil {
		return err
	}
	host, pools, err := a.setupNetwork(ctx, prefixes)
	if err != nil {
		return err
	}
	var p *provider.Provider
	// Nothing changes before the watches run, and then p is there.
	w := newWatches(a.api.api, a.NodeName, func(k objects.Key) { p.ObjectChanged(k) })
	p, err = a.newProvider(ctx, w, nodes, host, pools)
	if err != nil {
		return err
	}
	if err := w.onPods(p.PodSeen); err != nil {
		return err
	}
	pods, err := vknode.NewPodController(vknode.PodControllerConfig{
		PodClient:                 p.PodsGetter(),
		PodInformer:               w.pods,
		EventRecorder:             failuresOnly{a.events},
		Provider:                  p,
		ConfigMapInformer:         w.none.Core().V1().ConfigMaps(),
		SecretInformer:            w.none.Core().V1().Secrets(),
		ServiceInformer:           w.none.Core().V1().Services(),
		SkipDownwardAPIResolution: true,

		SyncPodsFromKubernetesRateLimiter: podLimiter(),
	})
	if err != nil {
		return err
	}
	serve, err := a.kubeletAPI(ctx, p)
	if err != nil {
		return err
	}
	a.collector = a.imageCollector(p.ImageUsers)
	a.evicting.Store(p)
	local, err := a.serveLocal(ctx, a.collector)
	if err != nil {
		return err
	}
	group.Go(func() error { return w.run(ctx) })
	group.Go(func() error { return p.Run(ctx) })
	group.Go(func() error { a.collector.Run(ctx); return nil })
	group.Go(local)
	group.Go(func() error { return host.run(ctx) }) // it knows of host ports since the provider has read its records
	if host.peers != nil {
		group.Go(func() error { return host.peers.run(ctx) })
	}
	group.Go(func() error { return pods.Run(ctx, 10) })
	group.Go(func() error { return serve(ctx) })
	return nil
}

// podCIDRs waits until the cluster has given the node its pod addresses,
// unless the operator did.
func (a *agent) podCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	if len(a.PodCIDR) > 0 {
		return parsed(a.PodCIDR), nil
	}
	for said := false; ; {
		n, err := a.api.api.CoreV1().Nodes().Get(ctx, a.NodeName, metav1.GetOptions{})
		if err == nil && len(n.Spec.PodCIDRs) > 0 {
			var out []netip.Prefix
			for _, s := range n.Spec.PodCIDRs {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					return nil, fmt.Errorf("node.spec.podCIDRs %q: %w", s, err)
				}
				out = append(out, p)
			}
			a.log.WithField("podCIDRs", n.Spec.PodCIDRs).Info("pod addresses")
			return out, nil
		}
		if err == nil && !said {
			a.log.Info("waiting for node.spec.podCIDR; set --pod-cidr if the cluster assigns none")
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// setupNetwork makes the host's part of the network, so that pods can run, and
// returns what keeps it.
func (a *agent) setupNetwork(ctx context.Context, prefixes []netip.Prefix) (*hostNetwork, []provider.Addresses, error) {
	var pools []provider.Addresses
	n := &hostNetwork{
		links: a.links, nat: a.links.NAT(), filter: ipnat.NewLoader(a.host),
		self:    peers.Self{Name: a.NodeName, Pods: prefixes, Cluster: parsed(a.ClusterCIDR)},
		nodeIPs: a.addresses(), masquerade: a.Masquerade,
		wake: make(chan struct{}, 1), events: a.events, log: a.log,
	}
	for _, p := range prefixes {
		pool, err := ipam.New(p)
		if err != nil {
			return nil, nil, err
		}
		pools, n.gateways = append(pools, pool), append(n.gateways, pool.Gateway())
	}
	if a.NodeRoutes {
		n.peers = newPeerWatch(a.api.api, n.poke)
	}
	return n, pools, n.start(ctx)
}

func (a *agent) newProvider(ctx context.Context, w *watches, nodes *node.Provider, host *hostNetwork, pools []provider.Addresses) (*provider.Provider, error) {
	records, err := ledger.Open(filepath.Join(a.DataDir, "pods"))
	if err != nil {
		return nil, err
	}
	resolver, err := hostResolver()
	if err != nil {
		return nil, err
	}
	transport, err := zones.ParseTransport(a.Transport)
	if err != nil {
		return nil, err
	}
	var dns []netip.Addr
	for _, s := range a.ClusterDNS {
		dns = append(dns, netip.MustParseAddr(s))
	}
	hostPaths, err := a.hostPaths()
	if err != nil {
		return nil, err
	}
	shown := mounts.New(a.host, mounts.DefaultDir)
	if err := shown.Setup(); err != nil {
		return nil, err
	}
	return provider.New(provider.Config{
		Node: translate.Node{
			Name:            a.NodeName,
			HostIPs:         a.addresses(),
			ClusterDNS:      dns,
			ClusterDomain:   a.ClusterDomain,
			KubeletPort:     a.port(),
			Resolver:        resolver,
			Brands:          a.Brands,
			AllowPrivileged: a.AllowPrivileged,
			Podinit:         map[string]string{translate.BrandLX: a.PodinitLX, translate.BrandNative: a.PodinitNative},
			HostPaths:       hostPaths,
			Capacity:        nodes.Node(ctx).Status.Allocatable,

			HostNamespaces: a.HostPodNamespaces,
			HostPath:       os.Getenv("PATH"),
			APIServer:      apiServer(a.rest),
		},
		Ledger: records,
		Zones:  provider.WithHostPods(a.zones, a.hostPods()),
		Host:   a,
		Dial: func(z zones.Zone) provider.Podinit {
			transport := transport
			if z.Brand == hostpods.Brand {
				transport = zones.Socket // there is no zone to log in to
			}
			client := podinit.NewClient(func(ctx context.Context) (net.Conn, error) { return a.zones.Dial(ctx, z, transport) })
			if a.debug() {
				return loggedPodinit{client, a.log}
			}
			return client
		},
		Storage:    a.store,
		Mounts:     shown,
		Images:     a.images,
		Links:      mendingLinks{a.links, host},
		Ports:      host.nat,
		Addresses:  pools,
		Slots:      ipam.NewSlots(1 << 16),
		Cluster:    provider.NewCluster(w.objects, w.tokens, w.services.Core().V1().Services().Lister(), w.services.Core().V1().Services().Informer().HasSynced),
		Pods:       a.api.api.CoreV1(),
		Lister:     provider.NewPodLister(w.pods.Lister(), w.pods.Informer().HasSynced),
		NodeLabels: func() map[string]string { return w.labels(a.NodeName) },

		ClusterDomain: (&domainSource{maps: a.api.api.CoreV1(), log: a.log}).get,
		Pressures:     nodes.Pressures,
		RelieveSpace:  func(ctx context.Context) error { return a.collector.Relieve(ctx) },
		Events:        a.events,
		Log:           a.log,
		LogLinks:      a.LogDir,
	})
}

func (a *agent) hostPods() *hostpods.Host {
	return hostpods.New(a.host, a.store.PodsDir(), translate.ZonePrefix, a.PodinitNative)
}

// apiServer is HOST:PORT of the API server, or empty.
func apiServer(c *rest.Config) string {
	u, _, err := rest.DefaultServerUrlFor(c)
	if err != nil {
		return ""
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}

// Usage implements provider.Host.
func (a *agent) Usage(ctx context.Context) (globalzone.Usage, error) {
	return globalzone.ReadUsage(ctx, a.host, translate.LinkPrefix+"*")
}

// Refused implements provider.Host.
func (a *agent) Refused(ctx context.Context, zone int) (uint64, error) {
	return globalzone.ReadRefused(ctx, a.host, zone)
}

// port is where the API server finds the kubelet API.
func (a *agent) port() int32 {
	return int32(netip.MustParseAddrPort("[::]" + a.Listen[strings.LastIndex(a.Listen, ":"):]).Port()) // validate has seen it
}

func (a *agent) addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range a.NodeIP {
		out = append(out, netip.MustParseAddr(s)) // validate has seen it
	}
	return out
}

// hostResolver reads the resolver configuration that pods with dnsPolicy
// Default get. A host without one is no error.
func hostResolver() (translate.Resolver, error) {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return translate.Resolver{}, err
	}
	return translate.ParseResolver(string(text)), nil
}
