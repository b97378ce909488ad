package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A container whose image is changed while its pod's zone runs needs a root of
// the new image, and the zone has the old one mounted: the new root comes as one
// of the spares, in the dataset e-CONTAINER.PLACE. A place is given to one root
// in each boot of a zone, because a process of the zone may hold a root that is
// no longer used.

// EnsureRenewal makes a container's root of another image, with the snapshot
// that [Store.ResetRenewal] goes back to, and mounts it like
// [Store.EnsureSpare]. The errors are those of [Store.EnsureContainer].
//
// It is two zfs commands for a new root.
func (s *Store) EnsureRenewal(ctx context.Context, uid, container, image string, slot, n int) error {
	if err := checkRenewal(uid, container, n); err != nil {
		return err
	}
	name := s.renewalName(uid, container, n)
	if err := s.ensureSpare(ctx, name, image, slot, n); err != nil {
		return err
	}
	// One that exists without its snapshot has never been used.
	if _, err := s.zfs(ctx, "snapshot", name+"@"+startSnapshot); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	return nil
}

// ResetRenewal takes such a root back to what it was before its first start.
func (s *Store) ResetRenewal(ctx context.Context, uid, container string, n int) error {
	if err := checkRenewal(uid, container, n); err != nil {
		return err
	}
	_, err := s.zfs(ctx, "rollback", "-r", s.renewalName(uid, container, n)+"@"+startSnapshot)
	return err
}

// RemoveRenewals destroys all such roots of a pod, whose zone must not run. An
// absent pod is fine.
func (s *Store) RemoveRenewals(ctx context.Context, uid string) error {
	if err := checkWord("pod", uid); err != nil {
		return err
	}
	out, err := s.zfs(ctx, "list", "-Hp", "-o", "name", "-t", "filesystem", "-d", "1", s.podName(uid))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rows, err := parseRows(out, 1)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if child, ok := strings.CutPrefix(r[0], s.podName(uid)+"/e-"); ok && strings.Contains(child, ".") {
			if err := s.destroyChild(ctx, uid, r[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRenewal(uid, container string, n int) error {
	err := errors.Join(checkWord("pod", uid), checkWord("container", container))
	if err == nil && strings.Contains(container, ".") {
		err = fmt.Errorf("storage: container %q: %w", container, ErrName)
	}
	return errors.Join(err, checkPlace(n))
}

func (s *Store) renewalName(uid, container string, n int) string {
	return s.podName(uid) + "/e-" + container + "." + strconv.Itoa(n)
}
