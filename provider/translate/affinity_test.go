package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAdmitByNode(t *testing.T) {
	n := node()
	n.Labels = map[string]string{"kubernetes.io/os": "illumos", "zone": "a", "size": "7"}
	expr := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	field := func(op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: op, Values: values}}}
	}
	for _, tt := range []struct {
		name     string
		selector map[string]string
		terms    []corev1.NodeSelectorTerm
		want     bool
	}{
		{"anything", nil, nil, true},
		{"selector", map[string]string{"kubernetes.io/os": "illumos"}, nil, true},
		{"another OS", map[string]string{"kubernetes.io/os": "linux"}, nil, false},
		{"in", nil, []corev1.NodeSelectorTerm{expr("zone", corev1.NodeSelectorOpIn, "b", "a")}, true},
		{"not in", nil, []corev1.NodeSelectorTerm{expr("zone", corev1.NodeSelectorOpNotIn, "a")}, false},
		{"exists", nil, []corev1.NodeSelectorTerm{expr("none", corev1.NodeSelectorOpExists)}, false},
		{"does not exist", nil, []corev1.NodeSelectorTerm{expr("none", corev1.NodeSelectorOpDoesNotExist)}, true},
		{"greater", nil, []corev1.NodeSelectorTerm{expr("size", corev1.NodeSelectorOpGt, "6")}, true},
		{"less", nil, []corev1.NodeSelectorTerm{expr("size", corev1.NodeSelectorOpLt, "7")}, false},
		{"one of two terms", nil, []corev1.NodeSelectorTerm{expr("zone", corev1.NodeSelectorOpIn, "b"), field(corev1.NodeSelectorOpIn, "host1")}, true},
		{"another node", nil, []corev1.NodeSelectorTerm{field(corev1.NodeSelectorOpIn, "host2")}, false},
		{"any other node", nil, []corev1.NodeSelectorTerm{field(corev1.NodeSelectorOpNotIn, "host1")}, false},
		{"selector and term", map[string]string{"zone": "b"}, []corev1.NodeSelectorTerm{field(corev1.NodeSelectorOpIn, "host1")}, false},
		{"an empty term", nil, []corev1.NodeSelectorTerm{{}}, false},
		{"an unknown operator", nil, []corev1.NodeSelectorTerm{expr("zone", "Like", "a")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.NodeSelector = tt.selector
			if tt.terms != nil {
				p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: tt.terms}}}
			}
			r := Admit(p, n)
			if (r == nil) != tt.want || r != nil && r.Reason != ReasonNodeAffinity {
				t.Errorf("Admit = %+v", r)
			}
			if r := Admit(p, node()); r != nil {
				t.Errorf("refused by a node whose labels are not known: %+v", r)
			}
		})
	}
}
