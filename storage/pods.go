package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// startSnapshot is what a container's root goes back to when it restarts.
const startSnapshot = "start"

// Pod is a pod's dataset.
type Pod struct {
	UID     string
	Created time.Time
}

// EnsurePod makes the dataset of a pod and returns the directory where it is
// mounted: the zone path, mode 0700. quota bounds what the pod's dataset and
// all below it may hold, in bytes; 0 means no bound. Blocks that a container
// still shares with its image do not count.
//
// It is one zfs command for a new pod.
func (s *Store) EnsurePod(ctx context.Context, uid string, quota int64) (zonepath string, err error) {
	if err := checkWord("pod", uid); err != nil {
		return "", err
	}
	name, dir := s.podName(uid), s.PodDir(uid)
	err = s.create(ctx, name, uidProperty+"="+uid, "quota="+size(quota))
	if errors.Is(err, ErrExists) {
		err = s.adoptPod(ctx, uid, quota)
	}
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return "", fmt.Errorf("storage: %w", err)
	}
	return dir, nil
}

// adoptPod brings an existing pod dataset to what EnsurePod promises.
func (s *Store) adoptPod(ctx context.Context, uid string, quota int64) error {
	name := s.podName(uid)
	p, err := s.get(ctx, name, uidProperty, "quota", "mounted")
	if err != nil {
		return err
	}
	if !p[uidProperty].local(uid) {
		return fmt.Errorf("storage: dataset %s: %w", name, ErrForeign)
	}
	if have, err := parseSize(p["quota"].value); err != nil {
		return err
	} else if have != quota {
		if _, err := s.zfs(ctx, "set", "quota="+size(quota), name); err != nil {
			return err
		}
	}
	if p["mounted"].value == "yes" {
		return nil
	}
	return s.mount(ctx, name)
}

// EnsureContainer makes the root of a container: a clone of an image dataset,
// with the snapshot that [Store.ResetContainer] goes back to. It returns the
// dataset's name; its mountpoint is legacy, for zonecfg's fs resource.
//
// The error is ErrNoImage if the image dataset is gone, and ErrConflict if
// the container was made from another image; see [Store.RemoveContainer].
//
// It is two zfs commands for a new container.
func (s *Store) EnsureContainer(ctx context.Context, uid, container, image string) (dataset string, err error) {
	if err := errors.Join(checkWord("pod", uid), checkWord("container", container), checkWord("image", image)); err != nil {
		return "", err
	}
	name := s.containerName(uid, container)
	if err := s.cloneImage(ctx, name, image, "mountpoint=legacy"); err != nil {
		return "", err
	}
	// A container that exists without its snapshot has never been started: the
	// crash came between the two commands.
	if _, err := s.zfs(ctx, "snapshot", name+"@"+startSnapshot); err != nil && !errors.Is(err, ErrExists) {
		return "", err
	}
	return name, nil
}

// ResetContainer takes a container's root back to what it was before its first
// start, whether or not a zone has it mounted.
func (s *Store) ResetContainer(ctx context.Context, uid, container string) error {
	if err := errors.Join(checkWord("pod", uid), checkWord("container", container)); err != nil {
		return err
	}
	_, err := s.zfs(ctx, "rollback", "-r", s.containerName(uid, container)+"@"+startSnapshot)
	return err
}

// RemoveContainer destroys a container's root. An absent one is fine.
func (s *Store) RemoveContainer(ctx context.Context, uid, container string) error {
	if err := errors.Join(checkWord("pod", uid), checkWord("container", container)); err != nil {
		return err
	}
	return s.destroyChild(ctx, uid, s.containerName(uid, container))
}

// EnsureVolume makes a volume that lives as long as its pod and returns its
// dataset, whose mountpoint is legacy. limit is its quota in bytes; 0 means
// none but the pod's. It is one zfs command for a new volume.
func (s *Store) EnsureVolume(ctx context.Context, uid, volume string, limit int64) (dataset string, err error) {
	if err := errors.Join(checkWord("pod", uid), checkWord("volume", volume)); err != nil {
		return "", err
	}
	name := s.podName(uid) + "/v-" + volume
	err = s.create(ctx, name, "mountpoint=legacy", "quota="+size(limit))
	if !errors.Is(err, ErrExists) {
		return name, err
	}
	p, err := s.get(ctx, name, "quota")
	if err != nil {
		return "", err
	}
	if have, err := parseSize(p["quota"].value); err != nil || have == limit {
		return name, err
	}
	_, err = s.zfs(ctx, "set", "quota="+size(limit), name)
	return name, err
}

// EnsureImageVolume makes a volume that shows an image read-only, for as long
// as its pod lives, and returns its dataset, whose mountpoint is legacy. It is a
// clone, so the image stays for as long. The error is ErrNoImage if the image
// dataset is gone, and ErrConflict if the volume shows another image.
func (s *Store) EnsureImageVolume(ctx context.Context, uid, volume, image string) (dataset string, err error) {
	if err := errors.Join(checkWord("pod", uid), checkWord("volume", volume), checkWord("image", image)); err != nil {
		return "", err
	}
	name := s.podName(uid) + "/i-" + volume
	return name, s.cloneImage(ctx, name, image, "mountpoint=legacy", "readonly=on")
}

// cloneImage makes a dataset of a pod that starts as an image. One that is
// there must come from the same image.
func (s *Store) cloneImage(ctx context.Context, name, image string, properties ...string) error {
	origin := s.snapName(image)
	err := s.clone(ctx, origin, name, properties...)
	switch {
	case errors.Is(err, ErrExists):
		p, err := s.get(ctx, name, "origin")
		if err != nil {
			return err
		}
		if got := p["origin"].value; got != origin {
			return fmt.Errorf("storage: dataset %s: %w: %s, not %s", name, ErrConflict, got, origin)
		}
		return nil
	case errors.Is(err, ErrNotFound):
		s.forgetImage(image)
		return fmt.Errorf("storage: image %s: %w: %w", image, ErrNoImage, err)
	}
	return err
}

// removeDelays are the pauses between tries to destroy a dataset that is busy:
// a zone that was just halted may hold its mounts for a moment.
var removeDelays = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second}

// RemovePod destroys a pod's dataset with its containers and volumes. An
// absent pod is fine. A busy dataset is tried again for some seconds; after
// that the error is ErrBusy and the caller tries later.
func (s *Store) RemovePod(ctx context.Context, uid string) error {
	if err := checkWord("pod", uid); err != nil {
		return err
	}
	return retryBusy(ctx, func() error { return s.destroy(ctx, s.podName(uid), uidProperty, uid) })
}

// retryBusy calls f until it says something else than ErrBusy, a few times.
func retryBusy(ctx context.Context, f func() error) error {
	err := f()
	for _, d := range removeDelays {
		if !errors.Is(err, ErrBusy) {
			return err
		}
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
			t.Stop()
			return errors.Join(context.Cause(ctx), err)
		case <-t.C:
		}
		err = f()
	}
	return err
}

// destroyChild destroys a dataset below a pod, if the pod is ours.
func (s *Store) destroyChild(ctx context.Context, uid, name string) error {
	p, err := s.get(ctx, s.podName(uid), uidProperty)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case !p[uidProperty].local(uid):
		return fmt.Errorf("storage: dataset %s: %w", s.podName(uid), ErrForeign)
	}
	return retryBusy(ctx, func() error {
		_, err := s.zfs(ctx, "destroy", "-r", name)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
}

// Pods lists the pod datasets that are ours, by one zfs command.
func (s *Store) Pods(ctx context.Context) ([]Pod, error) {
	out, err := s.zfs(ctx, "list", "-Hp", "-o", "name,"+uidProperty+",creation", "-t", "filesystem", "-d", "1", s.name+"/pods")
	if err != nil {
		return nil, err
	}
	return s.parsePods(out)
}

func (s *Store) parsePods(out []byte) ([]Pod, error) {
	rows, err := parseRows(out, 3)
	if err != nil {
		return nil, err
	}
	var pods []Pod
	for _, r := range rows {
		uid, ok := strings.CutPrefix(r[0], s.name+"/pods/")
		if !ok || r[1] != uid || checkWord("pod", uid) != nil {
			continue // the parent itself, or not ours
		}
		created, err := parseSize(r[2])
		if err != nil {
			return nil, err
		}
		pods = append(pods, Pod{UID: uid, Created: time.Unix(created, 0)})
	}
	return pods, nil
}

func (s *Store) containerName(uid, container string) string {
	return s.podName(uid) + "/c-" + container
}

// size renders a limit in bytes for zfs.
func size(n int64) string {
	if n <= 0 {
		return "none"
	}
	return strconv.FormatInt(n, 10)
}
