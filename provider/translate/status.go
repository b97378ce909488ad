package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Waiting is why a container does not run yet.
type Waiting struct{ Reason, Message string }

// The reasons for waiting and ending, as a kubelet writes them.
const (
	ReasonContainerCreating = "ContainerCreating"
	ReasonPodInitializing   = "PodInitializing"
	ReasonCrashLoopBackOff  = "CrashLoopBackOff"
	ReasonErrImagePull      = "ErrImagePull"
	ReasonImagePullBackOff  = "ImagePullBackOff"
	ReasonInvalidImageName  = "InvalidImageName"
	ReasonErrImageNeverPull = "ErrImageNeverPull"
	ReasonConfigError       = "CreateContainerConfigError"
	ReasonCreateError       = "CreateContainerError"
	ReasonCompleted         = "Completed"
	ReasonError             = "Error"
	ReasonStartError        = "StartError"
	ReasonStatusUnknown     = "ContainerStatusUnknown"
	ReasonRestartingAll     = "RestartingAllContainers"
	ReasonDeadline          = "DeadlineExceeded"
	ReasonEvicted           = "Evicted"
	// ReasonMemoryLimit is where a kubelet has OOMKilled: nobody killed it here.
	ReasonMemoryLimit = "MemoryLimitReached"
)

// Observed is what is known of a pod when its status is written.
type Observed struct {
	Pod   *corev1.Pod // with the newest status that the API server is known to have
	Node  Node
	State ledger.State
	Now   time.Time

	// ZoneRuns tells whether the pod's zone is up: its sandbox and network.
	ZoneRuns bool

	// Outside is set while others have to make room for the pod: it was not let in
	// yet and has not started.
	Outside bool

	// Spares is how many ephemeral containers a pod can have.
	Spares int

	// Waiting are the reasons of containers that could not be started, by
	// container. Others that wait are being created.
	Waiting map[string]Waiting
}

// Status returns the whole status of a pod. Conditions that others wrote, and
// the time of the last transition of those that did not change, are taken over
// from Pod.
func Status(o Observed) corev1.PodStatus {
	s := *o.Pod.Status.DeepCopy()
	s.ObservedGeneration = o.Pod.Generation
	if !o.Outside {
		started := metav1.NewTime(o.State.Accepted.UTC().Truncate(time.Second))
		s.StartTime = &started
	}
	s.HostIP, s.HostIPs = "", nil
	for _, ip := range o.Node.HostIPs {
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
	}
	s.HostIP = first(o.Node.HostIPs)
	s.PodIP, s.PodIPs = podIPs(Addresses(o.Pod, o.Node, o.State.Addresses))
	s.InitContainerStatuses = o.containers(o.Pod.Spec.InitContainers)
	s.ContainerStatuses = o.containers(o.Pod.Spec.Containers)
	s.EphemeralContainerStatuses = o.ephemeral()
	s.AllocatedResources, s.Resources = o.podResources()
	s.Phase, s.Reason, s.Message = o.phase(), "", ""
	if o.over() {
		s.Reason, s.Message = o.State.End.Reason, o.State.End.Message
		o.closeStatus(&s)
	}
	s.Conditions = o.conditions(s)
	return s
}

// closeStatus gives a pod that is over what a kubelet does: every container that
// was due has ended, one way or another. A pod that was refused never had any, and
// kubectl would show a container's reason before the pod's.
func (o Observed) closeStatus(s *corev1.PodStatus) {
	if o.State.End.Refused {
		s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses = nil, nil, nil
		s.AllocatedResources, s.Resources = nil, nil
		return
	}
	closeAll := func(list []corev1.ContainerStatus) {
		for i := range list {
			if list[i].State.Terminated == nil {
				list[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					Reason: ReasonStatusUnknown, ExitCode: 137, Message: "The container could not be located when the pod was terminated",
				}}
			}
		}
	}
	// The init containers up to the last that has begun, and the first one always.
	due := min(1, len(s.InitContainerStatuses))
	for i, c := range s.InitContainerStatuses {
		if c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
			due = i + 1
		}
	}
	closeAll(s.InitContainerStatuses[:due])
	begun := func(c corev1.ContainerStatus) bool {
		return c.State.Waiting == nil || c.LastTerminationState.Terminated != nil
	}
	if o.initialized() || slices.ContainsFunc(s.ContainerStatuses, begun) {
		closeAll(s.ContainerStatuses)
	}
}

// ephemeral are the statuses of ephemeral containers. Nobody waits for them:
// they are never ready, and whether they have started is not said.
func (o Observed) ephemeral() []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, c := range Ephemeral(o.Pod) {
		s := o.status(c)
		s.Ready, s.Started = false, nil
		if why := AdmitEphemeral(o.Pod, c.Name, o.Spares); why != nil && s.State.Waiting != nil {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: why.Reason, Message: why.Message}
		}
		out = append(out, s)
	}
	return out
}

func podIPs(addrs []netip.Addr) (string, []corev1.PodIP) {
	var ips []corev1.PodIP
	for _, a := range addrs {
		ips = append(ips, corev1.PodIP{IP: a.String()})
	}
	return first(addrs), ips
}

// over reports whether the pod's life has ended and nothing of it runs any
// more. A pod is not reported as finished while a sidecar is still stopping:
// whoever waits for its end could take what it uses.
func (o Observed) over() bool {
	said := o.Pod.Status.Phase == corev1.PodSucceeded || o.Pod.Status.Phase == corev1.PodFailed
	return Over(o.State) || said && o.State.End != nil // never taken back
}

// Over reports whether the pod's life has ended and no container runs.
func Over(st ledger.State) bool {
	return st.End != nil && !slices.ContainsFunc(st.Containers, func(r ledger.Container) bool { return r.Phase == podinit.Running })
}

// phase is computed from the containers unless the pod's life has ended.
func (o Observed) phase() corev1.PodPhase {
	if o.over() {
		return o.State.End.Phase
	}
	if !o.initialized() {
		return corev1.PodPending
	}
	for i := range o.Pod.Spec.Containers {
		c := &o.Pod.Spec.Containers[i]
		r := o.State.Container(c.Name)
		if r == nil || r.Last == nil && (r.Phase == podinit.Waiting || AwaitsHook(c, r)) {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

// initialized reports whether every init container has done its work, and
// every sidecar among them has started.
func (o Observed) initialized() bool {
	if o.State.Initialized || o.State.RestartAll == ledger.RestartStarting {
		return true // a sidecar that is restarted does not change that, nor do all containers together
	}
	for i := range o.Pod.Spec.InitContainers {
		c := &o.Pod.Spec.InitContainers[i]
		if !InitDone(c, o.State.Container(c.Name)) {
			return false
		}
	}
	return true
}

func (o Observed) containers(list []corev1.Container) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		out = append(out, o.status(&list[i]))
	}
	return out
}

func (o Observed) status(c *corev1.Container) corev1.ContainerStatus {
	r := o.State.Container(c.Name)
	if r == nil {
		r = &ledger.Container{Name: c.Name, Phase: podinit.Waiting}
	}
	return o.container(c, r)
}

func (o Observed) container(c *corev1.Container, r *ledger.Container) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, RestartCount: int32(r.Attempt)}
	if r.Image != nil {
		if r.Phase != podinit.Waiting && r.Image.Ref != "" {
			s.Image = r.Image.Ref // of what runs or has run, whatever the pod names by now
		}
		s.ImageID = r.Image.Digest
		if s.ImageID == "" {
			s.ImageID = r.Image.ID
		}
	}
	id := func(attempt int) string {
		return fmt.Sprintf("reddwarf://%s/%s/%d", ZoneName(string(o.Pod.UID)), c.Name, attempt)
	}
	if r.Last != nil {
		s.LastTerminationState.Terminated = terminated(r.Last, id(r.Last.Attempt))
		s.ContainerID = id(r.Last.Attempt)
	}
	switch {
	case r.Phase == podinit.Running && !AwaitsHook(c, r):
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: when(r.StartedAt)}
		s.ContainerID = id(r.Attempt)
		s.Ready = r.Ready && !worksBefore(o.Pod, c.Name) // those are ready when they are done
	case r.Phase == podinit.Exited && r.Exit != nil && o.backingOff(c, r):
		s.LastTerminationState.Terminated = terminated(r.Exit, id(r.Exit.Attempt))
		s.ContainerID = id(r.Exit.Attempt)
		s.State.Waiting = o.crashLoop(c, r)
	case r.Phase == podinit.Exited && r.Exit != nil:
		s.State.Terminated = terminated(r.Exit, id(r.Exit.Attempt))
		s.ContainerID = id(r.Exit.Attempt)
		s.Ready = worksBefore(o.Pod, c.Name) && r.Exit.Code == 0
	default:
		s.State.Waiting = o.waiting(c)
	}
	runs := r.Phase == podinit.Running && r.Started && !AwaitsHook(c, r)
	s.Started = &runs
	o.details(&s, c, r)
	return s
}

// details are what a kubelet says of a container that has been made: what it
// was granted and what it has, as whom it runs, what it ends by, and its mounts.
func (o Observed) details(s *corev1.ContainerStatus, c *corev1.Container, r *ledger.Container) {
	s.VolumeMounts = volumeMountStatus(c)
	if s.ContainerID == "" {
		return
	}
	granted, ok := o.State.Allocated[c.Name]
	if !ok {
		granted = c.Resources
	}
	has := granted
	if applied, ok := o.State.Applied[c.Name]; ok && s.State.Running != nil {
		has = applied
	}
	s.AllocatedResources, s.Resources = granted.Requests, &has
	s.StopSignal = stopSignalStatus(o.Pod, c, r.Image)
	if u := r.User; u != nil {
		s.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.UID, GID: u.GID, SupplementalGroups: u.Groups}}
	}
}

// backingOff reports whether an ended container waits for its next attempt.
func (o Observed) backingOff(c *corev1.Container, r *ledger.Container) bool {
	return o.State.End == nil && o.State.Deletion == nil && r.NotBefore.After(o.Now) &&
		Restarts(o.Pod, c.Name, r.Exit.Code)
}

func (o Observed) crashLoop(c *corev1.Container, r *ledger.Container) *corev1.ContainerStateWaiting {
	delay := r.NotBefore.Sub(r.Exit.FinishedAt).Round(time.Second)
	return &corev1.ContainerStateWaiting{
		Reason: ReasonCrashLoopBackOff,
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			delay, c.Name, o.Pod.Name, o.Pod.Namespace, o.Pod.UID),
	}
}

func (o Observed) waiting(c *corev1.Container) *corev1.ContainerStateWaiting {
	if w, ok := o.Waiting[c.Name]; ok {
		return &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
	}
	if len(o.Pod.Spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: ReasonPodInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: ReasonContainerCreating}
}

func terminated(e *ledger.Exit, id string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(e.Code), Signal: int32(e.Signal), Reason: e.Reason, Message: e.Message,
		StartedAt: when(e.StartedAt), FinishedAt: when(e.FinishedAt), ContainerID: id,
	}
}

// when is a time as the API server keeps it: whole seconds. Anything finer
// would make an unchanged status look changed.
func when(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.UTC().Truncate(time.Second))
}
