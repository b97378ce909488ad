package images_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/provider/images"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// disk is a host with images of 10 bytes each on a disk of 100.
type disk struct {
	mu       sync.Mutex
	known    []oci.Known
	clones   map[string]int // by image, of pods that are not in the ledger
	other    int64          // bytes that are not of images
	leftover int64
	fail     map[string]error // by image
	users    map[string][]string
	broken   error
	events   []string
	removed  []string
}

func newDisk() *disk {
	return &disk{clones: map[string]int{}, fail: map[string]error{}, users: map[string][]string{}}
}

// add puts an image on the disk, pulled now.
func (d *disk) add(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		d.known = append(d.known, oci.Known{ID: n, Dataset: n, Size: 5, Pulled: time.Now(), Tags: []string{n + ":1"}, Digests: []string{n + "@sha256:" + n}})
	}
}

func (d *disk) use(image string, pods ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[image] = pods
	if len(pods) == 0 {
		delete(d.users, image)
	}
}

func (d *disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *disk) Known() ([]oci.Known, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.known), d.broken
}

func (d *disk) Datasets(context.Context) ([]storage.ImageDataset, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []storage.ImageDataset
	for _, k := range d.known {
		all = append(all, storage.ImageDataset{ID: k.ID, Complete: true, Used: 10, Refers: 12, Clones: d.clones[k.ID]})
	}
	return all, nil
}

func (d *disk) InUse(ids map[string]bool, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.known {
		if ids[d.known[i].ID] {
			d.known[i].Used = now
		}
	}
	return d.broken
}

func (d *disk) Remove(_ context.Context, id string, since time.Time) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if since.After(time.Now().Add(-time.Second)) {
		return 0, errors.New("what was asked for a moment ago would go")
	}
	if err := d.fail[id]; err != nil {
		return 0, err
	}
	if d.clones[id] > 0 {
		return 0, fmt.Errorf("%w: clones", storage.ErrInUse)
	}
	if len(d.users[id]) > 0 {
		return 0, errors.New("an image in use was to be removed")
	}
	i := slices.IndexFunc(d.known, func(k oci.Known) bool { return k.ID == id })
	if i < 0 {
		return 0, nil
	}
	d.known = slices.Delete(d.known, i, i+1)
	d.removed = append(d.removed, id)
	return 10, nil
}

func (d *disk) Sweep(context.Context, time.Time) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.leftover
	d.leftover = 0
	return n, nil
}

func (d *disk) capacity(context.Context) (storage.Capacity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return storage.Capacity{Total: 100, Available: 100 - d.other - d.leftover - 10*int64(len(d.known))}, nil
}

// gone returns what was removed since the last call.
func (d *disk) gone() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := strings.Join(d.removed, " ")
	d.removed = nil
	return s
}

func (d *disk) told() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := strings.Join(d.events, "\n")
	d.events = nil
	return s
}

type recorder struct {
	record.EventRecorder
	d *disk
}

func (r recorder) Event(_ runtime.Object, _, reason, message string) {
	r.d.set(func() { r.d.events = append(r.d.events, reason+": "+message) })
}

type quiet struct{ t *testing.T }

func (q quiet) Infof(f string, a ...any) { q.t.Logf(f, a...) }
func (q quiet) Warnf(f string, a ...any) { q.t.Logf(f, a...) }

func defaults() images.Policy {
	return images.Policy{HighThresholdPercent: 85, LowThresholdPercent: 80, MinAge: 2 * time.Minute}
}

func (d *disk) collector(t *testing.T, p images.Policy) *images.Collector {
	return images.New(images.Config{
		Store: d, Capacity: d.capacity, Policy: p, Events: recorder{d: d}, Node: &corev1.ObjectReference{Kind: "Node", Name: "n"}, Log: quiet{t},
		Users: func() map[string][]string {
			d.mu.Lock()
			defer d.mu.Unlock()
			users := map[string][]string{}
			for k, v := range d.users {
				users[k] = v
			}
			return users
		},
	})
}

// run starts a collector that ends with the test.
func (d *disk) run(t *testing.T, p images.Policy) {
	c := d.collector(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestCollectAboveTheThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("a", "b", "c", "d", "e")
		d.use("a", "default/web")
		d.run(t, defaults())
		pass(time.Hour)
		if got := d.gone(); got != "" {
			t.Errorf("with space left %s went", got)
		}
		d.use("d", "default/other")
		pass(10 * time.Minute)
		d.use("d") // it was used after all others
		d.set(func() { d.other = 34 })
		pass(10 * time.Minute) // 84 %
		if got := d.gone(); got != "" {
			t.Errorf("below the threshold %s went", got)
		}
		d.set(func() { d.other = 49 }) // 99 %, so 19 are wanted
		pass(6 * time.Minute)
		if got := d.gone(); got != "b c" {
			t.Errorf("%q went, want the two that were not used for the longest time", got)
		}
		d.set(func() { d.other = 60 }) // 90 %
		pass(6 * time.Minute)
		if got := d.gone(); got != "e" {
			t.Errorf("%q went, want e", got)
		}
		if got := d.told(); got != "" {
			t.Errorf("events %s", got)
		}
	})
}

func TestCollectCannotFreeEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("a", "b", "c")
		d.use("a", "default/web")
		d.set(func() { d.clones["b"], d.other = 1, 65 }) // of a pod that nobody knows
		d.run(t, defaults())
		pass(time.Minute)
		if got := d.gone(); got != "" {
			t.Errorf("%s went, younger than the minimum age", got)
		}
		pass(5 * time.Minute)
		if got := d.gone(); got != "c" {
			t.Errorf("%q went, want c: a is used by a pod and b by a clone", got)
		}
		events := d.told()
		if !strings.Contains(events, "FreeDiskSpaceFailed: Insufficient free disk space on the node's image filesystem (95% of 100 B used). "+
			"Failed to free sufficient space by deleting unused images (freed 10 bytes).") ||
			!strings.Contains(events, "ImageGCFailed: Insufficient free disk space") {
			t.Errorf("events %s", events)
		}
	})
}

// TestCollectGoesOn has one image that cannot be removed: the next one is, and the
// failure is told once it was seen twice.
func TestCollectGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("a", "b", "c", "d", "e", "f", "g", "h", "i")
		d.set(func() { d.fail["a"] = errors.New("dataset is busy") })
		pass(time.Hour)
		d.run(t, defaults())
		synctest.Wait()
		if got := d.gone(); got != "b" {
			t.Errorf("%q went, want b", got)
		}
		if got := d.told(); got != "" {
			t.Errorf("events of the first failure: %s", got)
		}
		d.add("j")
		pass(6 * time.Minute)
		if got := d.gone(); got != "c" {
			t.Errorf("%q went, want c", got)
		}
		if got := d.told(); !strings.Contains(got, "ImageGCFailed: wanted to free 10 bytes, but freed 10 bytes space with errors in image deletion: dataset is busy") {
			t.Errorf("events %s", got)
		}
		d.set(func() { delete(d.fail, "a") })
		d.add("k")
		pass(6 * time.Minute)
		if got := d.gone(); got != "a" || d.told() != "" {
			t.Errorf("%q went", got)
		}
	})
}

func TestCollectOldImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("a", "b")
		pass(48 * time.Hour)
		d.use("b", "default/web")
		p := defaults()
		p.MaxAge = 24 * time.Hour
		d.run(t, p)
		pass(23 * time.Hour)
		if got := d.gone(); got != "" {
			t.Errorf("%s went before the agent has watched for as long as the maximum age", got)
		}
		pass(2 * time.Hour)
		if got := d.gone(); got != "a" {
			t.Errorf("%q went, want a", got)
		}
		d.use("b")
		pass(23 * time.Hour)
		if got := d.gone(); got != "" {
			t.Errorf("%s went a day too early", got)
		}
		pass(2 * time.Hour)
		if got := d.gone(); got != "b" {
			t.Errorf("%q went, want b", got)
		}
	})
}

func TestShortOfSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("a", "b", "c")
		d.use("b", "default/web")
		off := images.Policy{HighThresholdPercent: 100, LowThresholdPercent: 99, MinAge: time.Minute}
		d.run(t, off)
		pass(time.Hour)
		if got := d.gone(); got != "" {
			t.Errorf("%s went though collection is off", got)
		}
		d.add("new")
		if err := d.collector(t, off).Relieve(t.Context()); err != nil {
			t.Error(err)
		}
		if got := d.gone(); got != "a c" {
			t.Errorf("%q went, want all that are unused and old enough", got)
		}
	})
}

func TestPruneAndList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.add("b", "a", "c")
		d.use("a", "default/web", "kube-system/dns")
		d.set(func() { d.clones["c"], d.leftover = 1, 7 })
		c := d.collector(t, defaults())
		list, err := c.List(t.Context())
		if err != nil || len(list) != 3 {
			t.Fatalf("List = %+v, %v", list, err)
		}
		if l := list[0]; l.Names[0] != "a:1" || l.Digest != "sha256:a" || l.Size != 12 || len(l.UsedBy) != 2 || l.LastUsed.IsZero() {
			t.Errorf("List has %+v", l)
		}
		for _, dry := range []bool{true, false} {
			p, err := c.Prune(t.Context(), dry)
			if err != nil || p.Failed != "" || len(p.Removed) != 1 || p.Removed[0].Name != "b:1" || p.Removed[0].Freed != 10 {
				t.Errorf("Prune(%v) = %+v, %v", dry, p, err)
			}
			if got, want := d.gone(), map[bool]string{false: "b"}[dry]; got != want {
				t.Errorf("Prune(%v) removed %q, want %q", dry, got, want)
			}
			if want := map[bool]int64{false: 7}[dry]; p.Leftovers != want {
				t.Errorf("Prune(%v) freed %d of leftovers, want %d", dry, p.Leftovers, want)
			}
		}
		d.add("d", "e")
		d.set(func() { d.fail["d"] = errors.New("dataset is busy") })
		if p, err := c.Prune(t.Context(), false); err != nil || !strings.Contains(p.Failed, "busy") || len(p.Removed) != 1 || p.Removed[0].ID != "e" {
			t.Errorf("Prune = %+v, %v", p, err)
		}
	})
}

func TestNodeImages(t *testing.T) {
	known := []oci.Known{
		{ID: "small", Size: 1, Tags: []string{"s:1"}},
		{ID: "large", Size: 3, Digests: []string{"l@sha256:1", "l@sha256:2"}, Tags: []string{"l:1", "l:2", "l:3", "l:4"}},
		{ID: "middle", Size: 2, Digests: []string{"m@sha256:1"}},
	}
	got := images.NodeImages(known, 2)
	if len(got) != 2 || got[0].SizeBytes != 3 || !slices.Equal(got[0].Names, []string{"l@sha256:1", "l@sha256:2", "l:1", "l:2", "l:3"}) ||
		!slices.Equal(got[1].Names, []string{"m@sha256:1"}) {
		t.Errorf("NodeImages = %+v", got)
	}
	if n := len(images.NodeImages(known, -1)); n != 3 {
		t.Errorf("%d images without a limit", n)
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, tt := range []struct {
		p    images.Policy
		want string
	}{
		{defaults(), ""},
		{images.Policy{HighThresholdPercent: 101, LowThresholdPercent: -1}, "high threshold 101"},
		{images.Policy{HighThresholdPercent: 101, LowThresholdPercent: -1}, "low threshold -1"},
		{images.Policy{HighThresholdPercent: 80, LowThresholdPercent: 80}, "must be less"},
		{images.Policy{HighThresholdPercent: 85, LowThresholdPercent: 80, MinAge: -1}, "negative"},
		{images.Policy{HighThresholdPercent: 85, LowThresholdPercent: 80, MinAge: 2, MaxAge: 1}, "must be more"},
	} {
		if err := tt.p.Validate(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.p, err, tt.want)
		}
	}
}
