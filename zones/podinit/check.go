package podinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Bounds of what either side accepts from the other.
const (
	MaxSpec       = 8 << 20 // bytes of SpecFile
	MaxContainers = 256
	MaxMessage    = 4096    // bytes of a termination message, as a kubelet's
	MaxSpare      = 255     // the highest place below SpareDir
	MaxFile       = 1 << 20 // bytes of a file that is read from a volume
	maxPath       = 4096
	maxName       = 63
	maxGroups     = 1024
	maxErrorText  = 4096
	maxAttempt    = 1 << 30
)

// ParseSpec decodes and checks a Spec. Fields it does not know are an error.
func ParseSpec(data []byte) (Spec, error) {
	if len(data) > MaxSpec {
		return Spec{}, fmt.Errorf("podinit: spec: more than %d bytes", MaxSpec)
	}
	var s Spec
	if err := strict(data, &s); err != nil {
		return Spec{}, fmt.Errorf("podinit: spec: %w", err)
	}
	if err := s.Validate(); err != nil {
		return Spec{}, fmt.Errorf("podinit: spec: %w", err)
	}
	return s, nil
}

// Validate reports every fault of s.
func (s Spec) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Version != Version {
		fault("version %d, not %d", s.Version, Version)
	}
	if !plain(s.PodUID, 64) {
		fault("pod uid %q", s.PodUID)
	}
	if s.Hostname != "" && !plain(s.Hostname, 64) {
		fault("hostname %q", s.Hostname)
	}
	if n := s.Network; n != nil && (!plain(n.Interface, 32) || len(n.Addresses) == 0) {
		fault("network: interface %q with %d addresses", n.Interface, len(n.Addresses))
	}
	if len(s.Containers) > MaxContainers {
		fault("%d containers, more than %d", len(s.Containers), MaxContainers)
	}
	for _, v := range s.Volumes {
		if err := checkName(v.Name); err != nil {
			fault("volume: %w", err)
		}
		if v.Mode != nil && (*v.Mode < 0 || *v.Mode > 0o1777) {
			fault("volume %q: mode %o", v.Name, *v.Mode)
		}
		if v.Group != nil && (*v.Group < 0 || *v.Group > 1<<31-1) {
			fault("volume %q: group id %d", v.Name, *v.Group)
		}
	}
	seen := map[string]bool{}
	for _, c := range s.Containers {
		if err := c.Validate(); err != nil {
			fault("container %q: %w", c.Name, err)
		}
		if seen[c.Name] {
			fault("container %q: twice", c.Name)
		}
		seen[c.Name] = true
	}
	return errors.Join(errs...)
}

// Validate reports every fault of c that shows without its root.
func (c Container) Validate() error {
	errs := []error{checkName(c.Name), checkStrings(c.Args, c.Env)}
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Attempt < 0 || c.Attempt > maxAttempt {
		fault("attempt %d", c.Attempt)
	}
	if c.Spare < 0 || c.Spare > MaxSpare {
		fault("place %d of a root", c.Spare)
	}
	if len(c.Args) == 0 {
		fault("no program to run")
	}
	if c.Dir != "" && !absolute(c.Dir) {
		fault("working directory %q is not absolute", c.Dir)
	}
	if c.TerminationMessagePath != "" && !absolute(c.TerminationMessagePath) {
		fault("termination message path %q is not absolute", c.TerminationMessagePath)
	}
	for _, id := range slices.Concat(ids(c.RunAsUser), ids(c.RunAsGroup), c.SupplementalGroups) {
		if id < 0 || id > 1<<31-1 {
			fault("user or group id %d", id)
		}
	}
	for _, m := range c.Mounts {
		errs = append(errs, m.validate())
	}
	return errors.Join(errs...)
}

func ids(p *int64) []int64 {
	if p == nil {
		return nil
	}
	return []int64{*p}
}

func (m Mount) validate() error {
	switch {
	case (m.Volume == "") == (m.File == ""):
		return fmt.Errorf("mount %q: not exactly one of volume and file", m.Target)
	case !absolute(m.Target) || path.Clean(m.Target) == "/":
		return fmt.Errorf("mount %q: target", m.Target)
	case m.Volume != "" && checkName(m.Volume) != nil:
		return fmt.Errorf("mount %q: volume %q", m.Target, m.Volume)
	case m.File != "" && (!plain(m.File, 255) || m.SubPath != ""):
		return fmt.Errorf("mount %q: file %q", m.Target, m.File)
	case strings.ContainsRune(m.SubPath, 0) || path.IsAbs(m.SubPath) ||
		slices.Contains(strings.Split(m.SubPath, "/"), ".."):
		return fmt.Errorf("mount %q: sub-path %q", m.Target, m.SubPath)
	}
	return nil
}

func absolute(p string) bool {
	return path.IsAbs(p) && len(p) < maxPath && !strings.ContainsRune(p, 0)
}

// checkName accepts what Kubernetes calls a DNS label: it is used as a
// directory's name.
func checkName(name string) error {
	ok := len(name) > 0 && len(name) <= maxName && name[0] != '-'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("bad name %q", name)
	}
	return nil
}

// plain accepts words that are safe as a file name and in any message.
func plain(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return false
		}
	}
	return true
}

func checkStrings(lists ...[]string) error {
	for _, list := range lists {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return fmt.Errorf("a NUL byte in %q", s)
			}
		}
	}
	return nil
}

// ParseState decodes and checks a State that a zone gave. Everything in it is
// bounded and of a form that can be passed on; whether it is true only the
// zone knows. Fields it does not know are ignored: the zone may run a newer
// podinit than the agent that adopted it.
func ParseState(data []byte) (State, error) {
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("%w: state: %w", ErrProtocol, err)
	}
	if err := s.validate(); err != nil {
		return State{}, fmt.Errorf("%w: state: %w", ErrProtocol, err)
	}
	return s, nil
}

func (s State) validate() error {
	if s.Version != Version {
		return fmt.Errorf("version %d, not %d", s.Version, Version)
	}
	if !plain(s.PodUID, 64) || !plain(s.Boot, 64) {
		return errors.New("pod uid or boot id")
	}
	if len(s.Containers) > MaxContainers {
		return fmt.Errorf("%d containers", len(s.Containers))
	}
	seen := map[string]bool{}
	for _, c := range s.Containers {
		if seen[c.Name] {
			return fmt.Errorf("container %q twice", c.Name)
		}
		seen[c.Name] = true
		if err := c.validate(); err != nil {
			return fmt.Errorf("container %.64q: %w", c.Name, err)
		}
	}
	return nil
}

func (c ContainerState) validate() error {
	switch {
	case checkName(c.Name) != nil:
		return errors.New("bad name")
	case c.Phase != Waiting && c.Phase != Running && c.Phase != Exited:
		return fmt.Errorf("phase %.32q", c.Phase)
	case c.Attempt < 0 || c.Attempt > maxAttempt:
		return fmt.Errorf("attempt %d", c.Attempt)
	case c.ExitCode < 0 || c.ExitCode > 255 || c.Signal < 0 || c.Signal > 127:
		return fmt.Errorf("exit code %d, signal %d", c.ExitCode, c.Signal)
	case c.PID < 0 || c.UID < -1 || c.GID < -1 || c.UID > 1<<32-1 || c.GID > 1<<32-1:
		return errors.New("process, user or group id")
	case len(c.Groups) > maxGroups || slices.ContainsFunc(c.Groups, func(g int64) bool { return g < 0 || g > 1<<32-1 }):
		return errors.New("groups")
	case len(c.Message) > 3*MaxMessage || len(c.StartError) > 3*maxErrorText || len(c.ConfigError) > 3*maxErrorText:
		// A byte that is not UTF-8 arrives as a replacement of three bytes.
		return errors.New("message too long")
	case !sane(c.StartedAt) || !sane(c.FinishedAt):
		return errors.New("time out of range")
	}
	return nil
}

func sane(t time.Time) bool {
	return t.IsZero() || t.Year() >= 1970 && t.Year() <= 9999
}

func (u ContainerUsage) validate() error {
	if err := checkName(u.Name); err != nil {
		return err
	}
	if u.Attempt < 0 || u.CPU < 0 || u.RSS > math.MaxInt64 {
		return fmt.Errorf("container %s: attempt %d, cpu %d, rss %d", u.Name, u.Attempt, u.CPU, u.RSS)
	}
	return nil
}
