package ledger

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones/podinit"
)

// State is what the agent decided about a pod and what it saw of it.
type State struct {
	Version int    `json:"version"`
	UID     string `json:"uid"`

	// Accepted is when the pod was first seen: its status.startTime.
	Accepted time.Time `json:"accepted,omitzero"`

	// Brand is the brand of the pod's zone, "" until an image has decided.
	Brand string `json:"brand,omitempty"`

	// Slot is the number of the pod's VNIC, 0 while it has none, and
	// Addresses are its addresses. Both stay the pod's until its zone's
	// configuration is gone; see Released.
	Slot      int          `json:"slot,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`

	// Boot is podinit's name for the zone's present boot: "" before the first
	// and after a boot whose end was taken in, BootPending from before the
	// zone is booted until podinit was heard of.
	Boot string `json:"boot,omitempty"`

	// Boots counts the boots that were taken in as ended without our doing.
	Boots int `json:"boots,omitempty"`

	// Containers are the init containers in their order, then the others.
	Containers []Container `json:"containers,omitempty"`

	// Places is how many of the pod's places for later roots were given to
	// containers whose image was changed, from the last place downwards. It falls
	// to 0 when the zone is prepared for another boot.
	Places int `json:"places,omitempty"`

	// VolumeImages are what the pod's image volumes were resolved to, by volume.
	VolumeImages map[string]Image `json:"volumeImages,omitempty"`

	// Initialized is set while the init containers of the present boot have
	// done their work: once another container has run.
	Initialized bool `json:"initialized,omitempty"`

	// RestartAll is set while all containers are restarted because one of them
	// ended as its rule for that says.
	RestartAll RestartAll `json:"restartAll,omitempty"`

	// Allocated are the resources that were granted to the pod: those that it
	// was accepted with, or a newer wish that this node had room for.
	// Configured are those that its zone's configuration has, and Applied those
	// that its running zone has; both are nil until there is one.
	Allocated  Resources `json:"allocated,omitempty"`
	Configured Resources `json:"configured,omitempty"`
	Applied    Resources `json:"applied,omitempty"`

	// Refused is how many allocations the cap on memory had made fail in the
	// present boot when a container last failed.
	Refused uint64 `json:"refused,omitempty"`

	// Pending is set while the pod wishes for resources that it has not been
	// granted, and Resizing while it has been but its zone has not got them.
	Pending  *Resize `json:"pending,omitempty"`
	Resizing *Resize `json:"resizing,omitempty"`

	// End is set once the pod will never run again.
	End *End `json:"end,omitempty"`

	// Released is set once an ended pod has nothing of the host any more but its
	// logs. Addresses are then those that it had, and may be another pod's.
	Released bool `json:"released,omitempty"`

	// Acknowledged is set when the API server has taken the status of End.
	Acknowledged bool `json:"acknowledged,omitempty"`

	// Deletion is set once the pod is to be removed from the host.
	Deletion *Deletion `json:"deletion,omitempty"`
}

// BootPending is the Boot of a zone that may have been booted and was not heard
// of yet. If podinit left no state either, it was not booted.
const BootPending = "pending"

// RestartAll is how far the restart of all containers has come.
type RestartAll string

const (
	RestartEnding   RestartAll = "ending"   // those that run are killed, and none starts
	RestartStarting RestartAll = "starting" // of an initialized pod: its init containers run again
)

// End is how a pod's life ended.
type End struct {
	Phase   corev1.PodPhase `json:"phase"` // PodSucceeded or PodFailed
	Reason  string          `json:"reason,omitempty"`
	Message string          `json:"message,omitempty"`
	At      time.Time       `json:"at"`

	// Refused is set for a pod that was never let in: it has no containers.
	Refused bool `json:"refused,omitempty"`

	// Disrupted is set for a pod that had to go for the sake of the node.
	Disrupted bool `json:"disrupted,omitempty"`

	// Grace is how long after At containers that still run may take to stop;
	// 0 means what the pod says.
	Grace time.Duration `json:"grace,omitempty"`
}

// Deletion is a request to remove a pod.
type Deletion struct {
	// At is when the agent first heard of the request.
	At time.Time `json:"at"`

	// Grace is how long after At the containers may take to stop. A later,
	// shorter request lowers it, as the API server allows.
	Grace time.Duration `json:"grace"`
}

// Deadline is when the containers are killed.
func (d Deletion) Deadline() time.Time { return d.At.Add(d.Grace) }

// Image is what a container's image reference was resolved to. It stays what
// it was until the pod names another one.
type Image struct {
	Ref        string   `json:"ref"`     // as in the pod
	ID         string   `json:"id"`      // digest of the configuration, sha256:…
	Digest     string   `json:"digest"`  // repository@digest, "" for local images
	Dataset    string   `json:"dataset"` // name below the image datasets
	OS         string   `json:"os,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	StopSignal string   `json:"stopSignal,omitempty"`
}

// Container is one container of a pod.
type Container struct {
	Name  string `json:"name"`
	Image *Image `json:"image,omitempty"` // nil until it is on the host

	// Place is where Image's root is in the zone as it runs, of a container whose
	// image was changed meanwhile; 0 for the root that the zone was booted with.
	Place int `json:"place,omitempty"`

	// Attempt is the newest attempt that was decided on, from 0; it is the
	// container's restart count. It is durable before podinit hears of it.
	Attempt int `json:"attempt"`

	// Phase is where that attempt stands, as last seen. StartedAt belongs to
	// it; Exit is set when Phase is podinit.Exited.
	Phase     podinit.Phase `json:"phase"`
	StartedAt time.Time     `json:"startedAt,omitzero"`
	Exit      *Exit         `json:"exit,omitempty"`

	// Last is how the attempt before ended.
	Last *Exit `json:"last,omitempty"`

	// Backoff is the delay before the restart after the next exit, and
	// NotBefore the time before which the next attempt must not start.
	Backoff   time.Duration `json:"backoff,omitempty"`
	NotBefore time.Time     `json:"notBefore,omitzero"`

	// Started and Ready are the verdicts of the probes on this attempt, kept
	// so that a new agent goes on from them.
	Started bool `json:"started,omitempty"`
	Ready   bool `json:"ready,omitempty"`

	// Hooked is set when this attempt's postStart hook has succeeded. It means
	// nothing for a container without one.
	Hooked bool `json:"hooked,omitempty"`

	// User is what the newest attempt that ran was started as.
	User *User `json:"user,omitempty"`

	// Stop is set while this attempt is to end though its pod goes on.
	Stop *Stop `json:"stop,omitempty"`
}

// User is the identity of a process.
type User struct {
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}

// Stop is a wish to end one attempt of a container, which then counts as any
// other exit.
type Stop struct {
	At    time.Time     `json:"at"`
	Grace time.Duration `json:"grace"`

	// Message is what the event says; empty for "Stopping container NAME".
	Message string `json:"message,omitempty"`

	// Restart makes another attempt follow whatever the exit code.
	Restart bool `json:"restart,omitempty"`
}

// Exit is how one attempt ended.
type Exit struct {
	Attempt    int       `json:"attempt"`
	Code       int       `json:"code"`
	Signal     int       `json:"signal,omitempty"`
	Reason     string    `json:"reason"` // Completed, Error, StartError, ContainerStatusUnknown
	Message    string    `json:"message,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
}

// Container returns the record of the container of that name, or nil.
func (s *State) Container(name string) *Container {
	for i := range s.Containers {
		if s.Containers[i].Name == name {
			return &s.Containers[i]
		}
	}
	return nil
}

// Clone returns a copy that shares nothing that is ever changed in place.
func (s State) Clone() State {
	c := s
	c.Addresses = append([]netip.Addr(nil), s.Addresses...)
	c.Containers = append([]Container(nil), s.Containers...)
	for i := range c.Containers {
		c.Containers[i].Exit = clone(c.Containers[i].Exit)
		c.Containers[i].Last = clone(c.Containers[i].Last)
		c.Containers[i].Image = clone(c.Containers[i].Image)
		c.Containers[i].Stop = clone(c.Containers[i].Stop)
		c.Containers[i].User = clone(c.Containers[i].User)
	}
	c.Allocated, c.Configured, c.Applied = s.Allocated.Clone(), s.Configured.Clone(), s.Applied.Clone()
	c.Pending, c.Resizing = clone(s.Pending), clone(s.Resizing)
	c.VolumeImages = maps.Clone(s.VolumeImages) // images are never changed in place
	c.End = clone(s.End)
	c.Deletion = clone(s.Deletion)
	return c
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// check refuses what this version of the agent would misread.
func (s State) check() error {
	if s.Version != Version {
		return fmt.Errorf("state has version %d, want %d", s.Version, Version)
	}
	if s.Slot < 0 {
		return fmt.Errorf("state has slot %d", s.Slot)
	}
	switch s.RestartAll {
	case "", RestartEnding, RestartStarting:
	default:
		return fmt.Errorf("state has a restart that is %q", s.RestartAll)
	}
	if s.Places < 0 {
		return fmt.Errorf("state has %d places taken", s.Places)
	}
	seen := make(map[string]bool)
	for _, c := range s.Containers {
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("state names container %q twice or not at all", c.Name)
		}
		if c.Attempt < 0 || c.Place < 0 {
			return fmt.Errorf("container %s has attempt %d and place %d", c.Name, c.Attempt, c.Place)
		}
		seen[c.Name] = true
	}
	if s.End != nil && s.End.Phase != corev1.PodSucceeded && s.End.Phase != corev1.PodFailed {
		return fmt.Errorf("state ended in phase %q", s.End.Phase)
	}
	return nil
}
