package images

import (
	"fmt"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// HostPrograms are the programs that the Helm chart runs as host pods.
type HostPrograms struct {
	Clusterip, Reddwarf string // their files
}

// HostImage returns the chart's image: the programs and nothing else. It sets no
// PATH, so that they find the host's commands.
func (p HostPrograms) HostImage(platform v1.Platform) (v1.Image, error) {
	entries := []Entry{Dir("tmp")}
	for name, file := range map[string]string{"clusterip": p.Clusterip, "reddwarf": p.Reddwarf} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("host image: %w", err)
		}
		entries = append(entries, Entry{Path: name, Mode: 0o755, Data: data})
	}
	layer, err := Layer(sorted(entries)...)
	if err != nil {
		return nil, fmt.Errorf("host image: %w", err)
	}
	return Image(platform, v1.Config{Entrypoint: []string{"/clusterip"}, WorkingDir: "/"}, layer)
}

// sorted returns entries in the order of their paths, so that the same programs
// give the same digest.
func sorted(entries []Entry) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return entries
}
