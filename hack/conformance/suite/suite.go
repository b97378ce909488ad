// Package suite pins Kubernetes' own end-to-end tests and the test image they
// use most, so that hack/conformance.sh can build both from source. It is a
// module of its own because they need far more than the agent does.
package suite

import (
	_ "k8s.io/kubernetes/test/e2e"
)
