package translate

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones"
)

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// TestPodLevelLimits: what the pod says for all of its containers is the zone's,
// whether or not they say something themselves.
func TestPodLevelLimits(t *testing.T) {
	p := pod()
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "unlimited"})
	p.Spec.Resources = &corev1.ResourceRequirements{Limits: amounts("2", "1Gi"), Requests: amounts("1", "512Mi")}
	want := zones.Limits{CPUCap: 200, CPUShares: 100, Memory: zones.Memory{Physical: 1 << 30, Swap: 1 << 30}}
	if got := Limits(p); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
	if r := Admit(p, node()); r != nil {
		t.Errorf("refused: %+v", r)
	}
	p.Spec.Resources.Limits["hugepages-2Mi"] = resource.MustParse("2Mi")
	if r := Admit(p, node()); r == nil || r.Message != "Pod uses what this node cannot do: resources: hugepages-2Mi" {
		t.Errorf("huge pages: %+v", r)
	}
}

func TestFits(t *testing.T) {
	sized := func(cpu, memory string) *corev1.Pod {
		p := pod()
		p.Spec.Containers[0].Resources.Requests = amounts(cpu, memory)
		return p
	}
	n := node()
	n.Capacity = amounts("4", "4Gi")
	others := []*corev1.Pod{sized("1", "1Gi"), sized("1", "1Gi")}
	for _, tt := range []struct {
		name            string
		pod             *corev1.Pod
		reason, message string
	}{
		{"room", sized("2", "2Gi"), "", ""},
		{"never", sized("4001m", "1Gi"), "Infeasible", "Node didn't have enough capacity: cpu, requested: 4001, capacity: 4000"},
		{"not now", sized("1", "3Gi"), "Deferred", "Node didn't have enough resource: memory, requested: 3221225472, used: 2147483648, capacity: 4294967296"},
		{"asks for nothing", pod(), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if reason, message := Fits(tt.pod, others, n); reason != tt.reason || message != tt.message {
				t.Errorf("%q: %q", reason, message)
			}
		})
	}
}

func TestWithResources(t *testing.T) {
	p := pod()
	p.Spec.Containers[0].Resources.Requests = amounts("2", "2Gi")
	granted := ledger.Resources{p.Spec.Containers[0].Name: {Requests: amounts("1", "1Gi")}}
	got := WithResources(p, granted)
	if got.Spec.Containers[0].Resources.Requests.Cpu().String() != "1" || p.Spec.Containers[0].Resources.Requests.Cpu().String() != "2" {
		t.Errorf("got %v, and the pod itself has %v", got.Spec.Containers[0].Resources, p.Spec.Containers[0].Resources)
	}
	if !Resources(got).Equal(granted) || Resources(p).Equal(granted) {
		t.Errorf("resources %v", Resources(got))
	}
	if WithResources(p, nil) != p {
		t.Error("a pod without a record is changed")
	}
}

func TestRestartedBy(t *testing.T) {
	p := pod()
	name := p.Spec.Containers[0].Name
	p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
		{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer},
	}
	of := func(cpu, memory string) ledger.Resources {
		return ledger.Resources{name: {Requests: amounts(cpu, memory), Limits: amounts(cpu, memory)}}
	}
	if got := RestartedBy(p, of("1", "1Gi"), of("2", "1024Mi")); len(got) != 0 {
		t.Errorf("more processor time restarts %v", got)
	}
	if got := RestartedBy(p, of("1", "1Gi"), of("1", "2Gi")); !slices.Equal(got, []string{name}) {
		t.Errorf("more memory restarts %v", got)
	}
}
