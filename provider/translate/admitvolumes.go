package translate

import corev1 "k8s.io/api/core/v1"

// volume refuses what no volume of this node can be. What a claim is bound to
// shows only later; see Sources.
func (a *admission) volume(pod *corev1.Pod, v corev1.Volume, node Node) {
	switch {
	case v.EmptyDir != nil:
		a.when(v.EmptyDir.Medium != corev1.StorageMediumDefault && v.EmptyDir.Medium != corev1.StorageMediumMemory,
			"volume %q: emptyDir with medium %s", v.Name, v.EmptyDir.Medium)
	case v.Projected != nil:
		for i, s := range v.Projected.Sources {
			kind := projectionType(s)
			a.when(kind != "", "volume %q: projected source %d: %s", v.Name, i, kind)
		}
	case v.HostPath != nil:
		a.hostPath(pod, v, node)
	case v.Image != nil:
		a.when(v.Image.Reference == "", "volume %q: image without a reference", v.Name)
	case v.NFS != nil, v.PersistentVolumeClaim != nil, v.Ephemeral != nil, HostWritten(v):
	default:
		a.when(true, "volume %q: type %s", v.Name, volumeType(v))
	}
}

// projectionType names what a projected source is, if this node cannot make it.
func projectionType(s corev1.VolumeProjection) string {
	switch {
	case s.ServiceAccountToken != nil, s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil:
		return ""
	case s.ClusterTrustBundle != nil:
		return "clusterTrustBundle"
	case s.PodCertificate != nil:
		return "podCertificate"
	}
	return "unknown to this node"
}

func (a *admission) hostPath(pod *corev1.Pod, v corev1.Volume, node Node) {
	h := v.HostPath
	if kind := deref(h.Type); kind == corev1.HostPathCharDev || kind == corev1.HostPathBlockDev {
		a.when(true, "volume %q: hostPath %s of type %s: mounts of a zone have no devices", v.Name, h.Path, kind)
		return
	}
	node.HostPaths = hostPaths(pod, node)
	s, err := hostSource(node, h)
	if err != nil {
		a.when(true, "volume %q: %v", v.Name, err)
		return
	}
	if !s.ReadOnly {
		return
	}
	for _, c := range AllContainers(pod) {
		for _, m := range c.VolumeMounts {
			a.when(m.Name == v.Name && !m.ReadOnly,
				"volume %q: hostPath %s is shown read-only by this node, so volumeMounts[%s] of container %s needs readOnly: true",
				v.Name, h.Path, m.MountPath, c.Name)
		}
	}
}

// volumeType names what a volume is, as its field in a manifest.
func volumeType(v corev1.Volume) string {
	s := v.VolumeSource
	for name, set := range map[string]bool{
		"csi": s.CSI != nil, "gitRepo": s.GitRepo != nil, "iscsi": s.ISCSI != nil, "fc": s.FC != nil, "rbd": s.RBD != nil,
		"cephfs": s.CephFS != nil, "glusterfs": s.Glusterfs != nil, "cinder": s.Cinder != nil, "flexVolume": s.FlexVolume != nil,
		"flocker": s.Flocker != nil, "quobyte": s.Quobyte != nil, "scaleIO": s.ScaleIO != nil, "storageos": s.StorageOS != nil,
		"portworxVolume": s.PortworxVolume != nil, "vsphereVolume": s.VsphereVolume != nil, "azureDisk": s.AzureDisk != nil,
		"azureFile": s.AzureFile != nil, "awsElasticBlockStore": s.AWSElasticBlockStore != nil,
		"gcePersistentDisk": s.GCEPersistentDisk != nil, "photonPersistentDisk": s.PhotonPersistentDisk != nil,
	} {
		if set {
			return name
		}
	}
	return "unknown to this node"
}
