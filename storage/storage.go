// Package storage keeps pods and images in ZFS datasets, through zfs(8).
//
// It knows nothing of Kubernetes: a pod is a UID with containers and volumes.
// The layout below the root dataset is
//
//	images/<id>             one unpacked image or layer chain, snapshot @image
//	pods/<uid>              the zone path of a pod
//	pods/<uid>/c-<name>     a container's root: a clone of an image, with @start
//	pods/<uid>/i-<name>     a volume that shows an image: a clone of it, read-only
//	pods/<uid>/v-<name>     a volume that lives as long as the pod
//	pods/<uid>/e-<name>     the root of a container that came after the boot
//	spares/<n>              mount points for those, read-only
//
// The package's one surprising rule: only a dataset that carries our user
// property itself, with the value that its name implies, is ever changed or
// destroyed. A dataset that an administrator put among ours stays.
package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"reddwarf.io/reddwarf/zones/command"
)

// User properties that mark our datasets. Children inherit them by path, so a
// mark counts only where its source is "local".
const (
	uidProperty    = "io.reddwarf:uid"    // on pods/<uid>, the UID
	imageProperty  = "io.reddwarf:image"  // on images/<id>, the id
	sparesProperty = "io.reddwarf:spares" // on spares/<n>, the number
	rootProperty   = "io.reddwarf:root"   // on the root dataset, "1"
)

// Config says where a Store keeps its datasets.
type Config struct {
	// Pool is the ZFS pool. Empty means rpool.
	Pool string

	// Root is the directory where the root dataset POOL/reddwarf is mounted.
	// Empty means /POOL/reddwarf.
	Root string
}

// Store is the datasets of one host. Its methods may be called from several
// goroutines, as long as no two work on the same pod or image.
type Store struct {
	run  command.Runner
	name string // of the root dataset
	dir  string // where it is mounted

	mu     sync.Mutex
	images map[string]bool // complete image datasets seen since the start

	spareMu sync.Mutex   // held while a block is made
	spares  map[int]bool // complete blocks seen since the start
}

// New returns the Store that c describes. It runs nothing; see [Store.Setup].
func New(r command.Runner, c Config) *Store {
	if c.Pool == "" {
		c.Pool = "rpool"
	}
	if c.Root == "" {
		c.Root = "/" + c.Pool + "/reddwarf"
	}
	return &Store{run: r, name: c.Pool + "/reddwarf", dir: c.Root, images: map[string]bool{}, spares: map[int]bool{}}
}

// Setup makes the root dataset and the three below it, each of them only if it
// is absent. It refuses a root dataset that is not ours or is mounted
// elsewhere than Config.Root.
func (s *Store) Setup(ctx context.Context) error {
	if err := s.setupRoot(ctx); err != nil {
		return err
	}
	for _, child := range []string{"images", "pods", "spares"} {
		if err := s.create(ctx, s.name+"/"+child); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
		if err := s.mount(ctx, s.name+"/"+child); err != nil {
			return err
		}
		// Images hold set-uid programs of other systems: no local user may
		// reach them.
		if err := os.Chmod(filepath.Join(s.dir, child), 0o700); err != nil {
			return fmt.Errorf("storage: %w", err)
		}
	}
	return nil
}

func (s *Store) setupRoot(ctx context.Context) error {
	err := s.create(ctx, s.name,
		"mountpoint="+s.dir, "atime=off", "compression=on", "devices=off", rootProperty+"=1")
	if err == nil || !errors.Is(err, ErrExists) {
		return err
	}
	p, err := s.get(ctx, s.name, rootProperty, "mountpoint")
	if err != nil {
		return err
	}
	if !p[rootProperty].local("1") {
		return fmt.Errorf("storage: dataset %s: %w: set %s=1 on it to hand it over", s.name, ErrForeign, rootProperty)
	}
	if got := p["mountpoint"].value; got != s.dir {
		return fmt.Errorf("storage: dataset %s: %w: it is mounted at %s, not at %s", s.name, ErrForeign, got, s.dir)
	}
	return s.mount(ctx, s.name)
}

// ImagesDir returns the directory below which image datasets are mounted. The
// directory itself belongs to a dataset of its own, so a file in it lives and
// dies with the images.
func (s *Store) ImagesDir() string { return filepath.Join(s.dir, "images") }

// PodsDir returns the directory that holds the zone paths of all pods.
func (s *Store) PodsDir() string { return filepath.Join(s.dir, "pods") }

// PodDir returns the zone path of a pod, whether or not it exists.
func (s *Store) PodDir(uid string) string { return filepath.Join(s.PodsDir(), uid) }

func (s *Store) podName(uid string) string  { return s.name + "/pods/" + uid }
func (s *Store) imageName(id string) string { return s.name + "/images/" + id }
func (s *Store) snapName(id string) string  { return s.imageName(id) + "@" + imageSnapshot }

// word is what a UID, a container, a volume and an image id are made of: a
// part of what zfs allows in a component, and nothing that could be an option
// or a path.
var word = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?$`)

func checkWord(noun, s string) error {
	if !word.MatchString(s) || strings.Contains(s, "..") {
		return fmt.Errorf("storage: %s %q: %w", noun, s, ErrName)
	}
	return nil
}
