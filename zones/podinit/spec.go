// Package podinit is the contract between the agent and podinit, the process 1
// of a pod zone: where things are in the zone, what podinit is asked to run,
// what it reports, and the messages between the two.
//
// The agent writes the Spec before the zone boots; podinit starts the
// containers it marks without being asked again. Everything after that goes
// over one channel (see Client). A State comes from a zone, which a hostile
// workload may control: it is bounded, strictly parsed, and believed about
// that zone only.
package podinit

import (
	"net/netip"
	"time"
)

// Version is the version of the contract. podinit refuses a Spec of another
// version, and the agent a State of another version.
const Version = 1

// Where things are inside a pod zone. The host side of the first three are
// directories of the zone's dataset, mounted with lofs; none is visible inside
// a container's root.
const (
	SpecDir      = "/reddwarf/spec" // written by the host, read-only in the zone
	RunDir       = "/reddwarf/run"  // written by podinit: socket and state
	LogDir       = "/reddwarf/logs" // written by podinit: CONTAINER/ATTEMPT.log
	ContainerDir = "/c"             // container roots, /c/NAME
	SpareDir     = "/e"             // roots that came after the boot, /e/NUMBER
	VolumeDir    = "/v"             // volumes, /v/NAME

	SpecFile   = "pod.json"     // in SpecDir
	StateFile  = "state.json"   // in RunDir
	SocketFile = "podinit.sock" // in RunDir
)

// Spec is what podinit is told before its zone boots.
type Spec struct {
	Version  int    `json:"version"`
	PodUID   string `json:"podUID"`
	Hostname string `json:"hostname"`

	// Network is what podinit plumbs itself. It is nil where the brand's own
	// init does that (lx).
	Network *Network `json:"network,omitempty"`

	// HostSystem makes the zone's /usr, /lib and /native/sbin, which are the
	// host's, part of every container: as /usr, /lib and /sbin.
	HostSystem bool `json:"hostSystem,omitempty"`

	// Volumes are those that podinit makes ready before any container starts.
	Volumes []Volume `json:"volumes,omitempty"`

	Containers []Container `json:"containers"`
}

// Volume is a volume /v/NAME that the zone writes. Where its root is as a new
// file system's is, it gets Mode, or everybody may write there: the host cannot
// see to that, because only the zone has it mounted.
type Volume struct {
	Name string `json:"name"`
	Mode *int32 `json:"mode,omitempty"` // permissions, and 01000 for the sticky bit

	// Keep is for a volume that outlives the pod: it is not opened to everybody.
	Keep bool `json:"keep,omitempty"`

	// Group is made the group of all that is in the volume, with the right to
	// read and write it, if it is set (fsGroup). RootOnly leaves it at that
	// where the volume's root looks so already (OnRootMismatch).
	Group    *int64 `json:"group,omitempty"`
	RootOnly bool   `json:"rootOnly,omitempty"`
}

// Network is the one interface of a zone whose brand leaves it to podinit.
type Network struct {
	Interface string         `json:"interface"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways"`
}

// Container is one process tree with a root of its own. It is complete: every
// name is resolved to a number and every variable expanded by the agent, but
// for users given by name, which only the image's own files can resolve.
type Container struct {
	Name string `json:"name"`

	// Spare is the number of the container's root below SpareDir, for one that
	// came after the zone's boot; 0 for one with a root of its own in
	// ContainerDir. Such a container need not be in the Spec.
	Spare int `json:"spare,omitempty"`

	// Attempt counts the starts, from 0. Logs and states are kept by it.
	Attempt int `json:"attempt"`

	// Start makes podinit start this container as soon as it has read the
	// spec. Others wait for Client.Start.
	Start bool `json:"start"`

	Args []string `json:"args"` // argv; Args[0] is looked up in Env's PATH below the root
	Env  []string `json:"env"`  // KEY=VALUE, in order
	Dir  string   `json:"dir"`  // working directory; made if missing, as a kubelet's runtime does

	// User is "", "UID", "UID:GID", "NAME" or "NAME:GROUP", as in an OCI image;
	// names are looked up in the root's /etc/passwd and /etc/group. RunAsUser
	// and RunAsGroup, where set, win over it.
	User               string  `json:"user,omitempty"`
	RunAsUser          *int64  `json:"runAsUser,omitempty"`
	RunAsGroup         *int64  `json:"runAsGroup,omitempty"`
	RunAsNonRoot       bool    `json:"runAsNonRoot,omitempty"`
	SupplementalGroups []int64 `json:"supplementalGroups,omitempty"`
	// StrictGroups leaves out the groups that the image says the user is in.
	StrictGroups bool `json:"strictGroups,omitempty"`

	NoNewPrivileges  bool     `json:"noNewPrivileges,omitempty"`
	ReadOnlyRoot     bool     `json:"readOnlyRoot,omitempty"`
	AddCapabilities  []string `json:"addCapabilities,omitempty"`  // Linux names without CAP_
	DropCapabilities []string `json:"dropCapabilities,omitempty"` // may be ALL

	TTY       bool `json:"tty,omitempty"`
	Stdin     bool `json:"stdin,omitempty"`
	StdinOnce bool `json:"stdinOnce,omitempty"`

	Mounts []Mount `json:"mounts,omitempty"`

	// TerminationMessagePath is a file in the container's root that podinit
	// makes before the start and reads, bounded, after the exit.
	TerminationMessagePath string `json:"terminationMessagePath,omitempty"`
}

// Mount makes something of the zone visible in a container's root. Exactly one
// of Volume and File is set.
type Mount struct {
	Volume  string `json:"volume,omitempty"`  // a directory /v/VOLUME
	SubPath string `json:"subPath,omitempty"` // below it, resolved inside the zone
	File    string `json:"file,omitempty"`    // a file of SpecDir, such as "hosts"
	Target  string `json:"target"`            // absolute path in the container's root

	ReadOnly bool `json:"readOnly,omitempty"`
}

// State is what podinit reports, in StateFile and over the channel.
type State struct {
	Version    int              `json:"version"`
	PodUID     string           `json:"podUID"`
	Boot       string           `json:"boot"` // random, new at every boot of the zone
	Containers []ContainerState `json:"containers"`
}

// ContainerUsage is what the running attempt of a container has used: its
// processes, without any that left both its root and its sessions. CPU is the
// time of all processors since the attempt began and never falls; RSS is in
// bytes and counts memory that processes share once for each.
type ContainerUsage struct {
	Name    string        `json:"name"`
	Attempt int           `json:"attempt"`
	CPU     time.Duration `json:"cpu"`
	RSS     uint64        `json:"rss"`
	At      time.Time     `json:"at"`
}

// Phase is where a container's newest attempt stands.
type Phase string

// The phases of a container.
const (
	Waiting Phase = "waiting" // not started in this boot
	Running Phase = "running"
	Exited  Phase = "exited" // gone, with its whole process tree and its mounts
)

// ContainerState is the newest attempt of one container. Exit codes of earlier
// attempts are the agent's to keep.
type ContainerState struct {
	Name       string    `json:"name"`
	Attempt    int       `json:"attempt"`
	Phase      Phase     `json:"phase"`
	PID        int       `json:"pid,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`

	ExitCode int `json:"exitCode"`         // 128+signal for a death by signal, as a kubelet reports it
	Signal   int `json:"signal,omitempty"` // the signal that ended it

	// StartError says why the attempt never ran: "exec: "/x": no such file",
	// an unknown user, a mount that cannot be made. ExitCode is then 128.
	StartError string `json:"startError,omitempty"`

	// ConfigError says why the attempt could not be made ready, of one that waits
	// and may be started again: a subPath that leads out of its volume.
	ConfigError string `json:"configError,omitempty"`

	// Message is the termination message, at most 4096 bytes.
	Message string `json:"message,omitempty"`

	// UID, GID and Groups are what the process was started as, for the status
	// and the check of runAsNonRoot. GID is one of Groups.
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}
