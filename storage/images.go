package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	// imageSnapshot completes an image dataset: without it the dataset is the
	// leftover of a crash.
	imageSnapshot = "image"
	// holdTag keeps an image snapshot from being destroyed by accident, also
	// by zoneadm(8), which destroys the origin of a clone at a zone path.
	holdTag = "reddwarf"
)

// undoTimeout bounds the removal of a dataset whose making failed: that must
// happen although the caller's context may have ended.
const undoTimeout = 30 * time.Second

// ImageDataset is one dataset below images/.
type ImageDataset struct {
	ID       string
	Parent   string // the image that it is a clone of; empty if of none
	Complete bool   // it has its snapshot
	Created  time.Time
	Used     int64 // bytes that its removal would free
	Refers   int64 // bytes of all that is in it, also what it shares with its parent
	Clones   int   // datasets that are clones of it: containers and images
	Images   int   // how many of its clones are images
}

// HasImage tells whether a complete image dataset exists. It asks the host
// once for each image; [Store.EnsureContainer] notices one that vanished.
func (s *Store) HasImage(ctx context.Context, id string) (bool, error) {
	if err := checkWord("image", id); err != nil {
		return false, err
	}
	if s.knowsImage(id) {
		return true, nil
	}
	p, err := s.get(ctx, s.snapName(id), imageProperty)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p[imageProperty].value != id {
		return false, fmt.Errorf("storage: dataset %s: %w", s.imageName(id), ErrForeign)
	}
	// The crash may have come between the snapshot and its hold.
	if err := s.hold(ctx, id); err != nil {
		return false, err
	}
	s.rememberImage(id)
	return true, nil
}

// MakeImage makes the image dataset id: it starts as the image parent, or
// empty if parent is "", and fill changes what is in the directory dir. When
// fill returns nil the dataset is completed by its snapshot, else it is
// removed and fill's error returned as it is. A complete image is left alone;
// the leftover of a crash is removed first.
func (s *Store) MakeImage(ctx context.Context, id, parent string, fill func(ctx context.Context, dir string) error) (err error) {
	have, err := s.HasImage(ctx, id)
	if err != nil || have {
		return err
	}
	if err := s.destroy(ctx, s.imageName(id), imageProperty, id); err != nil {
		return err
	}
	if err := s.startImage(ctx, id, parent); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			// A failure here leaves what the next MakeImage removes.
			_ = s.destroy(undo, s.imageName(id), imageProperty, id)
		}
	}()
	if err := fill(ctx, filepath.Join(s.ImagesDir(), id)); err != nil {
		return err
	}
	if _, err := s.zfs(ctx, "set", "readonly=on", s.imageName(id)); err != nil {
		return err
	}
	if _, err := s.zfs(ctx, "snapshot", s.snapName(id)); err != nil {
		return err
	}
	if err := s.hold(ctx, id); err != nil {
		return err
	}
	s.rememberImage(id)
	return nil
}

func (s *Store) startImage(ctx context.Context, id, parent string) error {
	mark := imageProperty + "=" + id
	if parent == "" {
		return s.create(ctx, s.imageName(id), mark)
	}
	if err := checkWord("image", parent); err != nil {
		return err
	}
	err := s.clone(ctx, s.snapName(parent), s.imageName(id), mark)
	if errors.Is(err, ErrNotFound) {
		s.forgetImage(parent)
		return fmt.Errorf("storage: image %s: %w: %w", parent, ErrNoImage, err)
	}
	return err
}

func (s *Store) hold(ctx context.Context, id string) error {
	_, err := s.zfs(ctx, "hold", holdTag, s.snapName(id))
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// RemoveImage destroys one image dataset. The error is ErrInUse while clones
// of it exist. An absent image is fine.
func (s *Store) RemoveImage(ctx context.Context, id string) error {
	if err := checkWord("image", id); err != nil {
		return err
	}
	s.forgetImage(id)
	if _, err := s.zfs(ctx, "release", holdTag, s.snapName(id)); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	err := retryBusy(ctx, func() error { return s.destroy(ctx, s.imageName(id), imageProperty, id) })
	if err != nil {
		if again := s.hold(ctx, id); again != nil && !errors.Is(again, ErrNotFound) {
			return errors.Join(err, again)
		}
	}
	return err
}

// Images lists the image datasets that are ours, complete or not, by one zfs
// command.
func (s *Store) Images(ctx context.Context) ([]ImageDataset, error) {
	out, err := s.zfs(ctx, "list", "-Hp", "-o", "name,origin,used,creation,referenced,"+imageProperty,
		"-t", "filesystem,snapshot", "-r", s.name)
	if err != nil {
		return nil, err
	}
	return s.parseImages(out)
}

func (s *Store) parseImages(out []byte) ([]ImageDataset, error) {
	rows, err := parseRows(out, 6)
	if err != nil {
		return nil, err
	}
	var images []ImageDataset
	complete, clones, children := map[string]bool{}, map[string]int{}, map[string]int{}
	for _, r := range rows {
		name, snapshot, _ := strings.Cut(r[0], "@")
		origin, _, _ := strings.Cut(r[1], "@")
		parent, _ := strings.CutPrefix(origin, s.imageName(""))
		if parent == "-" {
			parent = ""
		}
		id, ok := strings.CutPrefix(name, s.imageName(""))
		if parent != "" && snapshot == "" {
			clones[parent]++
			if ok && r[5] == id {
				children[parent]++
			}
		}
		switch {
		case !ok || r[5] != id || checkWord("image", id) != nil:
			continue
		case snapshot != "":
			complete[id] = complete[id] || snapshot == imageSnapshot
			continue
		}
		used, err := parseSize(r[2])
		if err != nil {
			return nil, err
		}
		created, err := parseSize(r[3])
		if err != nil {
			return nil, err
		}
		refers, err := parseSize(r[4])
		if err != nil {
			return nil, err
		}
		images = append(images, ImageDataset{ID: id, Parent: parent, Created: time.Unix(created, 0), Used: used, Refers: refers})
	}
	for i := range images {
		d := &images[i]
		d.Complete, d.Clones, d.Images = complete[d.ID], clones[d.ID], children[d.ID]
	}
	return images, nil
}

func (s *Store) knowsImage(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.images[id]
}

func (s *Store) rememberImage(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[id] = true
}

func (s *Store) forgetImage(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, id)
}
