package provider

import (
	"context"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// StatsSummary is refused: usage is not measured yet, and a summary of zeros
// would make autoscalers act on it.
func (p *Provider) StatsSummary(context.Context) (*statsv1alpha1.Summary, error) {
	return nil, errdefs.NotFound("usage is not measured on this node yet")
}
