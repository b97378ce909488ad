package mounts

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// entry is one mount.
type entry struct {
	special, point string
	readOnly       bool
}

// table returns the mounts below our directory, oldest first.
func (h *Host) table(ctx context.Context) ([]entry, error) {
	out, err := h.run.Run(ctx, command.New("mount", "-p"))
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	return parseTable(string(out), h.dir), nil
}

// parseTable reads what mount -p prints: SPECIAL - POINT FSTYPE - no OPTIONS.
// A special may hold anything, blanks among it; points of ours do not, and
// other lines are none of our business.
func parseTable(text, dir string) []entry {
	var all []entry
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		n := len(f)
		if n < 7 || f[n-2] != "no" || f[n-3] != "-" || f[n-6] != "-" {
			continue
		}
		point := f[n-5]
		if rel, err := filepath.Rel(dir, point); err != nil || !filepath.IsLocal(rel) {
			continue
		}
		all = append(all, entry{
			special: strings.Join(f[:n-6], " "), point: point, readOnly: slices.Contains(strings.Split(f[n-1], ","), "ro"),
		})
	}
	return all
}
