package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// property is one value of a dataset as zfs get prints it.
type property struct {
	value  string
	source string
}

// local tells whether the property was set on the dataset itself, to value.
func (p property) local(value string) bool {
	return p.source == "local" && p.value == value
}

// zfs runs one zfs command and classifies its failure.
func (s *Store) zfs(ctx context.Context, args ...string) ([]byte, error) {
	out, err := s.run.Run(ctx, command.New("zfs", args...))
	if err != nil {
		return nil, fmt.Errorf("storage: %w", classify(err))
	}
	return out, nil
}

// create makes a file system with the given properties ("name=value").
func (s *Store) create(ctx context.Context, name string, properties ...string) error {
	args := []string{"create"}
	for _, p := range properties {
		args = append(args, "-o", p)
	}
	_, err := s.zfs(ctx, append(args, name)...)
	return err
}

// clone makes a file system that starts as the snapshot.
func (s *Store) clone(ctx context.Context, snapshot, name string, properties ...string) error {
	args := []string{"clone"}
	for _, p := range properties {
		args = append(args, "-o", p)
	}
	_, err := s.zfs(ctx, append(args, snapshot, name)...)
	return err
}

// get reads properties of one dataset.
func (s *Store) get(ctx context.Context, name string, properties ...string) (map[string]property, error) {
	out, err := s.zfs(ctx, "get", "-Hp", "-o", "property,value,source", strings.Join(properties, ","), name)
	if err != nil {
		return nil, err
	}
	rows, err := parseRows(out, 3)
	if err != nil {
		return nil, err
	}
	m := make(map[string]property, len(rows))
	for _, r := range rows {
		m[r[0]] = property{value: r[1], source: r[2]}
	}
	for _, p := range properties {
		if _, ok := m[p]; !ok {
			return nil, fmt.Errorf("storage: zfs get: property %s of %s is missing", p, name)
		}
	}
	return m, nil
}

// mount mounts a file system unless it is mounted. A crash can come between
// the two halves of zfs create, and an administrator can unmount.
func (s *Store) mount(ctx context.Context, name string) error {
	p, err := s.get(ctx, name, "mounted")
	if err != nil || p["mounted"].value == "yes" {
		return err
	}
	_, err = s.zfs(ctx, "mount", name)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// destroy removes a dataset with its children and snapshots, if it carries
// our mark. An absent dataset is fine.
func (s *Store) destroy(ctx context.Context, name, mark, value string) error {
	p, err := s.get(ctx, name, mark)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case !p[mark].local(value):
		return fmt.Errorf("storage: dataset %s: %w: %s is %q (source %q)", name, ErrForeign, mark, p[mark].value, p[mark].source)
	}
	_, err = s.zfs(ctx, "destroy", "-r", name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// parseRows splits what zfs prints under -H: lines of fields between tabs.
func parseRows(out []byte, fields int) ([][]string, error) {
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Split(line, "\t")
		if len(f) != fields {
			return nil, fmt.Errorf("storage: zfs printed %d fields, want %d: %q", len(f), fields, line)
		}
		rows = append(rows, f)
	}
	return rows, nil
}

// parseSize reads a number that zfs prints under -p. What a dataset does not
// have is "-", and a limit that is not set is "none" or 0.
func parseSize(s string) (int64, error) {
	if s == "-" || s == "none" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("storage: zfs printed %q for a size", s)
	}
	return n, nil
}
