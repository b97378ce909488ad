package storage

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
)

// Teardown destroys every dataset that is ours and whatever Setup made. It
// returns the datasets below the root that are not, which keep their parents
// from going. An absent root is fine. Zones must be gone before.
func (s *Store) Teardown(ctx context.Context) (kept []string, err error) {
	p, err := s.get(ctx, s.name, rootProperty)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !p[rootProperty].local("1") {
		return []string{s.name}, nil
	}
	pods, err := s.Pods(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	for _, p := range pods {
		if err := s.RemovePod(ctx, p.UID); err != nil {
			return nil, err
		}
	}
	if err := s.removeImages(ctx); err != nil {
		return nil, err
	}
	return s.removeRoot(ctx)
}

// removeImages destroys images, those that others were cloned from last.
func (s *Store) removeImages(ctx context.Context) error {
	for {
		images, err := s.Images(ctx)
		if err != nil {
			return err
		}
		removed := false
		for _, i := range images {
			if i.Clones > 0 {
				continue // of another image, or of somebody else: then it stays
			}
			if err := s.RemoveImage(ctx, i.ID); err != nil {
				return err
			}
			removed = true
		}
		if !removed {
			return nil
		}
	}
}

// removeRoot destroys what is left from the leaves on, as long as it is ours.
func (s *Store) removeRoot(ctx context.Context) (kept []string, err error) {
	out, err := s.zfs(ctx, "list", "-Hp", "-o", "name,"+sparesProperty, "-t", "filesystem,volume,snapshot", "-r", s.name)
	if err != nil {
		return nil, err
	}
	rows, err := parseRows(out, 2)
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{s.name: true}
	for _, child := range []string{"images", "pods", "spares"} {
		ours[s.name+"/"+child] = true
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(b[0], a[0]) }) // children before parents
	for _, r := range rows {
		name := r[0]
		block, spare := strings.CutPrefix(name, s.name+"/spares/")
		below := func(k string) bool { return strings.HasPrefix(k, name+"/") || strings.HasPrefix(k, name+"@") }
		switch {
		case slices.ContainsFunc(kept, below):
			if !ours[name] {
				kept = append(kept, name)
			}
			continue
		case spare && r[1] == block && path.Dir(name) == s.name+"/spares":
			err = s.destroy(ctx, name, sparesProperty, block)
		case ours[name]:
			_, err = s.zfs(ctx, "destroy", name)
		default:
			kept = append(kept, name)
			continue
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	slices.Sort(kept)
	return kept, nil
}
