package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRestarts(t *testing.T) {
	rules := []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
	notIn := []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpNotIn, Values: []int32{0, 42}},
	}}
	for _, tt := range []struct {
		name  string
		pod   corev1.RestartPolicy
		own   corev1.ContainerRestartPolicy // empty for none
		rules []corev1.ContainerRestartRule
		init  bool
		want  map[int]bool // by exit code
	}{
		{"always", corev1.RestartPolicyAlways, "", nil, false, map[int]bool{0: true, 1: true}},
		{"on failure", corev1.RestartPolicyOnFailure, "", nil, false, map[int]bool{0: false, 1: true}},
		{"never", corev1.RestartPolicyNever, "", nil, false, map[int]bool{0: false, 1: false}},
		{"own never", corev1.RestartPolicyAlways, corev1.ContainerRestartPolicyNever, nil, false, map[int]bool{0: false, 1: false}},
		{"own always", corev1.RestartPolicyNever, corev1.ContainerRestartPolicyAlways, nil, false, map[int]bool{0: true, 1: true}},
		{"rules before never", corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, rules, false, map[int]bool{0: false, 1: false, 42: true}},
		{"rules by exclusion", corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, notIn, false, map[int]bool{0: false, 1: true, 42: false}},
		{"init", corev1.RestartPolicyAlways, "", nil, true, map[int]bool{0: false, 1: true}},
		{"init, own never", corev1.RestartPolicyAlways, corev1.ContainerRestartPolicyNever, nil, true, map[int]bool{0: false, 1: false}},
		{"init, own on failure", corev1.RestartPolicyNever, corev1.ContainerRestartPolicyOnFailure, nil, true, map[int]bool{0: false, 1: true}},
		{"sidecar", corev1.RestartPolicyNever, corev1.ContainerRestartPolicyAlways, nil, true, map[int]bool{0: true, 1: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.RestartPolicy = tt.pod
			c := corev1.Container{Name: "it", RestartPolicyRules: tt.rules}
			if tt.own != "" {
				c.RestartPolicy = &tt.own
			}
			if tt.init {
				p.Spec.InitContainers = []corev1.Container{c}
			} else {
				p.Spec.Containers = []corev1.Container{c}
			}
			for code, want := range tt.want {
				if got := Restarts(p, "it", code); got != want {
					t.Errorf("after exit code %d: %v, want %v", code, got, want)
				}
			}
			if r := Admit(p, node()); r != nil {
				t.Errorf("refused: %s", r.Message)
			}
		})
	}
}

// TestSidecarsCountAsLongAsTheyRun: sidecars run beside what comes after them.
func TestSidecarsCountAsLongAsTheyRun(t *testing.T) {
	needs := func(name, cpu string, sidecar bool) corev1.Container {
		c := corev1.Container{Name: name, Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
		}}
		if sidecar {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		return c
	}
	for _, tt := range []struct {
		name string
		init []corev1.Container
		want int64
	}{
		{"none", nil, 1000},
		{"a small init container", []corev1.Container{needs("a", "900m", false)}, 1000},
		{"a sidecar", []corev1.Container{needs("a", "100m", true)}, 1100},
		{"an init container after a sidecar", []corev1.Container{needs("a", "100m", true), needs("b", "1500m", false)}, 1600},
		{"an init container before a sidecar", []corev1.Container{needs("b", "1050m", false), needs("a", "100m", true)}, 1100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.InitContainers, p.Spec.Containers = tt.init, []corev1.Container{needs("web", "1", false)}
			if got, _ := effective(p, corev1.ResourceCPU, false); got != tt.want {
				t.Errorf("%d thousandths, want %d", got, tt.want)
			}
		})
	}
}
