package translate

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// placed reports whether pod may be on node by its nodeSelector and its
// required node affinity. The scheduler sees to that too, but not every pod
// comes through it.
func placed(pod *corev1.Pod, node Node) bool {
	if !labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(node.Labels)) {
		return false
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if fits(term, node) {
			return true
		}
	}
	return false
}

// fits reports whether all of a term holds for node. An empty term, or one
// that makes no sense, holds for none.
func fits(term corev1.NodeSelectorTerm, node Node) bool {
	if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
		return false
	}
	for _, e := range term.MatchExpressions {
		r, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
		if err != nil || !r.Matches(labels.Set(node.Labels)) {
			return false
		}
	}
	for _, e := range term.MatchFields { // the API knows one field, with one value
		if e.Key != "metadata.name" || len(e.Values) != 1 {
			return false
		}
		s := fields.OneTermEqualSelector(e.Key, e.Values[0])
		switch e.Operator {
		case corev1.NodeSelectorOpIn:
		case corev1.NodeSelectorOpNotIn:
			s = fields.OneTermNotEqualSelector(e.Key, e.Values[0])
		default:
			return false
		}
		if !s.Matches(fields.Set{e.Key: node.Name}) {
			return false
		}
	}
	return true
}

// operators are the same under other names. One that is not here gives "",
// which NewRequirement refuses.
var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}
