package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
)

// ownConditions are the types that a node agent writes. All others are left to
// their writers.
var ownConditions = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
	corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting,
}

// OwnCondition reports whether conditions of type t are written by us.
func OwnCondition(t corev1.PodConditionType) bool { return slices.Contains(ownConditions, t) }

// conditions returns the conditions of a pod whose status otherwise is s.
func (o Observed) conditions(s corev1.PodStatus) []corev1.PodCondition {
	containers := o.containersReady(s)
	ready := containers
	ready.Type = corev1.PodReady
	if ready.Status == corev1.ConditionTrue {
		ready = o.gates(ready)
	}
	own := []corev1.PodCondition{
		o.sandboxCondition(s), o.initializedCondition(s), ready, containers, condition(corev1.PodScheduled, true),
	}
	own = append(own, o.resizeConditions()...)
	if MayRestartAll(o.Pod) {
		own = append(own, o.restartingCondition(s))
	}
	disrupted := o.State.End != nil && o.State.End.Disrupted
	if disrupted { // others write this one, too
		c := corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: o.State.End.Message,
		}
		if o.State.End.Reason == ReasonPreempting {
			c.Message = preemptCondition
		}
		own = append(own, c)
	}
	var out []corev1.PodCondition
	for _, c := range own {
		if c.ObservedGeneration == 0 {
			c.ObservedGeneration = o.Pod.Generation
		}
		c.LastTransitionTime = when(o.Now)
		if have := find(o.Pod.Status.Conditions, c.Type); have != nil {
			c.LastProbeTime = have.LastProbeTime
			if have.Status == c.Status {
				c.LastTransitionTime = have.LastTransitionTime
			}
		}
		out = append(out, c)
	}
	for _, c := range o.Pod.Status.Conditions {
		if !OwnCondition(c.Type) && !(disrupted && c.Type == corev1.DisruptionTarget) {
			out = append(out, c)
		}
	}
	return out
}

// sandboxCondition tells whether the pod's zone, a kubelet's sandbox, is there for
// its containers.
func (o Observed) sandboxCondition(s corev1.PodStatus) corev1.PodCondition {
	if o.ZoneRuns && s.Phase != corev1.PodSucceeded && s.Phase != corev1.PodFailed {
		return condition(corev1.PodReadyToStartContainers, true)
	}
	c := condition(corev1.PodReadyToStartContainers, false)
	c.Reason, c.Message = "PodSandboxNotReady", "pod sandbox is not ready"
	if o.State.Boot == "" && o.State.Boots == 0 && !slices.ContainsFunc(o.State.Containers, func(r ledger.Container) bool { return r.Exit != nil || r.Last != nil }) {
		c.Message = "no pod sandbox exists"
	}
	return c
}

// resizeConditions tell of a wish for other resources that has not been granted,
// and of one that has been and is not in force. Both may be.
func (o Observed) resizeConditions() []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, r := range []struct {
		kind corev1.PodConditionType
		of   *ledger.Resize
	}{{corev1.PodResizePending, o.State.Pending}, {corev1.PodResizeInProgress, o.State.Resizing}} {
		if r.of != nil && !o.over() {
			out = append(out, corev1.PodCondition{
				Type: r.kind, Status: corev1.ConditionTrue, Reason: r.of.Reason, Message: r.of.Message, ObservedGeneration: r.of.Generation,
			})
		}
	}
	return out
}

// restartingCondition tells whether all containers are being ended to start again.
func (o Observed) restartingCondition(s corev1.PodStatus) corev1.PodCondition {
	c := condition(corev1.AllContainersRestarting, false)
	switch {
	case s.Phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case o.State.RestartAll == ledger.RestartEnding:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}

func condition(t corev1.PodConditionType, ok bool) corev1.PodCondition {
	if ok {
		return corev1.PodCondition{Type: t, Status: corev1.ConditionTrue}
	}
	return corev1.PodCondition{Type: t, Status: corev1.ConditionFalse}
}

func find(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func (o Observed) initializedCondition(s corev1.PodStatus) corev1.PodCondition {
	if s.Phase == corev1.PodSucceeded {
		c := condition(corev1.PodInitialized, true)
		c.Reason = "PodCompleted"
		return c
	}
	if o.initialized() {
		return condition(corev1.PodInitialized, true)
	}
	if s.InitContainerStatuses == nil {
		c := condition(corev1.PodInitialized, false)
		c.Reason = "UnknownContainerStatuses"
		return c
	}
	var names []string
	for i, c := range s.InitContainerStatuses {
		spec := &o.Pod.Spec.InitContainers[i]
		if !InitDone(spec, o.State.Container(c.Name)) {
			names = append(names, c.Name)
		}
	}
	c := condition(corev1.PodInitialized, false)
	c.Reason = "ContainersNotInitialized"
	c.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(names, " "))
	return c
}

func (o Observed) containersReady(s corev1.PodStatus) corev1.PodCondition {
	switch s.Phase {
	case corev1.PodSucceeded:
		return corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "PodCompleted"}
	case corev1.PodFailed:
		return corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "PodFailed"}
	}
	var names []string
	for i, c := range s.InitContainerStatuses {
		if !c.Ready && Sidecar(&o.Pod.Spec.InitContainers[i]) {
			names = append(names, c.Name)
		}
	}
	for _, c := range s.ContainerStatuses {
		if !c.Ready {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return condition(corev1.ContainersReady, true)
	}
	c := condition(corev1.ContainersReady, false)
	c.Reason = "ContainersNotReady"
	c.Message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(names, " "))
	return c
}

// gates holds readiness back until every gate of the pod is open.
func (o Observed) gates(ready corev1.PodCondition) corev1.PodCondition {
	var faults []string
	for _, g := range o.Pod.Spec.ReadinessGates {
		c := find(o.Pod.Status.Conditions, g.ConditionType)
		switch {
		case c == nil:
			faults = append(faults, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case c.Status != corev1.ConditionTrue:
			faults = append(faults, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", g.ConditionType, c.Status))
		}
	}
	if len(faults) == 0 {
		return ready
	}
	return corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionFalse,
		Reason: "ReadinessGatesNotReady", Message: strings.Join(faults, ", "),
	}
}
