package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/hack/host"
	simzfs "reddwarf.io/reddwarf/hack/host/zfs"
	simzones "reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/network/ipam"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/mounts"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
)

// These tests run pods through the real domain packages on the strict model of
// an illumos host, with nothing faked but the processes in the zones.

// plainDirs are the contents of the model's file systems: plain directories
// where they are mounted, so that the agent can write files there.
type plainDirs struct {
	simzfs.Backend // what is not implemented panics
	mu             sync.Mutex
	mounted        map[uint64]string
}

func (*plainDirs) Create(context.Context, uint64, []uint64) error                     { return nil }
func (*plainDirs) Snapshot(context.Context, uint64, uint64, []uint64) error           { return nil }
func (*plainDirs) Clone(context.Context, uint64, uint64, []uint64) error              { return nil }
func (*plainDirs) Rollback(context.Context, uint64, uint64) error                     { return nil }
func (*plainDirs) SetReadOnly(context.Context, uint64, bool) error                    { return nil }
func (*plainDirs) SetQuota(context.Context, uint64, uint64, []uint64) error           { return nil }
func (*plainDirs) SetRefQuota(context.Context, uint64, uint64) error                  { return nil }
func (*plainDirs) Regroup(context.Context, uint64, []uint64, []uint64) error          { return nil }
func (*plainDirs) Usage(context.Context) (map[uint64]uint64, error)                   { return nil, nil }
func (*plainDirs) Capacity(context.Context) (uint64, error)                           { return 0, nil }
func (*plainDirs) Dir(id uint64) string                                               { return fmt.Sprintf("/.objects/%d", id) }
func (*plainDirs) Remount(context.Context, uint64, string, simzfs.MountOptions) error { return nil }
func (*plainDirs) RemoveDir(string)                                                   {}

func (d *plainDirs) Mount(_ context.Context, id uint64, dir string, _ simzfs.MountOptions, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !strings.HasPrefix(dir, os.TempDir()) {
		return nil // the pool's own file systems
	}
	d.mounted[id] = dir
	return os.MkdirAll(dir, 0o755)
}

func (*plainDirs) Unmount(context.Context, uint64, string, bool) error { return nil }

func (d *plainDirs) Destroy(_ context.Context, id uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir, ok := d.mounted[id]; ok {
		return os.RemoveAll(dir)
	}
	return nil
}

// podinits are the sandboxes: in each zone runs a fake podinit.
type podinits struct {
	simzones.Backend // what is not implemented panics
	host             *fakeHost
	mu               sync.Mutex
	roots            map[int]string
	running          map[int]*fakePodinit
}

func (b *podinits) Ready(_ context.Context, s simzones.Sandbox) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roots[s.ID] = s.Root
	return "", nil
}

func (b *podinits) Boot(_ context.Context, id int, _ []string, _ func(int)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := bootPodinit(b.host, &fakeZone{config: zones.Config{Path: filepath.Dir(b.roots[id])}}, id)
	b.running[id] = p
	return err
}

func (b *podinits) Halt(_ context.Context, id int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.running[id]; p != nil {
		p.end()
		delete(b.running, id)
	}
	return nil
}

// modelSession is the model as one agent sees it.
type modelSession struct {
	*host.Model
	ctx   context.Context
	fault func(command string) error
}

func (s modelSession) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, errKilled
	}
	if err := s.fault(cmd.String()); err != nil {
		return nil, err
	}
	out, err := s.Model.Run(context.WithoutCancel(ctx), cmd) // a killed agent does not kill the command
	if s.ctx.Err() != nil {
		return nil, errKilled
	}
	return out, err
}

// oneImage has one image, for which it makes the dataset.
type oneImage struct{ store *storage.Store }

func (o oneImage) Ensure(ctx context.Context, r oci.Request) (oci.Image, error) {
	has, err := o.store.HasImage(ctx, "web1")
	if err == nil && !has {
		err = o.store.MakeImage(ctx, "web1", "", func(context.Context, string) error { return nil })
	}
	return oci.Image{
		Ref: r.Ref, ID: "sha256:aa", Digest: "web@sha256:bb", Dataset: "web1", OS: "linux",
		Config: oci.ImageConfig{Entrypoint: []string{"/web"}},
	}, err
}

// modelWorld is a world on the model.
type modelWorld struct {
	*world
	model    *host.Model
	inits    *podinits
	root     string
	fault    func(command string) error // see failBy
	commands []string
}

// failBy makes fault decide about commands, also while the agent runs.
func (w *modelWorld) failBy(fault func(command string) error) {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	w.fault = fault
}

// killAt is world's, for commands of the model.
func (w *modelWorld) killAt(n int, after bool) {
	fault, _ := deadly(n, after, w.kill)
	w.failBy(fault)
}

func newModelWorld(t *testing.T) *modelWorld {
	fake := newFakeHost(t)
	w := &modelWorld{
		world: &world{t: t, host: fake, data: t.TempDir(), events: &fakeEvents{}, api: &fakeAPI{pods: map[string]*corev1.Pod{}}},
		inits: &podinits{host: fake, roots: map[int]string{}, running: map[int]*fakePodinit{}},
		root:  filepath.Join(t.TempDir(), "reddwarf"),
		fault: func(string) error { return nil },
	}
	w.model = host.NewModel(host.WithBackends(host.Backends{ZFS: &plainDirs{mounted: map[uint64]string{}}, Zones: w.inits}))
	if err := w.model.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.model.Close)
	w.startAgent()
	t.Cleanup(w.killAgent)
	synctest.Wait() // until it has looked at the host
	return w
}

func (w *modelWorld) startAgent() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := modelSession{w.model, ctx, func(c string) error {
		w.host.mu.Lock()
		w.commands = append(w.commands, c)
		fault := w.fault
		w.host.mu.Unlock()
		return fault(c)
	}}
	store := storage.New(s, storage.Config{Pool: "rpool", Root: w.root})
	shown := mounts.New(s, filepath.Join(w.data, "mounts"))
	net := network.New(s, network.Config{})
	w.pool, _ = ipam.New(netip.MustParsePrefix("10.244.1.0/24"))
	records, err := ledger.Open(filepath.Join(w.data, "pods"))
	features, _ := zones.DistroFeatures("omnios")
	if err := errors.Join(err, store.Setup(ctx), shown.Setup(), net.Setup(ctx, network.Plan{Gateways: []netip.Prefix{w.pool.Gateway()}})); err != nil {
		w.t.Fatal(err)
	}
	w.p, err = New(Config{
		Node: testNode(), Ledger: records, Zones: zones.New(s, features, zones.Scripts(filepath.Join(w.data, "zonecfg"))),
		Dial: func(z zones.Zone) Podinit {
			w.inits.mu.Lock()
			defer w.inits.mu.Unlock()
			return fakeChannel{session{w.host, ctx}, w.inits.running[z.ID]}
		},
		Storage: store, Mounts: shown, Images: oneImage{store}, Links: net, Ports: net.NAT(), Addresses: []Addresses{w.pool}, Slots: ipam.NewSlots(100),
		Cluster: &fakeCluster{}, Pods: w.api, Lister: apiLister{w.api}, Events: w.events, Log: testLog{w.t},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.kill, w.done = cancel, make(chan struct{})
	p, done := w.p, w.done
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
}

// ran returns the commands since the last call.
func (w *modelWorld) ran() []string {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	c := w.commands
	w.commands = nil
	return c
}

func (w *modelWorld) show(name string, args ...string) string {
	w.t.Helper()
	out, err := w.model.Run(context.Background(), command.New(name, args...))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out)
}

// mustBeRecorded checks that the host has nothing of a pod without a record. Of
// an image's datasets none has the pod's name.
func (w *modelWorld) mustBeRecorded() {
	w.t.Helper()
	has := w.show("zoneadm", "list", "-c") + w.show("dladm", "show-vnic") + w.show("zfs", "list", "-H", "-o", "name")
	w.checkRecord(strings.Contains(has, testUID) || strings.Contains(has, "rdw1"))
}

func (w *modelWorld) mustBeGone() {
	w.t.Helper()
	w.world.mustBeGone()
	for _, text := range []string{w.show("zoneadm", "list", "-c"), w.show("dladm", "show-vnic"), w.show("zfs", "list", "-H", "-o", "name")} {
		if strings.Contains(text, testUID) || strings.Contains(text, "rdw1") {
			w.t.Errorf("left on the host:\n%s", text)
		}
	}
}

func volumePod() *corev1.Pod {
	return testPod(func(p *corev1.Pod) {
		limit := resource.MustParse("1Gi")
		p.Spec.Volumes = append(p.Spec.Volumes,
			corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			corev1.Volume{Name: "limited", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}},
			corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				Medium: corev1.StorageMediumMemory, SizeLimit: &limit}}})
	})
}

func TestPodOnTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		w.ran()
		pod := w.create(volumePod())
		settle(time.Second)
		w.mustRun()
		t.Logf("created by:\n%s", strings.Join(w.ran(), "\n"))
		w.delete(pod, 30)
		settle(10 * time.Second)
		w.mustBeGone()
		t.Logf("removed by:\n%s", strings.Join(w.ran(), "\n"))
	})
}

// TestAgentKilledAtEveryModelCommand is TestAgentKilledAtEveryCommand with the
// commands that really are run.
func TestAgentKilledAtEveryModelCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a pod a hundred times")
	}
	var creating, whole int
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		w.ran()
		pod := w.create(volumePod())
		settle(time.Second)
		creating = len(w.ran())
		w.delete(pod, 30)
		settle(10 * time.Second)
		whole = creating + len(w.ran())
	})
	for i := range whole {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", i, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newModelWorld(t)
					w.killAt(i, after)
					pod := w.create(volumePod())
					settle(time.Second)
					if i < creating {
						w.killAgent()
						w.mustBeRecorded()
						w.failBy(func(string) error { return nil })
						w.startAgent()
						w.relist()
						settle(30 * time.Second)
						w.mustRun()
					}
					w.delete(pod, 30)
					settle(5 * time.Second)
					if i >= creating {
						w.killAgent()
						w.failBy(func(string) error { return nil })
						w.startAgent()
						settle(time.Minute)
					}
					settle(30 * time.Second)
					w.mustBeGone()
				})
			})
		}
	}
}

func TestHostRebootOnTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		w.create(volumePod())
		settle(time.Second)
		w.killAgent()
		if err := w.model.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.startAgent()
		settle(30 * time.Second)
		w.mustRun()
		if s := w.status(); s.ContainerStatuses[0].RestartCount != 1 || s.PodIP != "10.244.1.2" {
			t.Errorf("restarts %d, address %s", s.ContainerStatuses[0].RestartCount, s.PodIP)
		}
	})
}
