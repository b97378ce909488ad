package podinit

import (
	"fmt"
	"path/filepath"
)

// The layout of a host pod: one whose containers are processes of the global
// zone. Its directory is what the zonepath is for a zone, and podinit is given
// its name. There is no zone that could mount anything, so what a pod zone has
// at SpecDir, RunDir and LogDir lies there as the host made it, the containers'
// roots are mounted below HostRoot, and HostFile says where the volumes are.
const (
	HostSpecDir = "spec"
	HostRunDir  = "run"
	HostLogDir  = "logs"
	HostRoot    = "root"

	// HostFile is a HostPod in JSON. It lies in the pod's directory, which only
	// root can enter.
	HostFile = "host.json"

	// HostLockFile is locked (fcntl(2)) by the pod's podinit for as long as it
	// lives, so the lock says whether there is one, and which process it is.
	HostLockFile = "host.lock"

	// HostConsole gets what podinit has to say.
	HostConsole = "console.log"
)

// HostPod is what a host pod's podinit is told beside the Spec.
type HostPod struct {
	Version int                   `json:"version"`
	Volumes map[string]HostVolume `json:"volumes,omitempty"` // by name
}

// HostVolume is where a volume of a host pod is.
type HostVolume struct {
	Path     string `json:"path"` // absolute
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// ParseHostPod reads a HostPod. It has no fields that podinit does not know:
// a newer agent's promise that an older podinit would not keep is an error.
func ParseHostPod(data []byte) (HostPod, error) {
	var h HostPod
	if err := strict(data, &h); err != nil {
		return HostPod{}, fmt.Errorf("podinit: host pod: %w", err)
	}
	if h.Version != Version {
		return HostPod{}, fmt.Errorf("podinit: host pod: version %d, want %d", h.Version, Version)
	}
	for name, v := range h.Volumes {
		if !filepath.IsAbs(v.Path) {
			return HostPod{}, fmt.Errorf("podinit: host pod: volume %s: %q is not an absolute path", name, v.Path)
		}
	}
	return h, nil
}
