package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reddwarf.io/reddwarf/network"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/mounts"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// fakeHost is a host that keeps state and refuses what a host would refuse. It
// outlives the agents that a test runs on it.
type fakeHost struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	zones    map[string]*fakeZone
	datasets map[string]string // name → image it was cloned from, "" for others
	resets   map[string]int
	vnics    map[string]bool
	ports    map[string][]network.HostPort
	images   map[string]oci.Image // by reference, what the registry has
	mounts   map[string]string    // UID/volume → what is shown there
	nextID   int
	commands []string

	used fakeUse

	// program says what an attempt of a container does.
	program func(container string, attempt int) behaviour

	// unready are the containers that podinit cannot make ready, and why.
	unready map[string]string

	// files are those that volumes have in the zone, by VOLUME/PATH.
	files map[string]string

	// check says how a probe's program ends; it is called without the lock.
	check checkFunc

	// fault may fail a command; it is called without the lock.
	fault func(command string) error
}

// behaviour is what one attempt does: run for a time (0: until stopped), then
// exit with a code.
type behaviour struct {
	runs      time.Duration
	code      int
	stubborn  bool // ignores everything but SIGKILL
	stopAfter time.Duration
}

type fakeZone struct {
	state  zones.State
	id     int
	config zones.Config
	limits zones.Limits   // of the running zone
	init   *fakePodinit   // nil unless running
	spares map[int]string // the datasets that are mounted in its places
}

func newFakeHost(t *testing.T) *fakeHost {
	return &fakeHost{
		t: t, dir: t.TempDir(), zones: map[string]*fakeZone{}, datasets: map[string]string{},
		resets: map[string]int{}, mounts: map[string]string{}, vnics: map[string]bool{}, ports: map[string][]network.HostPort{}, images: map[string]oci.Image{
			"web:1": {
				Ref: "web:1", ID: "sha256:aa", Digest: "registry.example/web@sha256:bb", Dataset: "web1", OS: "linux", Arch: "amd64",
				Config: oci.ImageConfig{Entrypoint: []string{"/web"}, Env: []string{"PATH=/bin"}},
			},
		},
		program: func(string, int) behaviour { return behaviour{} },
		fault:   func(string) error { return nil },
	}
}

// session is the host as one agent sees it. A session that ended refuses
// everything: the agent was killed.
type session struct {
	*fakeHost
	ctx context.Context
}

var errKilled = errors.New("the agent was killed")

// do runs one command under the lock, unless the agent is dead or the test
// wants it to fail.
func (s session) do(ctx context.Context, command string, f func() error) error {
	if s.ctx.Err() != nil {
		return errKilled
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if err := fault(command); err != nil {
		return err
	}
	s.mu.Lock()
	s.commands = append(s.commands, command)
	err := f()
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		return errKilled // by the fault, after the command
	}
	return err
}

func (s session) List(ctx context.Context) ([]zones.Zone, error) {
	if s.ctx.Err() != nil {
		return nil, errKilled
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []zones.Zone
	for name, z := range s.zones {
		all = append(all, zones.Zone{ID: z.id, Name: name, State: z.state, Path: z.config.Path, Brand: z.config.Brand})
	}
	return all, nil
}

func (s session) zone(name string, allowed ...zones.State) (*fakeZone, error) {
	z, ok := s.zones[name]
	if !ok {
		return nil, &zones.OpError{Zone: name, Err: zones.ErrNotFound}
	}
	if !slices.Contains(allowed, z.state) {
		return nil, &zones.OpError{Zone: name, Err: fmt.Errorf("%w: %s", zones.ErrState, z.state)}
	}
	return z, nil
}

func (s session) Configure(ctx context.Context, c zones.Config) error {
	return s.do(ctx, "configure", func() error {
		f, _ := zones.DistroFeatures("omnios")
		if _, err := c.Script(f); err != nil {
			return err
		}
		if z, ok := s.zones[c.Name]; ok && z.state != zones.Configured {
			return fmt.Errorf("configure %s: %w", c.Name, zones.ErrState)
		}
		s.zones[c.Name] = &fakeZone{state: zones.Configured, id: -1, config: c, spares: map[int]string{}}
		return nil
	})
}

func (s session) Attrs(ctx context.Context, name string) (map[string]string, error) {
	attrs := map[string]string{}
	s.mu.Lock()
	defer s.mu.Unlock()
	z, ok := s.zones[name]
	if !ok {
		return nil, zones.ErrNotFound
	}
	for _, a := range z.config.Attrs {
		attrs[a.Name] = a.Value
	}
	return attrs, nil
}

func (s session) MarkInstalled(ctx context.Context, name string) error {
	return s.do(ctx, "install", func() error {
		z, err := s.zone(name, zones.Configured, zones.Installed, zones.Incomplete)
		if err == nil {
			z.state = zones.Installed
		}
		return err
	})
}

func (s session) MarkConfigured(ctx context.Context, name string) error {
	return s.do(ctx, "uninstall", func() error {
		z, err := s.zone(name, zones.Configured, zones.Installed, zones.Incomplete)
		if err == nil {
			z.state = zones.Configured
		}
		return err
	})
}

func (s session) Boot(ctx context.Context, name string) error {
	return s.do(ctx, "boot", func() error {
		z, err := s.zone(name, zones.Installed, zones.Ready)
		if err != nil {
			return err
		}
		for _, m := range z.config.Mounts {
			if m.Type == "zfs" {
				if _, ok := s.datasets[m.Source]; !ok {
					return fmt.Errorf("boot %s: no dataset %s", name, m.Source)
				}
			}
			if target := filepath.Join(z.config.Path, "root", m.Target); !exists(target) {
				return fmt.Errorf("boot %s: no mount point %s", name, target)
			}
		}
		if link := z.config.Links[0].Physical; !s.vnics[link] {
			return fmt.Errorf("boot %s: no link %s", name, link)
		}
		s.nextID++
		if z.init, err = bootPodinit(s.fakeHost, z, s.nextID); err != nil {
			return err
		}
		z.state, z.id = zones.Running, s.nextID
		z.limits = zones.Limits{CPUCap: z.config.CPUCap, CPUShares: z.config.CPUShares, Memory: z.config.Memory}
		return nil
	})
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

func (s session) Halt(ctx context.Context, name string) error {
	return s.do(ctx, "halt", func() error {
		z, ok := s.zones[name]
		if !ok {
			return nil
		}
		switch z.state {
		case zones.Running, zones.Ready, zones.ShuttingDown, zones.Down, zones.Mounted:
			s.stopLocked(z)
		}
		return nil
	})
}

// SetLimits changes a running zone, not its configuration.
func (s session) SetLimits(ctx context.Context, name string, l zones.Limits) error {
	return s.do(ctx, "prctl", func() error {
		z, err := s.zone(name, zones.Running)
		if err == nil && s.used.zones[z.id].Swap > int64(l.Memory.Swap) && l.Memory.Swap > 0 {
			err = zones.ErrBelowUsage
		}
		if err == nil {
			z.limits = l
		}
		return err
	})
}

// stopLocked is what a halt, or a crash, leaves.
func (h *fakeHost) stopLocked(z *fakeZone) {
	if z.init != nil {
		z.init.end()
	}
	z.state, z.id, z.init = zones.Installed, -1, nil
}

func (s session) Delete(ctx context.Context, name string) error {
	return s.do(ctx, "delete", func() error {
		if _, ok := s.zones[name]; !ok {
			return nil
		}
		_, err := s.zone(name, zones.Configured)
		if err == nil {
			delete(s.zones, name)
		}
		return err
	})
}

func (s session) EnsurePod(ctx context.Context, uid string, _ int64) (string, error) {
	dir := s.PodDir(uid)
	return dir, s.do(ctx, "dataset", func() error {
		s.datasets["pods/"+uid] = ""
		return os.MkdirAll(dir, 0o700)
	})
}

func (s session) EnsureContainer(ctx context.Context, uid, container, image string) (string, error) {
	name := "pods/" + uid + "/c-" + container
	return name, s.do(ctx, "clone", func() error {
		if _, ok := s.datasets["pods/"+uid]; !ok {
			return storage.ErrNotFound
		}
		if have, ok := s.datasets[name]; ok && have != image {
			return storage.ErrConflict
		}
		s.datasets[name] = image
		return nil
	})
}

func (s session) ResetContainer(ctx context.Context, uid, container string) error {
	name := "pods/" + uid + "/c-" + container
	return s.do(ctx, "rollback", func() error {
		if _, ok := s.datasets[name]; !ok {
			return storage.ErrNotFound
		}
		s.resets[container]++
		return nil
	})
}

func (s session) EnsureSpares(_ context.Context, slot int) (string, error) {
	return filepath.Join(s.dir, "spares", strconv.Itoa(slot)), nil
}

func (s session) EnsureSpare(ctx context.Context, uid, container, image string, slot, n int) error {
	return s.do(ctx, "spare", func() error {
		z, ok := s.zones[translate.ZoneName(uid)]
		want := filepath.Join(s.dir, "spares", strconv.Itoa(slot))
		if !ok || !slices.ContainsFunc(z.config.Mounts, func(m zones.Mount) bool { return m.Source == want && m.Target == podinit.SpareDir }) {
			return fmt.Errorf("the zone does not have %s mounted", want)
		}
		if _, ok := s.datasets["pods/"+uid]; !ok {
			return storage.ErrNotFound
		}
		return s.spareLocked(z, "pods/"+uid+"/e-"+container, image, n)
	})
}

// spareLocked mounts a dataset at one of a zone's places, of which each is for
// one dataset.
func (h *fakeHost) spareLocked(z *fakeZone, name, image string, n int) error {
	if have, ok := z.spares[n]; ok && have != name {
		return fmt.Errorf("place %d has %s", n, have)
	}
	if have, ok := h.datasets[name]; ok && have != image {
		return storage.ErrConflict
	}
	h.datasets[name], z.spares[n] = image, name
	return nil
}

func renewal(uid, container string, n int) string {
	return fmt.Sprintf("pods/%s/e-%s.%d", uid, container, n)
}

func (s session) EnsureRenewal(ctx context.Context, uid, container, image string, _, n int) error {
	return s.do(ctx, "renewal", func() error {
		z, err := s.zone(translate.ZoneName(uid), zones.Running)
		if err != nil {
			return err
		}
		return s.spareLocked(z, renewal(uid, container, n), image, n)
	})
}

func (s session) ResetRenewal(ctx context.Context, uid, container string, n int) error {
	return s.do(ctx, "rollback", func() error {
		if _, ok := s.datasets[renewal(uid, container, n)]; !ok {
			return storage.ErrNotFound
		}
		s.resets[container]++
		return nil
	})
}

// idleLocked refuses to destroy what a zone has mounted.
func (h *fakeHost) idleLocked(uid string) error {
	if z, ok := h.zones[translate.ZoneName(uid)]; ok && z.init != nil {
		return storage.ErrBusy
	}
	return nil
}

func (s session) RemoveRenewals(ctx context.Context, uid string) error {
	return s.do(ctx, "remove", func() error {
		if err := s.idleLocked(uid); err != nil {
			return err
		}
		gone := func(name string) bool {
			return strings.HasPrefix(name, "pods/"+uid+"/e-") && strings.Contains(name, ".")
		}
		maps.DeleteFunc(s.datasets, func(name, _ string) bool { return gone(name) })
		if z := s.zones[translate.ZoneName(uid)]; z != nil {
			maps.DeleteFunc(z.spares, func(_ int, name string) bool { return gone(name) })
		}
		return nil
	})
}

func (s session) RemoveContainer(ctx context.Context, uid, container string) error {
	return s.do(ctx, "remove", func() error {
		if err := s.idleLocked(uid); err != nil {
			return err
		}
		delete(s.datasets, "pods/"+uid+"/c-"+container)
		return nil
	})
}

func (s session) EnsureVolume(ctx context.Context, uid, volume string, _ int64) (string, error) {
	name := "pods/" + uid + "/v-" + volume
	return name, s.do(ctx, "volume", func() error { s.datasets[name] = ""; return nil })
}

func (s session) EnsureImageVolume(ctx context.Context, uid, volume, image string) (string, error) {
	name := "pods/" + uid + "/i-" + volume
	return name, s.do(ctx, "image volume", func() error {
		if image == "" {
			return storage.ErrNoImage
		}
		s.datasets[name] = image
		return nil
	})
}

// ReclaimPod refuses to take anything from under a zone.
func (s session) ReclaimPod(ctx context.Context, uid string, keep ...string) error {
	return s.do(ctx, "reclaim", func() error {
		if _, ok := s.zones[translate.ZoneName(uid)]; ok {
			s.t.Errorf("datasets of pod %s are destroyed under its zone", uid)
		}
		maps.DeleteFunc(s.datasets, func(name, _ string) bool { return strings.HasPrefix(name, "pods/"+uid+"/") })
		entries, err := os.ReadDir(s.PodDir(uid))
		for _, e := range entries {
			if !slices.Contains(keep, e.Name()) {
				err = errors.Join(err, os.RemoveAll(filepath.Join(s.PodDir(uid), e.Name())))
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

func (s session) RemovePod(ctx context.Context, uid string) error {
	return s.do(ctx, "destroy", func() error {
		if _, ok := s.zones[translate.ZoneName(uid)]; ok {
			s.t.Errorf("datasets of pod %s are destroyed under its zone", uid)
		}
		maps.DeleteFunc(s.datasets, func(name, _ string) bool {
			return name == "pods/"+uid || strings.HasPrefix(name, "pods/"+uid+"/")
		})
		return os.RemoveAll(s.PodDir(uid))
	})
}

func (s session) Pods(context.Context) ([]storage.Pod, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []storage.Pod
	for name := range s.datasets {
		if uid, ok := strings.CutPrefix(name, "pods/"); ok && !strings.Contains(uid, "/") {
			all = append(all, storage.Pod{UID: uid})
		}
	}
	return all, nil
}

func (s session) PodDir(uid string) string { return filepath.Join(s.dir, "pods", uid) }

func (s session) EnsureVNIC(ctx context.Context, v network.VNIC) error {
	return s.do(ctx, "vnic", func() error { s.vnics[v.Name] = true; return nil })
}

func (s session) ClaimPorts(owner string, list []network.HostPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[owner] = list
}

func (s session) SetPorts(ctx context.Context, owner string, list []network.HostPort) error {
	return s.do(ctx, "ports", func() error {
		if len(list) == 0 {
			delete(s.ports, owner)
			return nil
		}
		s.ports[owner] = list
		return nil
	})
}

func (s session) RemoveVNIC(ctx context.Context, name string) error {
	return s.do(ctx, "rmvnic", func() error {
		for _, z := range s.zones {
			if z.config.Links[0].Physical == name {
				s.t.Errorf("link %s is removed under its zone", name)
			}
		}
		delete(s.vnics, name)
		return nil
	})
}

func (s session) VNICs(context.Context) ([]network.VNIC, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []network.VNIC
	for name := range s.vnics {
		all = append(all, network.VNIC{Name: name})
	}
	return all, nil
}

func (s session) Ensure(ctx context.Context, r oci.Request) (oci.Image, error) {
	var image oci.Image
	err := s.do(ctx, "pull", func() error {
		var ok bool
		if image, ok = s.images[r.Ref]; !ok {
			return fmt.Errorf("%s: %w", r.Ref, oci.ErrNotFound)
		}
		return nil
	})
	return image, err
}

// dial reaches the podinit of the zone with that number, and no other.
func (s session) dial(z zones.Zone) Podinit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.zones[z.Name]; ok && have.init != nil && have.id == z.ID {
		return fakeChannel{s, have.init}
	}
	return fakeChannel{s, nil}
}

// crashZone takes a zone down without the agent's doing.
func (h *fakeHost) crashZone(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopLocked(h.zones[name])
}

// ran returns the commands so far.
func (h *fakeHost) ran() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.commands)
}

// failBy makes fault decide about commands.
func (h *fakeHost) failBy(fault func(command string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = fault
}

// behave makes program decide what containers do.
func (h *fakeHost) behave(program func(container string, attempt int) behaviour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.program = program
}

// state returns a zone's state.
func (h *fakeHost) state(name string) zones.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	if z, ok := h.zones[name]; ok {
		return z.state
	}
	return zones.Absent
}

// leftovers lists everything that pods have on the host.
func (h *fakeHost) leftovers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for name := range h.zones {
		all = append(all, "zone "+name)
	}
	for name := range h.datasets {
		all = append(all, "dataset "+name)
	}
	for name := range h.mounts {
		all = append(all, "mount "+name)
	}
	for name := range h.vnics {
		all = append(all, "link "+name)
	}
	for owner := range h.ports {
		all = append(all, "host ports of "+owner)
	}
	return all
}

func (s session) show(ctx context.Context, uid, name, source string) (mounts.Shown, error) {
	point := filepath.Join(s.dir, "mounts", uid, name)
	return mounts.Shown{Point: point, Dir: true}, s.do(ctx, "show "+source, func() error {
		s.mounts[uid+"/"+name] = source
		return os.MkdirAll(point, 0o700)
	})
}

func (s session) ShowPath(ctx context.Context, uid, name string, p mounts.Path) (mounts.Shown, error) {
	return s.show(ctx, uid, name, filepath.Join(p.Root, p.Name))
}

func (s session) ShowExport(ctx context.Context, uid, name string, e mounts.Export) (mounts.Shown, error) {
	return s.show(ctx, uid, name, e.Server+":"+e.Path)
}

func (s session) Hide(ctx context.Context, uid string) error {
	return s.do(ctx, "hide", func() error {
		if _, ok := s.zones[translate.ZoneName(uid)]; ok {
			s.t.Errorf("what pod %s shows is taken away under its zone", uid)
		}
		maps.DeleteFunc(s.mounts, func(name, _ string) bool { return strings.HasPrefix(name, uid+"/") })
		return nil
	})
}

func (s session) Owners() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var uids []string
	for name := range s.mounts {
		uids = append(uids, strings.Split(name, "/")[0])
	}
	return uids, nil
}

func (s session) ReleaseExports(context.Context) error { return nil }
