package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// A root that comes to a pod while its zone runs needs a place that the zone
// has had since its boot. lofs shows what is mounted below its source later, so
// that place is a directory of mount points, and the root is mounted there by
// the host.
//
// The zone may write what it mounts with lofs, and could put a link where the
// host is about to mount. So the mount points are in a file system of the host
// that is read-only, once they have been made: what is mounted there is not.
// A lofs mount with the option ro would not do, because that option is
// inherited by all that appears below it (makelfsnode of illumos' lofs_subr.c).

// Spares is how many roots a pod can be given after its boot.
const Spares = 16

// spareBlock is how many pods' mount points one file system holds. It is filled
// once, before any zone has mounted a part of it.
const spareBlock = 32

// SpareDir returns the directory that holds a slot's mount points, 1 to
// [Spares]. EnsureSpares makes it.
func (s *Store) SpareDir(slot int) string {
	return filepath.Join(s.dir, "spares", strconv.Itoa(slot/spareBlock), strconv.Itoa(slot))
}

// EnsureSpares makes the mount points of a slot and returns the directory that
// holds them. It runs no command for a slot near one that was asked for before.
func (s *Store) EnsureSpares(ctx context.Context, slot int) (dir string, err error) {
	if slot < 0 {
		return "", fmt.Errorf("storage: slot %d: %w", slot, ErrName)
	}
	s.spareMu.Lock()
	defer s.spareMu.Unlock()
	block := slot / spareBlock
	if !s.spares[block] {
		if err := s.fillSpares(ctx, block); err != nil {
			return "", err
		}
		s.spares[block] = true
	}
	return s.SpareDir(slot), nil
}

// fillSpares makes a block. One that is read-only is complete.
func (s *Store) fillSpares(ctx context.Context, block int) error {
	mark := strconv.Itoa(block)
	name := s.name + "/spares/" + mark
	if err := s.create(ctx, name, sparesProperty+"="+mark); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	p, err := s.get(ctx, name, sparesProperty, "readonly", "mounted")
	if err != nil {
		return err
	}
	if !p[sparesProperty].local(mark) {
		return fmt.Errorf("storage: dataset %s: %w", name, ErrForeign)
	}
	if p["mounted"].value != "yes" {
		if err := s.mount(ctx, name); err != nil {
			return err
		}
	}
	if p["readonly"].local("on") {
		return nil
	}
	for slot := block * spareBlock; slot < (block+1)*spareBlock; slot++ {
		for n := 1; n <= Spares; n++ {
			if err := os.MkdirAll(filepath.Join(s.SpareDir(slot), strconv.Itoa(n)), 0o755); err != nil {
				return fmt.Errorf("storage: %w", err)
			}
		}
	}
	_, err = s.zfs(ctx, "set", "readonly=on", name)
	return err
}

// EnsureSpare makes a container's root like [Store.EnsureContainer], and mounts
// it on the host as number n of the slot's places, which the pod's zone has
// mounted. It has no snapshot to go back to. The errors are those of
// EnsureContainer.
//
// It is one zfs command for a new container.
func (s *Store) EnsureSpare(ctx context.Context, uid, container, image string, slot, n int) error {
	if err := errors.Join(checkWord("pod", uid), checkWord("container", container)); err != nil {
		return err
	}
	return s.ensureSpare(ctx, s.podName(uid)+"/e-"+container, image, slot, n)
}

// ensureSpare makes a clone of an image that is mounted as number n of a slot's
// places.
func (s *Store) ensureSpare(ctx context.Context, name, image string, slot, n int) error {
	if err := errors.Join(checkWord("image", image), checkPlace(n)); err != nil {
		return err
	}
	dir, err := s.EnsureSpares(ctx, slot)
	if err != nil {
		return err
	}
	origin := s.snapName(image)
	err = s.clone(ctx, origin, name, "mountpoint="+filepath.Join(dir, strconv.Itoa(n)))
	if errors.Is(err, ErrNotFound) {
		s.forgetImage(image)
		return fmt.Errorf("storage: image %s: %w: %w", image, ErrNoImage, err)
	}
	if err == nil || !errors.Is(err, ErrExists) {
		return err
	}
	p, err := s.get(ctx, name, "origin")
	if err != nil {
		return err
	}
	if got := p["origin"].value; got != origin {
		return fmt.Errorf("storage: dataset %s: %w: %s, not %s", name, ErrConflict, got, origin)
	}
	return s.mount(ctx, name) // a crash can come between the halves of zfs clone
}

func checkPlace(n int) error {
	if n < 1 || n > Spares {
		return fmt.Errorf("storage: place %d: %w: not from 1 to %d", n, ErrName, Spares)
	}
	return nil
}
