package translate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HostPrefix is a directory of the host that pods may see, with all below it.
type HostPrefix struct {
	Path     string
	ReadOnly bool
}

// ParseHostPrefix reads PREFIX or PREFIX:ro.
func ParseHostPrefix(s string) (HostPrefix, error) {
	p := HostPrefix{Path: s}
	p.Path, p.ReadOnly = strings.CutSuffix(s, ":ro")
	if !path.IsAbs(p.Path) || path.Clean(p.Path) != p.Path {
		return HostPrefix{}, fmt.Errorf("%q is not an absolute path such as /srv/data or /srv/data:ro", s)
	}
	return p, nil
}

// hostPrefix returns the narrowest prefix that name lies in.
func hostPrefix(prefixes []HostPrefix, name string) (HostPrefix, bool) {
	var best HostPrefix
	found := false
	for _, p := range prefixes {
		if (name == p.Path || strings.HasPrefix(name, strings.TrimSuffix(p.Path, "/")+"/")) && (!found || len(p.Path) > len(best.Path)) {
			best, found = p, true
		}
	}
	return best, found
}

// Source is what a volume shows of the host, or of an NFS server.
type Source struct {
	Volume string
	Name   string // of the persistent volume, or Volume

	// Root and Path are an allowed directory of the host and what is below it;
	// both empty for an export.
	Root, Path string
	Type       corev1.HostPathType
	Fixed      bool // nothing may be made below Root

	Server, Export string
	Options        []string // of mount_nfs(8)

	ReadOnly  bool // whatever the mounts say
	Exclusive bool // for one pod at a time
	Group     bool // fsGroup applies
}

// Claims finds what claims are bound to. An object that does not exist is an
// API NotFound error.
type Claims interface {
	Claim(namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(name string) (*corev1.PersistentVolume, error)
}

// HasSource reports whether v has a Source.
func HasSource(v corev1.Volume) bool {
	return v.HostPath != nil || v.NFS != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil
}

// NeedsSources reports whether a volume of pod has a Source.
func NeedsSources(pod *corev1.Pod) bool { return slices.ContainsFunc(pod.Spec.Volumes, HasSource) }

// Sources returns what the volumes of the pod show, in their order. The error
// says what is in the way, in a kubelet's words; it may heal.
func Sources(pod *corev1.Pod, node Node, claims Claims) ([]Source, error) {
	node.HostPaths = hostPaths(pod, node)
	var out []Source
	for _, v := range pod.Spec.Volumes {
		var s Source
		var err error
		switch {
		case v.HostPath != nil:
			s, err = hostSource(node, v.HostPath)
		case v.NFS != nil:
			s = Source{Server: v.NFS.Server, Export: v.NFS.Path, ReadOnly: v.NFS.ReadOnly}
		case v.PersistentVolumeClaim != nil:
			s, err = claimed(pod, node, claims, v, v.PersistentVolumeClaim.ClaimName)
			s.ReadOnly = s.ReadOnly || v.PersistentVolumeClaim.ReadOnly
		case v.Ephemeral != nil:
			s, err = claimed(pod, node, claims, v, pod.Name+"-"+v.Name)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[], failed to process volumes=[%s]: %w", //nolint:staticcheck // a kubelet's sentence
				v.Name, v.Name, err)
		}
		if s.Volume = v.Name; s.Name == "" {
			s.Name = v.Name
		}
		out = append(out, s)
	}
	return out, nil
}

// hostPaths are the directories of the host that pod may see: all for a host
// pod, which could look at them anyway.
func hostPaths(pod *corev1.Pod, node Node) []HostPrefix {
	if HostPod(pod) {
		return []HostPrefix{{Path: "/"}}
	}
	return node.HostPaths
}

// hostSource is a path of the host, which the node must allow.
func hostSource(node Node, h *corev1.HostPathVolumeSource) (Source, error) {
	name := path.Clean(h.Path)
	if !path.IsAbs(h.Path) || slices.Contains(strings.Split(h.Path, "/"), "..") {
		return Source{}, fmt.Errorf("hostPath %q must be absolute and without \"..\"", h.Path)
	}
	p, ok := hostPrefix(node.HostPaths, name)
	if !ok {
		return Source{}, fmt.Errorf("hostPath %s is not in a directory that this node shows to pods (--host-path)", name)
	}
	s := Source{Root: p.Path, Path: strings.TrimPrefix(strings.TrimPrefix(name, p.Path), "/"), ReadOnly: p.ReadOnly, Fixed: p.ReadOnly}
	if h.Type != nil {
		s.Type = *h.Type
	}
	return s, nil
}

// claimed is what the claim of a volume is bound to.
func claimed(pod *corev1.Pod, node Node, claims Claims, v corev1.Volume, name string) (Source, error) {
	fail := func(err error) (Source, error) {
		return Source{}, fmt.Errorf("error processing PVC %s/%s: %w", pod.Namespace, name, err)
	}
	c, err := claims.Claim(pod.Namespace, name)
	switch {
	case err != nil:
		return fail(fmt.Errorf("failed to fetch PVC from API server: %w", err))
	case c.DeletionTimestamp != nil && !slices.Contains(c.Finalizers, "kubernetes.io/pvc-protection"):
		return fail(errors.New("PVC is being deleted"))
	case v.Ephemeral != nil && !metav1.IsControlledBy(c, pod):
		return Source{}, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", c.Namespace, c.Name, pod.Namespace, pod.Name)
	case c.Status.Phase != corev1.ClaimBound:
		return fail(errors.New("PVC is not bound"))
	case c.Spec.VolumeName == "":
		return fail(errors.New("PVC has empty pvc.Spec.VolumeName"))
	}
	pv, err := claims.PersistentVolume(c.Spec.VolumeName)
	switch {
	case err != nil:
		return fail(fmt.Errorf("failed to fetch PV %s from API server: %w", c.Spec.VolumeName, err))
	case pv.Spec.ClaimRef == nil:
		return fail(fmt.Errorf("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name))
	case pv.Spec.ClaimRef.UID != c.UID:
		return fail(fmt.Errorf("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", pv.Name, pv.Spec.ClaimRef.UID, c.UID))
	case pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode != corev1.PersistentVolumeFilesystem:
		return Source{}, fmt.Errorf("volume %s has volumeMode %s, which this node does not have", v.Name, *pv.Spec.VolumeMode)
	case !reachable(pv, node):
		return fail(fmt.Errorf("PV %s has a nodeAffinity that does not match this node", pv.Name))
	}
	s, err := persistent(pv, node)
	if err != nil {
		return fail(fmt.Errorf("PV %s: %w", pv.Name, err))
	}
	s.Name = pv.Name
	s.Exclusive = slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteOncePod)
	return s, nil
}

// reachable reports whether the volume's node affinity, which the scheduler
// has looked at, holds for node.
func reachable(pv *corev1.PersistentVolume, node Node) bool {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil || node.Labels == nil {
		return true
	}
	return slices.ContainsFunc(pv.Spec.NodeAffinity.Required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool { return fits(t, node) })
}

// persistent is what a persistent volume shows.
func persistent(pv *corev1.PersistentVolume, node Node) (Source, error) {
	switch {
	case pv.Spec.HostPath != nil:
		return hostSource(node, pv.Spec.HostPath)
	case pv.Spec.Local != nil:
		if t := pv.Spec.Local.FSType; t != nil && *t != "" {
			return Source{}, fmt.Errorf("local volume with fsType %s: this node shows directories, and mounts no block devices", *t)
		}
		kind := corev1.HostPathDirectory
		s, err := hostSource(node, &corev1.HostPathVolumeSource{Path: pv.Spec.Local.Path, Type: &kind})
		s.Group = true
		return s, err
	case pv.Spec.NFS != nil:
		options, err := NFSOptions(pv.Spec.MountOptions)
		return Source{Server: pv.Spec.NFS.Server, Export: pv.Spec.NFS.Path, Options: options, ReadOnly: pv.Spec.NFS.ReadOnly}, err
	}
	return Source{}, errors.New("this node can show local, hostPath and nfs volumes only")
}
