package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Restarts reports whether a container that ended with code is started again
// while its pod lives. A container's own policy, and before that its own
// rules, win over the pod's.
func Restarts(pod *corev1.Pod, container string, code int) bool {
	c, init := named(pod, container)
	if c == nil {
		return false
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		if restartRule(c, code) != nil {
			return true // alone, or with all others
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
		if init && policy == corev1.RestartPolicyAlways {
			return true // a sidecar
		}
	}
	if init {
		// Success is what is waited for; failure ends the pod only if it never
		// restarts.
		return code != 0 && policy != corev1.RestartPolicyNever
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// RestartsAll reports whether a container's end with code makes every container
// of its pod start again, the init containers first.
func RestartsAll(pod *corev1.Pod, container string, code int) bool {
	c, _ := named(pod, container)
	if c == nil || c.RestartPolicy == nil {
		return false
	}
	rule := restartRule(c, code)
	return rule != nil && rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// MayRestartAll reports whether a container of the pod has a rule for that.
func MayRestartAll(pod *corev1.Pod) bool {
	return slices.ContainsFunc(AllContainers(pod), func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// restartRule returns the first rule of a container that is about an exit code.
func restartRule(c *corev1.Container, code int) *corev1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		if matches(c.RestartPolicyRules[i].ExitCodes, code) {
			return &c.RestartPolicyRules[i]
		}
	}
	return nil
}

func matches(codes *corev1.ContainerRestartRuleOnExitCodes, code int) bool {
	if codes == nil {
		return false
	}
	in := slices.Contains(codes.Values, int32(code))
	switch codes.Operator {
	case corev1.ContainerRestartRuleOnExitCodesOpIn:
		return in
	case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
		return !in
	}
	return false
}

// named returns the container of that name, and whether it is an init
// container.
func named(pod *corev1.Pod, name string) (c *corev1.Container, init bool) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return c, true
		}
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == name {
			return c, false
		}
	}
	return nil, false
}

// Sidecar reports whether an init container runs beside the others instead of
// before them: one that is always restarted.
func Sidecar(init *corev1.Container) bool {
	return init.RestartPolicy != nil && *init.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Outdated reports whether the pod names another image for a container than the
// one that its record has.
func Outdated(c *corev1.Container, r *ledger.Container) bool {
	return r.Image != nil && r.Image.Ref != c.Image
}

// worksBefore reports whether the container of that name is an init container
// that the others wait for the end of.
func worksBefore(pod *corev1.Pod, name string) bool {
	c, init := named(pod, name)
	return init && !Sidecar(c)
}

// AwaitsHook reports whether the present attempt of c runs and its postStart
// hook has not succeeded yet. To the outside it does not run yet.
func AwaitsHook(c *corev1.Container, r *ledger.Container) bool {
	return c.Lifecycle != nil && c.Lifecycle.PostStart != nil && r.Phase == podinit.Running && !r.Hooked
}

// InitDone reports whether the containers need not wait any more for c, an
// init container: it has ended well, or is a sidecar and has started.
func InitDone(c *corev1.Container, r *ledger.Container) bool {
	switch {
	case r == nil:
		return false
	case Sidecar(c):
		return r.Phase == podinit.Running && r.Started && !AwaitsHook(c, r)
	}
	return r.Phase == podinit.Exited && r.Exit != nil && r.Exit.Code == 0
}
