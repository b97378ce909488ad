package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones"
)

// Resources returns what pod asks for.
func Resources(pod *corev1.Pod) ledger.Resources {
	r := ledger.Resources{}
	if pod.Spec.Resources != nil {
		r[""] = *pod.Spec.Resources
	}
	for _, c := range AllContainers(pod) {
		r[c.Name] = c.Resources
	}
	return r
}

// WithResources returns pod with other resources; nil means its own.
func WithResources(pod *corev1.Pod, r ledger.Resources) *corev1.Pod {
	if r == nil {
		return pod
	}
	p := *pod
	if own, ok := r[""]; ok {
		p.Spec.Resources = &own
	}
	for _, list := range []*[]corev1.Container{&p.Spec.InitContainers, &p.Spec.Containers} {
		*list = slices.Clone(*list)
		for i := range *list {
			c := &(*list)[i]
			if of, ok := r[c.Name]; ok {
				c.Resources = of
			}
		}
	}
	return &p
}

// minSwap is the least that zonecfg(8) accepts for capped-memory swap.
const minSwap = 50 << 20

// maxShares is the largest value of zone.cpu-shares.
const maxShares = 65535

// Limits returns the resource controls of the pod's zone. A cap exists only
// where every container has a limit, because the zone is the unit; requests are
// shares, never caps. Shares count only in a zone that has some from its boot,
// so every pod has them that may ask for more later.
func Limits(pod *corev1.Pod) zones.Limits {
	var l zones.Limits
	if milli, ok := effective(pod, corev1.ResourceCPU, true); ok {
		l.CPUCap = int((milli + 9) / 10) // hundredths of a processor, rounded up
	}
	if milli, _ := effective(pod, corev1.ResourceCPU, false); milli > 0 || !bestEffort(pod) {
		l.CPUShares = min(uint64(max(1, milli/10)), maxShares)
	}
	if milli, ok := effective(pod, corev1.ResourceMemory, true); ok {
		bytes := uint64(milli / 1000)
		l.Memory = zones.Memory{Physical: bytes, Swap: max(bytes, minSwap)}
	}
	return l
}

// bestEffort reports whether the pod asks for no processor and no memory.
func bestEffort(pod *corev1.Pod) bool {
	all := []corev1.ResourceRequirements{deref(pod.Spec.Resources)}
	for _, c := range AllContainers(pod) {
		all = append(all, c.Resources)
	}
	for _, r := range all {
		for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
			if !list.Cpu().IsZero() || !list.Memory().IsZero() {
				return false
			}
		}
	}
	return true
}

// EphemeralLimit returns what the pod may write to its datasets in bytes, 0 for
// as much as there is.
func EphemeralLimit(pod *corev1.Pod) int64 {
	if milli, ok := effective(pod, corev1.ResourceEphemeralStorage, true); ok {
		return milli / 1000
	}
	return 0
}

// effective returns what the pod needs of a resource at most, in thousandths:
// its containers and sidecars together, or an init container with the sidecars
// that run by then if that is more, plus the overhead of its runtime class.
// What the pod says for all of them together counts instead. For limits it
// reports false unless every container has one.
func effective(pod *corev1.Pod, name corev1.ResourceName, limit bool) (int64, bool) {
	overhead := pod.Spec.Overhead[name]
	of := func(r corev1.ResourceRequirements) int64 {
		list := r.Requests
		if limit {
			list = r.Limits
		}
		q := list[name]
		return q.ScaledValue(-3)
	}
	if r := pod.Spec.Resources; r != nil {
		if v := of(*r); v > 0 {
			return v + overhead.ScaledValue(-3), true
		}
	}
	var sidecars, peak, sum int64
	for _, c := range pod.Spec.InitContainers {
		v := of(c.Resources)
		if v == 0 && limit {
			return 0, false
		}
		if Sidecar(&c) {
			sidecars += v
			peak = max(peak, sidecars)
			continue
		}
		peak = max(peak, sidecars+v)
	}
	for _, c := range pod.Spec.Containers {
		v := of(c.Resources)
		if v == 0 && limit {
			return 0, false
		}
		sum += v
	}
	need := max(sum+sidecars, peak)
	return need + overhead.ScaledValue(-3), need > 0
}

// Fits says why the node cannot give pod what it asks for, beside what others
// have, as a kubelet does: never, or not now. reason is empty if it can.
func Fits(pod *corev1.Pod, others []*corev1.Pod, node Node) (reason, message string) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		switch b := balanceOf(pod, others, node, name); {
		case b.want > b.have:
			return corev1.PodReasonInfeasible,
				fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, b.want/b.unit, b.have/b.unit)
		case b.short():
			return corev1.PodReasonDeferred, "Node didn't have enough resource: " + b.String()
		}
	}
	return "", ""
}

// RestartedBy returns the containers that say that they want to be restarted
// when these of their resources change.
func RestartedBy(pod *corev1.Pod, before, after ledger.Resources) []string {
	var out []string
	for _, c := range AllContainers(pod) {
		for _, p := range c.ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer && !sameResource(before[c.Name], after[c.Name], p.ResourceName) {
				out = append(out, c.Name)
				break
			}
		}
	}
	return out
}

func sameResource(a, b corev1.ResourceRequirements, name corev1.ResourceName) bool {
	for _, pair := range [][2]corev1.ResourceList{{a.Requests, b.Requests}, {a.Limits, b.Limits}} {
		x, y := pair[0][name], pair[1][name]
		if x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

// podResources are what the whole pod was granted and has. A limit stands for
// the whole pod only where each of its containers has one, or the pod itself.
func (o Observed) podResources() (corev1.ResourceList, *corev1.ResourceRequirements) {
	granted := WithResources(o.Pod, o.State.Allocated)
	has := granted
	if o.State.Applied != nil {
		has = WithResources(o.Pod, o.State.Applied)
	}
	r := corev1.ResourceRequirements{Requests: totals(has, false), Limits: totals(has, true)}
	if own := has.Spec.Resources; own != nil {
		r.Claims = own.Claims
	}
	return totals(granted, false), &r
}

// totals are what a pod needs of each resource that it names.
func totals(pod *corev1.Pod, limit bool) corev1.ResourceList {
	var out corev1.ResourceList
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		milli, ok := effective(pod, name, limit)
		if !ok || milli == 0 {
			continue
		}
		if out == nil {
			out = corev1.ResourceList{}
		}
		format := resource.BinarySI
		if name == corev1.ResourceCPU {
			format = resource.DecimalSI
			out[name] = *resource.NewMilliQuantity(milli, format)
			continue
		}
		out[name] = *resource.NewQuantity(milli/1000, format)
	}
	return out
}
