package ledger

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Resources are the requests and limits of a pod: by container, and the pod's
// own under the empty name.
type Resources map[string]corev1.ResourceRequirements

// Equal reports whether both mean the same quantities.
func (r Resources) Equal(other Resources) bool {
	return equality.Semantic.DeepEqual(map[string]corev1.ResourceRequirements(r), map[string]corev1.ResourceRequirements(other))
}

// Clone returns a copy; the quantities are never changed in place.
func (r Resources) Clone() Resources { return maps.Clone(r) }

// Resize is what became of a wish for other resources than the pod has.
type Resize struct {
	// Generation is the pod's generation that it answers.
	Generation int64  `json:"generation,omitempty"`
	Reason     string `json:"reason,omitempty"` // Deferred, Infeasible or Error
	Message    string `json:"message,omitempty"`
}
