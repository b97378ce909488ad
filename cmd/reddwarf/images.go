package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/provider/images"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones/command"
)

// imageCollector is what removes images while the agent runs.
func (a *agent) imageCollector(users func() map[string][]string) *images.Collector {
	return images.New(images.Config{
		Store: a.images, Capacity: a.store.Capacity, Users: users, Policy: a.imagePolicy(),
		Events: a.events, Node: nodeReference(a.NodeName), Log: a.log,
	})
}

// nodeReference is what a kubelet's events about its node refer to.
func nodeReference(name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)}
}

func (a *agent) nodeImages() []corev1.ContainerImage {
	known, err := a.images.Known()
	if err != nil {
		a.log.Warnf("the node's status tells of no images: %v", err)
		return nil
	}
	return images.NodeImages(known, a.NodeStatusMaxImages)
}

// errNoImages means that the host has never run the agent with this pool.
var errNoImages = errors.New("this host has no images of the agent")

// stillImages returns what lists and prunes images while no agent runs. The
// caller holds the agent's lock.
func (c *config) stillImages(ctx context.Context, log images.Logger) (*images.Collector, error) {
	host := command.Local{}
	store := storage.New(host, storage.Config{Pool: c.Pool})
	if _, err := os.Stat(store.ImagesDir()); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", errNoImages, store.ImagesDir())
	}
	dir := filepath.Join(c.DataDir, "pods")
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("which images pods use is not known: %w: set --data-dir to the agent's", err)
	}
	records, err := ledger.Open(dir)
	if err != nil {
		return nil, err
	}
	pods, corrupt, err := records.Load()
	if err != nil {
		return nil, err
	}
	if len(corrupt) > 0 {
		return nil, fmt.Errorf("which images pods use is not known: the record of pod %s cannot be read: %w", corrupt[0].UID, corrupt[0].Err)
	}
	users := ledger.ImageUsers(pods)
	return images.New(images.Config{
		Store: oci.New(store, oci.Config{}), Capacity: store.Capacity, Events: &record.FakeRecorder{}, Log: log,
		Users: func() map[string][]string { return users },
	}), ctx.Err()
}

// shortOf sees to it that the node gets room again, as soon as there are pods.
func (a *agent) shortOf(kind corev1.NodeConditionType, available, threshold int64) {
	resource := corev1.ResourceMemory
	if kind == corev1.NodeDiskPressure {
		resource = corev1.ResourceEphemeralStorage
	}
	if p := a.evicting.Load(); p != nil {
		p.Short(translate.Shortage{Resource: resource, Available: available, Threshold: threshold})
	}
}
