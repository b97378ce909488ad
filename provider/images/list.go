package images

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// maxNames is how many names of one image a node's status tells, a kubelet's
// MaxNamesPerImageInNodeStatus.
const maxNames = 5

// NodeImages is what a node's status says of images: the largest first, and at
// most most of them, unless that is negative.
func NodeImages(known []oci.Known, most int) []corev1.ContainerImage {
	known = slices.Clone(known)
	slices.SortFunc(known, func(a, b oci.Known) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	if most >= 0 {
		known = known[:min(len(known), most)]
	}
	var out []corev1.ContainerImage
	for _, k := range known {
		names := slices.Concat(k.Digests, k.Tags)
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxNames)], SizeBytes: k.Size})
	}
	return out
}

// Listed is an image as an operator sees it.
type Listed struct {
	Names    []string  `json:"names"` // tags, or the digest where there is none
	ID       string    `json:"id"`
	Digest   string    `json:"digest"`           // sha256:…, the registry's
	Size     int64     `json:"size"`             // bytes on disk, with what it shares with others
	UsedBy   []string  `json:"usedBy,omitempty"` // pods
	LastUsed time.Time `json:"lastUsed"`
}

// List returns all images by their names.
func (c *Collector) List(ctx context.Context) ([]Listed, error) {
	known, err := c.c.Store.Known()
	if err != nil {
		return nil, err
	}
	datasets, err := c.c.Store.Datasets(ctx)
	if err != nil && !errors.Is(err, storage.ErrNotFound) { // a host that never had an image
		return nil, err
	}
	size := map[string]int64{}
	for _, d := range datasets {
		size[d.ID] = d.Refers
	}
	users := c.c.Users()
	var out []Listed
	for _, k := range known {
		l := Listed{Names: k.Tags, ID: k.ID, Size: size[k.Dataset], UsedBy: users[k.ID], LastUsed: k.LastUsed()}
		if len(l.Names) == 0 {
			l.Names = []string{name(k)}
		}
		if len(k.Digests) > 0 {
			_, l.Digest, _ = strings.Cut(k.Digests[0], "@")
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Listed) int {
		return cmp.Or(cmp.Compare(a.Names[0], b.Names[0]), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Pruned is what a prune did, or would do.
type Pruned struct {
	Removed   []Removed `json:"removed,omitempty"`
	Leftovers int64     `json:"leftovers"` // bytes freed that belonged to no image
	Failed    string    `json:"failed,omitempty"`
}

// Prune removes all images that no pod uses, of whatever age. On a dry run it
// says which these are: what they would free is not known before, because they
// share layers, so it is what each holds alone.
func (c *Collector) Prune(ctx context.Context, dryRun bool) (Pruned, error) {
	c.working.Lock()
	defer c.working.Unlock()
	now := time.Now()
	unused, err := c.unused(now)
	if err != nil {
		return Pruned{}, err
	}
	if dryRun {
		return c.wouldPrune(ctx, unused)
	}
	var p Pruned
	p.Removed, _, err = c.remove(ctx, unused, now, everything)
	leftovers, sweepErr := c.c.Store.Sweep(ctx, now)
	p.Leftovers = leftovers
	if err := errors.Join(err, sweepErr); err != nil {
		p.Failed = err.Error()
	}
	return p, nil
}

func (c *Collector) wouldPrune(ctx context.Context, unused []oci.Known) (Pruned, error) {
	all, err := c.c.Store.Datasets(ctx)
	if err != nil {
		return Pruned{}, err
	}
	datasets := map[string]storage.ImageDataset{}
	for _, d := range all {
		datasets[d.ID] = d
	}
	var p Pruned
	for _, k := range unused {
		switch d := datasets[k.Dataset]; d.Clones {
		case 0:
			p.Removed = append(p.Removed, Removed{Name: name(k), ID: k.ID, Freed: d.Used})
		case d.Images:
			p.Removed = append(p.Removed, Removed{Name: name(k), ID: k.ID}) // it stays as a layer of others
		}
	}
	return p, nil
}
