// Package node keeps the Node object of this host: who it is, what it can
// hold, and whether it is well. It does not talk to the API server itself;
// virtual-kubelet's node controller carries the object there and renews the
// lease.
package node

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Taint keeps pods away that do not say that they want to run in a zone.
	Taint = "virtual-kubelet.io/provider"
	// TaintValue is its value.
	TaintValue = "reddwarf"
	// BrandLabel and a brand's name make the label that says that this node
	// can run zones of that brand: reddwarf.io/brand.lx=true.
	BrandLabel = "reddwarf.io/brand."
	// OperatingSystem is the value of kubernetes.io/os. DaemonSets made for
	// Linux select linux and so stay away.
	OperatingSystem = "illumos"
)

// Capacity is what the machine has.
type Capacity struct {
	CPUs             int
	MemoryBytes      int64
	EphemeralStorage int64 // bytes that pods can fill

	// Left is what of it nobody uses at the moment.
	Left Left
}

// Left is what a machine can still give. A total of 0 means that it is not
// known, and then nothing is concluded from what is left.
type Left struct {
	MemoryBytes, TotalMemoryBytes   int64
	StorageBytes, TotalStorageBytes int64
	Processes, TotalProcesses       int64
}

// Source reads the machine. An error makes the node NotReady with that error
// as the message: a host whose commands fail can run no pod.
type Source interface {
	Capacity(ctx context.Context) (Capacity, error)
}

// SourceFunc makes a function a Source.
type SourceFunc func(ctx context.Context) (Capacity, error)

// Capacity implements Source.
func (f SourceFunc) Capacity(ctx context.Context) (Capacity, error) { return f(ctx) }

// Config says what does not change while the agent runs.
type Config struct {
	Name        string
	Addresses   []netip.Addr // the node's InternalIPs, at most one of each family
	Port        int32        // of the kubelet API
	Brands      []string     // zone brands that this host can boot
	Labels      map[string]string
	Annotations map[string]string // what others read of this node
	MaxPods     int64
	Reserved    Capacity // kept for the host itself: capacity minus this is allocatable
	Version     string   // Kubernetes version that the agent behaves as, with its own after a +
	OSImage     string
	Kernel      string
	MachineID   string
	Source      Source
	Images      func() []corev1.ContainerImage // on this host, as its status tells; nil for none

	// Short is called at each reading that finds too little memory or space left,
	// in bytes; nil for nobody.
	Short      func(kind corev1.NodeConditionType, available, threshold int64)
	ReadEvery  time.Duration // how often Source is asked; a kubelet's nodeStatusUpdateFrequency is 10 s
	ReportIdle time.Duration // an unchanged node is reported this often all the same
}

// Object returns the Node as it is to be registered, and why it is not ready
// where it is not.
func (c Config) Object(ctx context.Context, now time.Time) *corev1.Node {
	n, _ := c.object(ctx, now)
	return n
}

// object returns what is left of the machine, too.
func (c Config) object(ctx context.Context, now time.Time) (*corev1.Node, Left) {
	capacity, err := c.Source.Capacity(ctx)
	n := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        c.Name,
			Labels:      c.labels(),
			Annotations: maps.Clone(c.Annotations),
		},
		Spec: corev1.NodeSpec{
			Taints: []corev1.Taint{{Key: Taint, Value: TaintValue, Effect: corev1.TaintEffectNoSchedule}},
		},
		Status: corev1.NodeStatus{
			Addresses:   c.addresses(),
			Capacity:    c.resources(capacity, Capacity{}),
			Allocatable: c.resources(capacity, c.Reserved),
			Features:    &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)},
			// What the scheduler and the API server ask of a node before they let
			// a pod use it: component-helpers/nodedeclaredfeatures, by these names.
			DeclaredFeatures: []string{
				"InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits",
			},
			Conditions:      conditions(now, capacity.Left, err),
			Images:          c.images(),
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: c.Port}},
			NodeInfo: corev1.NodeSystemInfo{
				MachineID:               c.MachineID,
				KernelVersion:           c.Kernel,
				OSImage:                 c.OSImage,
				OperatingSystem:         OperatingSystem,
				Architecture:            "amd64",
				KubeletVersion:          c.Version,
				ContainerRuntimeVersion: "zones://" + c.Kernel,
			},
		},
	}
	if err != nil {
		return n, Left{} // nothing is known
	}
	return n, capacity.Left
}

func (c Config) images() []corev1.ContainerImage {
	if c.Images == nil {
		return nil
	}
	return c.Images()
}

func (c Config) labels() map[string]string {
	labels := map[string]string{
		corev1.LabelOSStable:   OperatingSystem,
		corev1.LabelArchStable: "amd64",
		corev1.LabelHostname:   c.Name,
	}
	for _, b := range c.Brands {
		labels[BrandLabel+b] = "true"
	}
	for k, v := range c.Labels {
		labels[k] = v
	}
	return labels
}

func (c Config) addresses() []corev1.NodeAddress {
	var out []corev1.NodeAddress
	for _, a := range c.Addresses {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return append(out, corev1.NodeAddress{Type: corev1.NodeHostName, Address: c.Name})
}

func (c Config) resources(have, reserved Capacity) corev1.ResourceList {
	atLeastZero := func(n int64) int64 { return max(n, 0) }
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(atLeastZero(int64(have.CPUs-reserved.CPUs)), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(atLeastZero(have.MemoryBytes-reserved.MemoryBytes), resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(atLeastZero(have.EphemeralStorage-reserved.EphemeralStorage), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(c.MaxPods, resource.DecimalSI),
	}
}

// conditions are the ones that a kubelet publishes, with its reasons, and
// NetworkUnavailable, which a cloud's route controller would otherwise set on
// a node that it does not route for.
func conditions(now time.Time, left Left, hostErr error) []corev1.NodeCondition {
	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue,
		Reason: "KubeletReady", Message: "reddwarf is ready to run pods in zones",
	}
	if hostErr != nil {
		ready.Status = corev1.ConditionFalse
		ready.Reason = "KubeletNotReady"
		ready.Message = fmt.Sprintf("the host cannot be read: %v", hostErr)
	}
	all := []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, left.memoryIsShort(), hostErr,
			"KubeletHasInsufficientMemory", "reddwarf has insufficient memory available", "KubeletHasSufficientMemory", "reddwarf has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, left.storageIsShort(), hostErr,
			"KubeletHasDiskPressure", "reddwarf has disk pressure", "KubeletHasNoDiskPressure", "reddwarf has no disk pressure"),
		pressure(corev1.NodePIDPressure, left.Processes < left.TotalProcesses/100*leastProcesses, hostErr,
			"KubeletHasInsufficientPID", "reddwarf has insufficient PID available", "KubeletHasSufficientPID", "reddwarf has sufficient PID available"),
		{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "RouteCreated", Message: "reddwarf routes the pod network itself"},
		ready,
	}
	for i := range all {
		all[i].LastHeartbeatTime = metav1.NewTime(now)
		all[i].LastTransitionTime = metav1.NewTime(now)
	}
	return all
}

// What has to be left of a machine: a kubelet's hard eviction thresholds for
// memory and file systems. It has none for processes.
const (
	leastMemory    = 100 << 20 // bytes
	leastStorage   = 10        // percent
	leastProcesses = 5         // percent
)

func (l Left) memoryIsShort() bool { return l.TotalMemoryBytes > 0 && l.MemoryBytes < leastMemory }

func (l Left) storageIsShort() bool { return l.StorageBytes < l.storageThreshold() }

func (l Left) storageThreshold() int64 { return l.TotalStorageBytes / 100 * leastStorage }

// pressure is the condition that something is short. Of a host that cannot be
// read it is not known.
func pressure(kind corev1.NodeConditionType, short bool, hostErr error, reason, message, noReason, noMessage string) corev1.NodeCondition {
	switch {
	case hostErr != nil:
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionUnknown, Reason: "HostUnreadable", Message: fmt.Sprintf("the host cannot be read: %v", hostErr)}
	case short:
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message}
	}
	return corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: noReason, Message: noMessage}
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.Name == "" {
		fault("the node has no name: set --node-name")
	}
	if len(c.Addresses) == 0 {
		fault("the node has no address: set --node-ip")
	}
	for _, a := range c.Addresses {
		if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			fault("the node address %s cannot be reached by the API server: set --node-ip to an address of this host", a)
		}
	}
	if c.MaxPods <= 0 {
		fault("the node can hold no pods: set --max-pods above 0")
	}
	if c.Source == nil {
		fault("the node has no source for its capacity")
	}
	if len(faults) > 0 {
		return fmt.Errorf("node: %s", strings.Join(faults, "; "))
	}
	return nil
}
