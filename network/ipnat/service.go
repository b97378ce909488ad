package ipnat

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Node is the host whose rules are compiled.
type Node struct {
	Name string // as endpoints name it
	Zone string // for topology hints; empty if the node has none

	Gateway string // the interface on which packets of this host's pods arrive
	Uplink  string // the interface to all others; empty compiles nothing for it

	// IPv4 and IPv6 are the networks of each family that the node has.
	IPv4, IPv6 *Networks
}

// Networks are a node's addresses of one family.
type Networks struct {
	Pods    netip.Prefix // this node's pods
	Cluster netip.Prefix // all nodes' pods; contains Pods. Invalid: no other nodes
	Gateway netip.Addr   // the host's address on the gateway interface
	Host    netip.Addr   // the host's address on the uplink: NodePorts are there. Invalid: none

	// Egress gives pods' packets that leave the cluster the host's address. It
	// needs Cluster, Host and the node's uplink.
	Egress bool
}

// Validate says everything that is wrong with the node.
func (n *Node) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("ipnat: node: "+format, args...))
		}
	}
	check(validInterface(n.Gateway), "gateway %q is no name of an interface", n.Gateway)
	check(n.Uplink == "" || validInterface(n.Uplink), "uplink %q is no name of an interface", n.Uplink)
	check(n.Gateway != n.Uplink, "gateway and uplink are both %s", n.Gateway)
	for _, w := range []*Networks{n.IPv4, n.IPv6} {
		if w == nil {
			continue
		}
		is4 := w == n.IPv4
		check(w.Pods.IsValid() && w.Pods == w.Pods.Masked() && w.Pods.Addr().Is4() == is4, "pods' network %s", w.Pods)
		check(w.Gateway.IsValid() && w.Gateway.Is4() == is4, "gateway address %s", w.Gateway)
		check(!w.Host.IsValid() || plain(w.Host) && w.Host.Is4() == is4, "host address %s", w.Host)
		c := w.Cluster
		check(!c.IsValid() || c == c.Masked() && c.Addr().Is4() == is4 && c.Contains(w.Pods.Addr()) && c.Bits() <= w.Pods.Bits(),
			"cluster network %s does not contain the pods' %s", c, w.Pods)
		check(!w.Egress || n.Uplink != "" && w.Host.IsValid() && c.IsValid(), "egress needs an uplink, the host's address and the cluster's network")
	}
	return errors.Join(errs...)
}

// Service is one Service of a cluster, as far as packets go. One without
// cluster addresses (headless, ExternalName) has no rules.
type Service struct {
	Name    string    // namespace/name
	Created time.Time // of two that claim an external address, the older has it

	ClusterIPs []netip.Addr
	Ports      []Port

	// Affinity keeps a client at one endpoint for as long as the endpoints stay
	// the same. There is no timeout.
	Affinity bool

	// InternalLocal and ExternalLocal are the traffic policies Local.
	InternalLocal, ExternalLocal bool

	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr   // of mode VIP
	SourceRanges    []netip.Prefix // who may use the load balancer's addresses; none is all

	// HealthPort is where a load balancer asks whether this host has endpoints.
	// Nobody answers here, which is a problem that is told.
	HealthPort uint16
}

// Port is one port of a Service with its endpoints.
type Port struct {
	Name     string // may be empty
	Protocol Protocol
	Port     uint16
	NodePort uint16 // 0 is none

	Endpoints []Endpoint
}

// Endpoint is where a port may be served. Ready, Serving and Terminating are
// the conditions of an EndpointSlice, which are already what
// publishNotReadyAddresses makes of them.
type Endpoint struct {
	Addr netip.Addr
	Port uint16 // a named target port is resolved
	Node string

	Ready, Serving, Terminating bool

	ForZones, ForNodes []string // topology hints
}

// Problem is something about a Service that this node cannot do.
type Problem struct {
	Service string
	Reason  string // one of the Reason constants
	Message string
}

// The reasons of problems, in the form of reasons of events.
const (
	// ReasonProtocol is for a protocol that ipnat cannot translate: SCTP.
	ReasonProtocol = "UnsupportedProtocol"
	// ReasonAffinity is for affinity of IPv6 clients, which are spread instead.
	ReasonAffinity = "AffinityNotApplied"
	// ReasonHealth is for a port on which load balancers ask for health.
	ReasonHealth = "HealthCheckNodePortNotServed"
	// ReasonConflict is for an address and port that another Service has.
	ReasonConflict = "AddressConflict"
	// ReasonInvalid is for values that no API server lets through.
	ReasonInvalid = "InvalidService"
)

// String returns the problem for a log.
func (p Problem) String() string {
	return fmt.Sprintf("service %s: %s: %s", p.Service, p.Reason, p.Message)
}

// plain says whether an address can be a destination in a rule.
func plain(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == ""
}
