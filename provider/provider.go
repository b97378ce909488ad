// Package provider runs the pods of a node: it is virtual-kubelet's
// PodLifecycleHandler over zones, storage and network.
//
// Every pod has one worker, keyed by the pod's UID. A worker looks at the
// record (package ledger), at its zone and at podinit, decides on one step
// (next, which is pure), performs it, and looks again. No step relies on an
// earlier one having happened in this process, so an agent that is killed
// between any two host commands goes on where it was.
//
// The surprising rule: virtual-kubelet neither writes a pod's status nor
// removes its object. Both are done here, by UID and for as long as it takes;
// see PodsGetter and publisher.
package provider

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/mounts"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Zones is what workers need of the host's zones.
type Zones interface {
	List(ctx context.Context) ([]zones.Zone, error)
	Configure(ctx context.Context, c zones.Config) error
	Attrs(ctx context.Context, name string) (map[string]string, error)
	MarkInstalled(ctx context.Context, name string) error
	MarkConfigured(ctx context.Context, name string) error
	Boot(ctx context.Context, name string) error
	Halt(ctx context.Context, name string) error
	Delete(ctx context.Context, name string) error
	SetLimits(ctx context.Context, name string, l zones.Limits) error
}

// Podinit is the channel into one zone.
type Podinit interface {
	Watch(ctx context.Context, report func(podinit.State)) error
	Start(ctx context.Context, c podinit.Container) error
	Signal(ctx context.Context, container, signal string) error
	Kill(ctx context.Context, container string) error
	Usage(ctx context.Context) ([]podinit.ContainerUsage, error)
	Exec(ctx context.Context, r podinit.ExecRequest, s podinit.Streams) (podinit.ExitStatus, error)
	Attach(ctx context.Context, container string, s podinit.Streams) error
	Forward(ctx context.Context, port uint16) (io.ReadWriteCloser, error)
	Read(ctx context.Context, volume, path string) ([]byte, error)
}

// Storage is what workers need of the pods' datasets.
type Storage interface {
	EnsurePod(ctx context.Context, uid string, quota int64) (zonepath string, err error)
	EnsureContainer(ctx context.Context, uid, container, image string) (dataset string, err error)
	ResetContainer(ctx context.Context, uid, container string) error
	EnsureSpares(ctx context.Context, slot int) (dir string, err error)
	EnsureSpare(ctx context.Context, uid, container, image string, slot, n int) error
	RemoveContainer(ctx context.Context, uid, container string) error
	EnsureRenewal(ctx context.Context, uid, container, image string, slot, n int) error
	ResetRenewal(ctx context.Context, uid, container string, n int) error
	RemoveRenewals(ctx context.Context, uid string) error
	EnsureVolume(ctx context.Context, uid, volume string, size int64) (dataset string, err error)
	EnsureImageVolume(ctx context.Context, uid, volume, image string) (dataset string, err error)
	ReclaimPod(ctx context.Context, uid string, keep ...string) error
	RemovePod(ctx context.Context, uid string) error
	Pods(ctx context.Context) ([]storage.Pod, error)
	PodDir(uid string) string
	Usage(ctx context.Context) (map[string]storage.PodUsage, error)
	Capacity(ctx context.Context) (storage.Capacity, error)
	Freeing(ctx context.Context) (int64, error)
	Images(ctx context.Context) ([]storage.ImageDataset, error)
}

// Mounts shows pods what is not in their own datasets.
type Mounts interface {
	ShowPath(ctx context.Context, uid, name string, p mounts.Path) (mounts.Shown, error)
	ShowExport(ctx context.Context, uid, name string, e mounts.Export) (mounts.Shown, error)
	Hide(ctx context.Context, uid string) error
	Owners() ([]string, error)
	ReleaseExports(ctx context.Context) error
}

// Images brings images to the host.
type Images interface {
	Ensure(ctx context.Context, r oci.Request) (oci.Image, error)
}

// Links makes the pods' data links.
type Links interface {
	EnsureVNIC(ctx context.Context, v network.VNIC) error
	RemoveVNIC(ctx context.Context, name string) error
	VNICs(ctx context.Context) ([]network.VNIC, error)
}

// Ports leads ports of the host to pods. An owner has what it was given last.
type Ports interface {
	// ClaimPorts says what an owner was given by an earlier agent.
	ClaimPorts(owner string, list []network.HostPort)
	SetPorts(ctx context.Context, owner string, list []network.HostPort) error
}

// Addresses gives one address to each owner.
type Addresses interface {
	Prefix() netip.Prefix
	Gateway() netip.Prefix
	Claim(owner string, addr netip.Addr) error
	Allocate(owner string) (netip.Addr, error)
	Release(owner string)
}

// Slots gives one number to each owner.
type Slots interface {
	Claim(owner string, slot int) error
	Allocate(owner string) (int, error)
	Release(owner string)
	Owners() map[string]int
}

// Cluster is what pods refer to. An object that does not exist is an API
// NotFound error.
type Cluster interface {
	// Register announces that a pod's objects will be read until Unregister.
	Register(pod *corev1.Pod)
	Unregister(uid types.UID)

	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Services(namespace string) ([]*corev1.Service, error)

	// A node may get, and not watch, what its pods claim.
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error)

	// Token returns a token bound to the pod and when to replace it.
	Token(ctx context.Context, pod *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error)
}

// PodLister finds pods among those that the API server was last seen to have
// for this node. A pod that is not there is an API NotFound error.
type PodLister interface {
	Pod(namespace, name string) (*corev1.Pod, error)
	Has(uid string) bool
	Synced() bool
}

// Config is what a Provider is made of. All interfaces are required.
type Config struct {
	Node      translate.Node
	Ledger    *ledger.Store
	Zones     Zones
	Host      Host
	Dial      func(zone zones.Zone) Podinit
	Storage   Storage
	Mounts    Mounts
	Images    Images
	Links     Links
	Ports     Ports
	Addresses []Addresses // one for each address family
	Slots     Slots
	Cluster   Cluster
	Pods      corev1client.PodsGetter
	Lister    PodLister
	Events    record.EventRecorder

	// NodeLabels returns the node's labels in the API server, nil while they
	// are not known. Pods are admitted by them. It may be nil.
	NodeLabels func() map[string]string

	// ClusterDomain finds out what Node.ClusterDomain leaves empty. It is asked
	// again until it knows. It may be nil.
	ClusterDomain func(ctx context.Context) (string, error)

	// Pressures returns which pressure conditions the node has. It may be nil.
	Pressures func() []corev1.NodeConditionType

	// RelieveSpace removes what takes space and nobody needs, images above all,
	// before a pod is evicted for the sake of it. It may be nil.
	RelieveSpace func(ctx context.Context) error

	Log Logger

	// LogLinks is where each pod gets a link to its logs; empty for none.
	// Log shippers look into /var/log/pods.
	LogLinks string

	// SurveyInterval is how often zones are listed unasked; 0 means 20 s.
	SurveyInterval time.Duration

	// OrphanAge is how old a zone or dataset of ours must be before it is
	// removed because no pod is known for it; 0 means 10 min.
	OrphanAge time.Duration

	// Boots, Halts, Commands and Pulls bound how many of these run at once;
	// 0 means a default.
	Boots, Halts, Commands, Pulls int
}

// Logger takes what an operator should read. The agent's logrus entry is one.
type Logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Provider runs the pods of this node.
type Provider struct {
	c       Config
	survey  *survey
	gates   gates
	status  *publisher
	sampler sampler

	admission sync.Mutex // held while it is decided whether a pod is let in
	shortages chan translate.Shortage

	mu      sync.Mutex
	workers map[string]*worker // by UID
	corrupt map[string]bool    // UIDs whose record cannot be read: hands off
	start   func(*worker)      // nil until Run; starts a worker's goroutine
}

// New returns a Provider. It reads the records of an earlier agent, so that
// all methods answer for its pods from the start; nothing is done for them
// before Run.
func New(c Config) (*Provider, error) {
	if c.SurveyInterval <= 0 {
		c.SurveyInterval = 20 * time.Second
	}
	if c.OrphanAge <= 0 {
		c.OrphanAge = 10 * time.Minute
	}
	p := &Provider{c: c, shortages: make(chan translate.Shortage), workers: map[string]*worker{}, corrupt: map[string]bool{}, gates: newGates(c)}
	p.survey = newSurvey(c.Zones.List, c.SurveyInterval, p.zoneChanged)
	p.status = newPublisher(p)
	p.sampler.p = p
	if err := p.load(); err != nil {
		return nil, err
	}
	return p, nil
}

// load makes a worker of every record and claims what it holds.
func (p *Provider) load() error {
	records, corrupt, err := p.c.Ledger.Load()
	if err != nil {
		return err
	}
	for _, c := range corrupt {
		p.corrupt[c.UID] = true
		p.c.Log.Errorf("the record of pod %s cannot be read and its zone is left alone: %v", c.UID, c.Err)
	}
	for _, r := range records {
		w := newWorker(p, r.Pod, r.State)
		w.durable = true
		w.refreshAt = time.Now() // when the former agent would have is not known
		if err := w.claim(); err != nil {
			p.c.Log.Errorf("pod %s/%s: what its record claims is not free: %v", r.Pod.Namespace, r.Pod.Name, err)
		}
		p.workers[w.uid] = w
	}
	return nil
}

// Run runs the pods until ctx ends, and returns when everything that it
// started has ended. Zones go on without it.
func (p *Provider) Run(ctx context.Context) error {
	defer p.status.queue.ShutDown()
	// No worker may decide before the host was looked at: it would take every
	// zone for absent.
	for p.survey.once(ctx); p.survey.failure() != nil; p.survey.once(ctx) {
		p.c.Log.Errorf("zones cannot be listed: %v", p.survey.failure())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	p.reserveOrphans(ctx)
	var group sync.WaitGroup
	group.Go(func() { p.survey.run(ctx) })
	group.Go(func() { p.status.run(ctx) })
	group.Go(func() { p.collectOrphans(ctx) })
	group.Go(func() { p.watchStorage(ctx) })
	group.Go(func() { p.watchPressure(ctx) })
	p.mu.Lock()
	p.start = func(w *worker) { group.Go(func() { w.run(ctx) }) }
	for _, w := range p.workers {
		p.start(w)
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.start = nil // a pod that comes now is in the ledger and waits for the next agent
	p.mu.Unlock()
	group.Wait()
	return nil
}

func (s *survey) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (p *Provider) zoneChanged(name string) {
	if len(name) <= len(translate.ZonePrefix) {
		return
	}
	if w := p.worker(name[len(translate.ZonePrefix):]); w != nil {
		w.poke()
	}
}

func (p *Provider) worker(uid string) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers[uid]
}

func (p *Provider) all() []*worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*worker, 0, len(p.workers))
	for _, w := range p.workers {
		out = append(out, w)
	}
	return out
}

// named returns the worker of the pod that has this name now. A pod that is
// going may share it with its successor; the one that is not going wins.
func (p *Provider) named(namespace, name string) *worker {
	var found *worker
	for _, w := range p.all() {
		if w.namespace != namespace || w.name != name {
			continue
		}
		if found == nil || !w.deleting() {
			found = w
		}
	}
	return found
}

// forget drops a worker whose pod has left nothing behind.
func (p *Provider) forget(w *worker) {
	defer p.roomMade()
	p.c.Cluster.Unregister(types.UID(w.uid))
	p.mu.Lock()
	ours := p.workers[w.uid] == w
	if ours {
		delete(p.workers, w.uid)
	}
	p.mu.Unlock()
	if ours {
		p.status.forget(w.uid)
	}
}

// errNoPod is what virtual-kubelet understands, bare: it does not unwrap.
func errNoPod(namespace, name string) error {
	return errdefs.NotFoundf("pod %s/%s is not on this node", namespace, name)
}
