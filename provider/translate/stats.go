package translate

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/globalzone"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Measured is what was measured of one pod whose zone runs.
type Measured struct {
	Pod   *corev1.Pod
	State ledger.State

	At   time.Time // of Zone and Link
	Zone globalzone.ZoneUsage
	Link globalzone.LinkUsage

	// Containers are podinit's sums, by container. Without them the only
	// container of a pod is still known: it is the zone.
	Containers map[string]podinit.ContainerUsage

	// Before is an earlier measurement of the same boot, nil if there is none:
	// what the rates are made from.
	Before *Measured

	Space   storage.PodUsage
	SpaceAt time.Time        // zero if the space was not measured
	Logs    map[string]int64 // bytes, by container
}

// PodStats returns the statistics of a pod as a kubelet gives them. The zone is
// what the kernel counts, so the pod's values are exact; those of one container
// among several are podinit's word.
func PodStats(m Measured) statsv1alpha1.PodStats {
	out := statsv1alpha1.PodStats{
		PodRef:     statsv1alpha1.PodReference{Name: m.Pod.Name, Namespace: m.Pod.Namespace, UID: string(m.Pod.UID)},
		StartTime:  when(m.State.Accepted),
		Containers: []statsv1alpha1.ContainerStats{},
		CPU:        m.cpu(),
		Swap:       &statsv1alpha1.SwapStats{Time: metav1.NewTime(m.At), SwapUsageBytes: new(uint64)}, // what is reserved is not what is paged out
	}
	if m.State.Brand != BrandHost { // a host pod has no link of its own, and no kernel's count of its processes
		out.Network = &statsv1alpha1.NetworkStats{Time: metav1.NewTime(m.At), InterfaceStats: statsv1alpha1.InterfaceStats{
			Name: LinkName(m.State.Slot), RxBytes: &m.Link.RxBytes, RxErrors: &m.Link.RxErrors, TxBytes: &m.Link.TxBytes, TxErrors: &m.Link.TxErrors,
		}}
		out.ProcessStats = &statsv1alpha1.ProcessStats{ProcessCount: unsigned(m.Zone.Processes)}
	}
	limit, _ := effective(m.Pod, corev1.ResourceMemory, true)
	out.Memory = memoryStats(m.At, m.rss(), limit/1000)
	for _, c := range EveryContainer(m.Pod) {
		if r := m.State.Container(c.Name); r != nil && r.Phase == podinit.Running {
			if s, ok := m.container(c, r); ok {
				out.Containers = append(out.Containers, s)
			}
		}
	}
	if !m.SpaceAt.IsZero() {
		out.EphemeralStorage = fsStats(m.SpaceAt, m.Space.Usage)
		out.VolumeStats = m.volumes()
	}
	return out
}

// cpu is the zone's processor time.
func (m Measured) cpu() *statsv1alpha1.CPUStats {
	s := cpuStats(m.At, m.Zone.CPU)
	if b := m.Before; b != nil {
		s.UsageNanoCores = rate(m.Zone.CPU-b.Zone.CPU, m.At.Sub(b.At))
	}
	return s
}

// rss is the zone's resident memory: the kernel's count, or the sum of
// podinit's where the kernel keeps none.
func (m Measured) rss() int64 {
	if m.Zone.HasRSS {
		return m.Zone.RSS
	}
	var sum int64
	for _, u := range m.Containers {
		sum += int64(u.RSS)
	}
	return sum
}

// container returns the statistics of a container that runs, if anything is
// known of it.
func (m Measured) container(c *corev1.Container, r *ledger.Container) (statsv1alpha1.ContainerStats, bool) {
	s := statsv1alpha1.ContainerStats{Name: c.Name, StartTime: when(r.StartedAt)}
	limit := c.Resources.Limits.Memory().Value()
	u, known := m.Containers[c.Name]
	switch {
	case m.alone(c.Name):
		s.CPU, s.Memory = m.cpu(), memoryStats(m.At, m.rss(), limit)
	case known && u.Attempt == r.Attempt:
		s.CPU, s.Memory = cpuStats(u.At, u.CPU), memoryStats(u.At, int64(u.RSS), limit)
		if m.Before != nil {
			if b, ok := m.Before.Containers[c.Name]; ok && b.Attempt == u.Attempt {
				s.CPU.UsageNanoCores = rate(u.CPU-b.CPU, u.At.Sub(b.At))
			}
		}
	default:
		return s, false
	}
	s.Swap = &statsv1alpha1.SwapStats{Time: s.CPU.Time, SwapUsageBytes: new(uint64)}
	if !m.SpaceAt.IsZero() {
		s.Rootfs = fsStats(m.SpaceAt, m.Space.Containers[c.Name])
		logs := max(0, m.Logs[c.Name])
		s.Logs = fsStats(m.SpaceAt, storage.Usage{Used: logs, Available: m.Space.Available})
		s.Logs.CapacityBytes = s.Rootfs.CapacityBytes
	}
	return s, true
}

// alone reports whether a container is all that ever runs in its zone beside
// podinit, so that the zone's counters are its own.
func (m Measured) alone(name string) bool {
	r := m.State.Container(name)
	return len(EveryContainer(m.Pod)) == 1 && r != nil && r.Attempt == 0
}

// volumes are the volumes that have a dataset of their own.
func (m Measured) volumes() []statsv1alpha1.VolumeStats {
	var out []statsv1alpha1.VolumeStats
	for _, v := range m.Pod.Spec.Volumes {
		if u, ok := m.Space.Volumes[v.Name]; ok {
			out = append(out, statsv1alpha1.VolumeStats{FsStats: *fsStats(m.SpaceAt, u), Name: v.Name})
		}
	}
	return out
}

// NodeMeasured is what was measured of the machine.
type NodeMeasured struct {
	Name       string
	Usage      globalzone.Usage
	Before     *globalzone.Usage
	Capacity   storage.Capacity
	CapacityAt time.Time
	Images     int64 // bytes that unpacked images take
}

// NodeStats returns the statistics of the node as a kubelet gives them.
func NodeStats(m NodeMeasured) statsv1alpha1.NodeStats {
	u := m.Usage
	out := statsv1alpha1.NodeStats{NodeName: m.Name, StartTime: when(u.Booted), CPU: cpuStats(u.At, u.CPU)}
	if m.Before != nil {
		out.CPU.UsageNanoCores = rate(u.CPU-m.Before.CPU, u.At.Sub(m.Before.At))
	}
	out.Memory = &statsv1alpha1.MemoryStats{
		Time:            metav1.NewTime(u.At),
		AvailableBytes:  unsigned(u.Available),
		UsageBytes:      unsigned(u.Memory - u.Free),
		WorkingSetBytes: unsigned(u.Memory - u.Available),
	}
	out.Rlimit = &statsv1alpha1.RlimitStats{Time: metav1.NewTime(u.At), NumOfRunningProcesses: &u.Processes}
	if u.MaxProcs > 0 {
		out.Rlimit.MaxPID = &u.MaxProcs
	}
	if !m.CapacityAt.IsZero() {
		pool := storage.Usage{Used: m.Capacity.Total - m.Capacity.Available, Available: m.Capacity.Available}
		out.Fs = fsStats(m.CapacityAt, pool)
		images := fsStats(m.CapacityAt, storage.Usage{Used: m.Images, Available: m.Capacity.Available})
		images.CapacityBytes = out.Fs.CapacityBytes
		out.Runtime = &statsv1alpha1.RuntimeStats{ImageFs: images, ContainerFs: fsStats(m.CapacityAt, pool)}
	}
	return out
}

func cpuStats(at time.Time, used time.Duration) *statsv1alpha1.CPUStats {
	return &statsv1alpha1.CPUStats{Time: metav1.NewTime(at), UsageCoreNanoSeconds: unsigned(int64(used))}
}

// rate returns nanoseconds of processor time for each second, nil where there
// is nothing to divide by.
func rate(used, over time.Duration) *uint64 {
	if over <= 0 || used < 0 {
		return nil
	}
	return unsigned(int64(float64(used) / over.Seconds()))
}

// memoryStats has one number for what a kubelet has three for: there is no page
// cache in a zone's resident memory that could be taken away.
func memoryStats(at time.Time, rss, limit int64) *statsv1alpha1.MemoryStats {
	s := &statsv1alpha1.MemoryStats{
		Time: metav1.NewTime(at), UsageBytes: unsigned(rss), WorkingSetBytes: unsigned(rss), RSSBytes: unsigned(rss),
	}
	if limit > 0 {
		s.AvailableBytes = unsigned(limit - rss)
	}
	return s
}

func fsStats(at time.Time, u storage.Usage) *statsv1alpha1.FsStats {
	return &statsv1alpha1.FsStats{
		Time: metav1.NewTime(at), AvailableBytes: unsigned(u.Available),
		CapacityBytes: unsigned(u.Used + u.Available), UsedBytes: unsigned(u.Used),
	}
}

func unsigned(n int64) *uint64 {
	u := uint64(max(0, n))
	return &u
}
