package translate

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// The attributes by which a zone says whose it is.
const (
	AttrUID       = "reddwarf-uid"
	AttrNamespace = "reddwarf-namespace"
	AttrName      = "reddwarf-name"
	AttrLedger    = "reddwarf-ledger"
	AttrSlot      = "reddwarf-slot"
	AttrAddresses = "reddwarf-addresses" // separated by commas
)

// kernelVersion is what lx zones report as their kernel's release; programs
// refuse to run on one that is too old for their libc.
const kernelVersion = "5.10.0"

// The directories of a zonepath that the agent makes.
const (
	SpecDir    = "spec"
	RunDir     = "run"
	LogDir     = "logs"
	VolumesDir = "volumes"
	EmptyDir   = "empty" // emptyDirs without a size limit, written by the zone
)

// Datasets are what the storage made for a pod.
type Datasets struct {
	ZonePath   string
	Containers map[string]string // container roots, by container
	Volumes    map[string]string // emptyDirs with a size limit and images, by volume
	Spares     string            // directory with the places of ephemeral containers' roots
	Shown      map[string]Shown  // what Sources became, by volume
}

// Shown is where a Source is for the zone to mount.
type Shown struct {
	Point    string
	Dir      bool // not a single file or socket
	ReadOnly bool
	Group    bool // fsGroup applies
}

// Zone returns the configuration of the pod's zone.
func Zone(in Input, d Datasets) zones.Config {
	pod := in.Pod
	attrs := []zones.Attr{
		{Name: AttrUID, Type: "string", Value: string(pod.UID)},
		{Name: AttrNamespace, Type: "string", Value: pod.Namespace},
		{Name: AttrName, Type: "string", Value: pod.Name},
		{Name: AttrLedger, Type: "string", Value: "1"},
		{Name: AttrSlot, Type: "string", Value: strconv.Itoa(in.Slot)},
		{Name: AttrAddresses, Type: "string", Value: joinAddrs(plainAddrs(in.Addresses))},
	}
	if in.Brand == BrandHost {
		return hostZone(in, d, attrs)
	}
	c := zones.Config{
		Name:         ZoneName(string(pod.UID)),
		Brand:        in.Brand,
		Path:         d.ZonePath,
		MaxProcesses: in.Node.ProcessLimit,
		Attrs:        attrs,
		Mounts:       slices.Concat(ownMounts(in, d), containerMounts(in, d), volumeMounts(in, d)),
	}
	if in.Brand == BrandLX {
		c.Attrs = append(c.Attrs,
			zones.Attr{Name: "kernel-version", Type: "string", Value: kernelVersion},
			zones.Attr{Name: "docker", Type: "boolean", Value: "true"})
	}
	link := zones.Link{Physical: LinkName(in.Slot), Addresses: in.Addresses}
	for _, g := range in.Gateways {
		link = withRouter(link, g)
	}
	c.Links = []zones.Link{link}
	l := Limits(pod)
	c.CPUCap, c.CPUShares, c.Memory = l.CPUCap, l.CPUShares, l.Memory
	return c
}

func plainAddrs(prefixes []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		out = append(out, p.Addr())
	}
	return out
}

func withRouter(l zones.Link, g netip.Addr) zones.Link {
	if l.Router.IsValid() {
		l.Router6 = g
	} else {
		l.Router = g
	}
	return l
}

// The options of mounts whose source is of the global zone.
var (
	ro = []string{"ro", "nodevices"}
	rw = []string{"nodevices"}
)

// ownMounts are what podinit needs.
func ownMounts(in Input, d Datasets) []zones.Mount {
	return []zones.Mount{
		{Target: "/sbin/init", Source: in.Node.Podinit[in.Brand], Type: "lofs", Options: ro},
		{Target: podinit.SpecDir, Source: path.Join(d.ZonePath, SpecDir), Type: "lofs", Options: ro},
		{Target: podinit.RunDir, Source: path.Join(d.ZonePath, RunDir), Type: "lofs", Options: rw},
		{Target: podinit.LogDir, Source: path.Join(d.ZonePath, LogDir), Type: "lofs", Options: rw},
		// What the host mounts below it later appears in the zone. The zone can
		// change nothing in it: not because of an option here, which would hold
		// for those mounts too, but because its file system is read-only.
		{Target: podinit.SpareDir, Source: d.Spares, Type: "lofs", Options: rw},
	}
}

func containerMounts(in Input, d Datasets) []zones.Mount {
	var mounts []zones.Mount
	for _, c := range AllContainers(in.Pod) {
		mounts = append(mounts, zones.Mount{
			Target: path.Join(podinit.ContainerDir, c.Name), Source: d.Containers[c.Name], Type: "zfs",
		})
	}
	return mounts
}

func volumeMounts(in Input, d Datasets) []zones.Mount {
	var mounts []zones.Mount
	for _, v := range in.Pod.Spec.Volumes {
		m := zones.Mount{Target: path.Join(podinit.VolumeDir, v.Name)}
		switch {
		case InMemory(v):
			m.Source, m.Type, m.Options = "swap", "tmpfs", rw
			if size := SizeLimit(v); size > 0 {
				m.Options = []string{fmt.Sprintf("size=%dk", (size+1023)/1024), "nodevices"}
			}
		case HasDataset(v):
			m.Source, m.Type = d.Volumes[v.Name], "zfs" // for its quota
		case v.Image != nil:
			m.Source, m.Type, m.Options = d.Volumes[v.Name], "zfs", []string{"ro", "noexec", "nosetuid"}
		case HasDirectory(v):
			m.Source, m.Type, m.Options = path.Join(d.ZonePath, EmptyDir, v.Name), "lofs", rw
		case HostWritten(v):
			m.Source, m.Type, m.Options = path.Join(d.ZonePath, VolumesDir, v.Name), "lofs", ro
		case HasSource(v):
			m.Source, m.Type, m.Options = d.Shown[v.Name].Point, "lofs", rw
			if d.Shown[v.Name].ReadOnly {
				m.Options = ro
			}
		default:
			continue // Admit has refused it
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// SizeLimit returns the quota of an emptyDir in bytes, 0 for none.
func SizeLimit(v corev1.Volume) int64 {
	if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil {
		return 0
	}
	return v.EmptyDir.SizeLimit.Value()
}

// InMemory reports whether v is an emptyDir in memory: a tmpfs of the zone,
// which counts as memory of the pod.
func InMemory(v corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
}

// HasDataset reports whether v is an emptyDir with a dataset of its own, for
// its quota.
func HasDataset(v corev1.Volume) bool { return v.EmptyDir != nil && !InMemory(v) && SizeLimit(v) > 0 }

// HasDirectory reports whether v is an emptyDir that is a directory of the
// pod's dataset, and so counts into the pod's quota only.
func HasDirectory(v corev1.Volume) bool {
	return v.EmptyDir != nil && !InMemory(v) && SizeLimit(v) == 0
}

// EmptyDirMode returns the permissions of an emptyDir, from a number as the API
// has it.
func EmptyDirMode(v corev1.Volume) fs.FileMode {
	if v.EmptyDir == nil || v.EmptyDir.Mode == nil {
		return 0o777 // whoever the containers run as
	}
	mode := fs.FileMode(*v.EmptyDir.Mode) & fs.ModePerm
	if *v.EmptyDir.Mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// ownVolumes are the volumes that podinit makes ready: what the host cannot,
// because only the zone has them mounted, and what belongs to a group.
func ownVolumes(pod *corev1.Pod, shown map[string]Shown) []podinit.Volume {
	var out []podinit.Volume
	for _, v := range pod.Spec.Volumes {
		s := shown[v.Name]
		if v.EmptyDir == nil && (!s.Group || s.ReadOnly) {
			continue
		}
		own := podinit.Volume{Name: v.Name, Keep: v.EmptyDir == nil}
		if v.EmptyDir != nil {
			own.Mode = v.EmptyDir.Mode
		}
		if s := pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
			own.Group = s.FSGroup
			own.RootOnly = s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch
		}
		if own.Group != nil || !HasDirectory(v) {
			out = append(out, own)
		}
	}
	return out
}
