// Package images keeps the host's images as a kubelet does: it removes those
// that no pod uses when space gets short or they have become old, tells the
// node's status of them, and answers the operator's `reddwarf image`.
//
// What is in use is decided by the ledger's pods, and once more by ZFS: a
// dataset with clones is never destroyed, whoever made them.
package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// Store is the host's images; oci.Images is one.
type Store interface {
	Known() ([]oci.Known, error)
	Datasets(ctx context.Context) ([]storage.ImageDataset, error)
	InUse(ids map[string]bool, now time.Time) error
	Remove(ctx context.Context, id string, since time.Time) (freed int64, err error)
	Sweep(ctx context.Context, before time.Time) (freed int64, err error)
}

// Logger takes what an operator should read.
type Logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// Config is what a Collector is made of. What a kubelet has too is named as
// there.
type Config struct {
	Store    Store
	Capacity func(ctx context.Context) (storage.Capacity, error)

	// Users returns which pods use an image, as NAMESPACE/NAME, by image ID.
	Users func() map[string][]string

	Policy Policy

	// Events and Node are for what the users of the cluster should know.
	Events record.EventRecorder
	Node   *corev1.ObjectReference
	Log    Logger
}

const (
	// period is how often images are looked at, a kubelet's ImageGCPeriod.
	period = 5 * time.Minute
	// askedFor is how long an image is kept that was given out: until then
	// whoever asked for it has said in the ledger that it uses it.
	askedFor = time.Minute
	// leftoverAge is how long the layers of a pull that failed are kept while
	// there is room: the next try needs not pull them again.
	leftoverAge = time.Hour
)

// Collector removes images.
type Collector struct {
	c       Config
	working sync.Mutex // held while images are removed
}

// New returns a Collector. It does nothing before Run.
func New(c Config) *Collector { return &Collector{c: c} }

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	began := time.Now()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	failedBefore := false
	look := func() {
		err := c.collect(ctx, began)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && failedBefore:
			// The first failure may be that of a host that is just coming up.
			c.c.Log.Warnf("images cannot be collected: %v", err)
			c.c.Events.Event(c.c.Node, corev1.EventTypeWarning, "ImageGCFailed", err.Error())
		case err != nil:
			c.c.Log.Warnf("images cannot be collected, which is tried again: %v", err)
		}
		failedBefore = err != nil
	}
	for look(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			look()
		}
	}
}

// collect is one look of a kubelet: it removes what is too old, and when the
// space is used beyond the high threshold, the images that were not used for the
// longest time until the low threshold is reached.
func (c *Collector) collect(ctx context.Context, began time.Time) error {
	c.working.Lock()
	defer c.working.Unlock()
	now := time.Now()
	unused, err := c.unused(now)
	if err != nil {
		return err
	}
	if c.c.Policy.Off() {
		return nil // what is in use has been noted
	}
	if _, err := c.c.Store.Sweep(ctx, now.Add(-leftoverAge)); err != nil {
		return err
	}
	old, unused := c.c.Policy.tooOld(unused, now, began)
	if _, _, err := c.remove(ctx, old, now, everything); err != nil {
		return fmt.Errorf("wanted to free images older than %s: %w", c.c.Policy.MaxAge, err)
	}
	space, err := c.c.Capacity(ctx)
	if err != nil {
		return err
	}
	if space.Total <= 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		c.c.Events.Event(c.c.Node, corev1.EventTypeWarning, "InvalidDiskCapacity", err.Error())
		return err
	}
	wanted := c.c.Policy.excess(space)
	if wanted <= 0 {
		return nil
	}
	freed, err := c.free(ctx, wanted, now, unused)
	if err != nil {
		return fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", wanted, freed, err)
	}
	if freed < wanted {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
			usedPercent(space), Size(space.Total), freed)
		c.c.Events.Event(c.c.Node, corev1.EventTypeWarning, "FreeDiskSpaceFailed", message)
		return errors.New(message)
	}
	return nil
}

// Relieve removes all images that no pod uses and that are old enough: the host is
// short of space, and they go before any pod has to.
func (c *Collector) Relieve(ctx context.Context) error {
	c.working.Lock()
	defer c.working.Unlock()
	now := time.Now()
	unused, err := c.unused(now)
	if err != nil {
		return err
	}
	_, err = c.free(ctx, everything, now, unused)
	return err
}

// everything is more than there is to free.
const everything = int64(1) << 62

// free removes leftovers, then images in their order, until wanted bytes are free.
func (c *Collector) free(ctx context.Context, wanted int64, now time.Time, unused []oci.Known) (freed int64, err error) {
	if freed, err = c.c.Store.Sweep(ctx, now.Add(-c.c.Policy.MinAge)); err != nil || freed >= wanted {
		return freed, err
	}
	unused = slices.DeleteFunc(slices.Clone(unused), func(k oci.Known) bool { return now.Sub(k.Pulled) < c.c.Policy.MinAge })
	_, more, err := c.remove(ctx, unused, now, wanted-freed)
	return freed + more, err
}

// Removed is an image that is gone.
type Removed struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Freed int64  `json:"freed"` // bytes
}

// remove removes images until wanted bytes are free. That one is in use after all
// is no failure.
func (c *Collector) remove(ctx context.Context, list []oci.Known, now time.Time, wanted int64) (gone []Removed, freed int64, err error) {
	var errs []error
	for _, k := range list {
		if freed >= wanted {
			break
		}
		n, err := c.c.Store.Remove(ctx, k.ID, now.Add(-askedFor))
		switch {
		case errors.Is(err, storage.ErrInUse):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		}
		c.c.Log.Infof("image %s was not in use and is removed: %s are free", name(k), Size(n))
		gone, freed = append(gone, Removed{Name: name(k), ID: k.ID, Freed: n}), freed+n
	}
	return gone, freed, errors.Join(errs...)
}

// unused returns the images that no pod uses, those first that were not used for
// the longest time, and notes of the others that they are in use now.
func (c *Collector) unused(now time.Time) ([]oci.Known, error) {
	used := map[string]bool{}
	for id := range c.c.Users() {
		used[id] = true
	}
	if err := c.c.Store.InUse(used, now); err != nil {
		return nil, err
	}
	known, err := c.c.Store.Known()
	if err != nil {
		return nil, err
	}
	known = slices.DeleteFunc(known, func(k oci.Known) bool { return used[k.ID] })
	slices.SortFunc(known, func(a, b oci.Known) int {
		return cmp.Or(a.LastUsed().Compare(b.LastUsed()), a.Pulled.Compare(b.Pulled), cmp.Compare(a.ID, b.ID))
	})
	return known, nil
}

// name is what people call an image.
func name(k oci.Known) string {
	for _, names := range [][]string{k.Tags, k.Digests} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return k.ID
}
