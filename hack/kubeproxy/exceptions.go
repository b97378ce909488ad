package kubeproxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// question is one connection that is asked for.
type question struct {
	svc      *corev1.Service
	port     *corev1.ServicePort
	client   netip.Addr
	to       netip.AddrPort
	cluster  bool // it asks for the cluster address
	fromPods bool // the client is a pod of this host
}

// exception is a way in which we differ from kube-proxy and mean it. They are
// all here, and explained to operators in network/ipnat/README.md.
type exception struct {
	name   string
	reason string
	holds  func(q question) bool
	// allows says what we may do in place of the same as kube-proxy.
	allows func(ours []string, theirs Outcome) bool
}

var exceptions = []exception{
	{
		name:   "sctp",
		reason: "ipnat translates no ports of SCTP, so such a port has no rules and the Service gets a warning",
		holds:  func(q question) bool { return q.port.Protocol == corev1.ProtocolSCTP },
		allows: func(ours []string, _ Outcome) bool { return len(ours) == 0 },
	},
	{
		name: "cluster address from outside",
		reason: "kube-proxy translates a cluster address for whoever routes it to the node; here cluster addresses are for this host's pods. " +
			"Rules on the uplink would double their number for what clusters seldom do",
		holds:  func(q question) bool { return q.cluster && !q.fromPods },
		allows: func(ours []string, _ Outcome) bool { return len(ours) == 0 },
	},
	{
		name: "affinity",
		reason: "kube-proxy lets a new client reach any endpoint and then remembers which; ipnat remembers nothing, so the client's address chooses " +
			"one of the same endpoints. IPv6 has no affinity here at all, which the Service is told",
		holds: func(q question) bool {
			return q.svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && q.to.Addr().Is4()
		},
		allows: func(ours []string, theirs Outcome) bool {
			return len(ours) == 0 && len(theirs.Reached) == 0 || len(ours) == 1 && slices.Contains(theirs.Reached, ours[0])
		},
	},
}
