package translate

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// claims are one claim and one volume.
type claims struct {
	claim *corev1.PersistentVolumeClaim
	pv    *corev1.PersistentVolume
}

func (c claims) Claim(_, name string) (*corev1.PersistentVolumeClaim, error) {
	if c.claim == nil || c.claim.Name != name {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, name)
	}
	return c.claim, nil
}

func (c claims) PersistentVolume(name string) (*corev1.PersistentVolume, error) {
	if c.pv == nil || c.pv.Name != name {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, name)
	}
	return c.pv, nil
}

// bound returns a claim and the volume that it is bound to.
func bound(claim string, source corev1.PersistentVolumeSource) claims {
	return claims{
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: claim, UID: "claim"},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv1"},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		},
		&corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv1"},
			Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: source, ClaimRef: &corev1.ObjectReference{UID: "claim"}},
		},
	}
}

func volumeNode() Node {
	n := node()
	n.HostPaths = []HostPrefix{{Path: "/srv"}, {Path: "/srv/fixed", ReadOnly: true}}
	n.Labels = map[string]string{"zone": "a"}
	return n
}

// withVolume is a pod with one volume, "data".
func withVolume(source corev1.VolumeSource) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "pod"},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "data", VolumeSource: source},
		}},
	}
}

func claimVolume(readOnly bool) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim1", ReadOnly: readOnly}}
}

func hostVolume(path string, kind corev1.HostPathType) corev1.VolumeSource {
	return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
}

func TestSources(t *testing.T) {
	hostPV := corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/pv"}}
	nfsPV := corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/export"}}
	for _, tt := range []struct {
		name   string
		source corev1.VolumeSource
		claims claims
		edit   func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume)
		want   Source
	}{
		{"hostPath", hostVolume("/srv/a/b", corev1.HostPathFile), claims{}, nil, Source{Name: "data", Root: "/srv", Path: "a/b", Type: corev1.HostPathFile}},
		{"the prefix itself", hostVolume("/srv/", ""), claims{}, nil, Source{Name: "data", Root: "/srv"}},
		{"narrowest prefix", hostVolume("/srv/fixed/x", ""), claims{}, nil, Source{Name: "data", Root: "/srv/fixed", Path: "x", ReadOnly: true, Fixed: true}},
		{"nfs", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/e", ReadOnly: true}}, claims{}, nil,
			Source{Name: "data", Server: "nas", Export: "/e", ReadOnly: true}},
		{"hostPath volume", claimVolume(true), bound("claim1", hostPV), nil, Source{Name: "pv1", Root: "/srv", Path: "pv", ReadOnly: true}},
		{"nfs volume", claimVolume(false), bound("claim1", nfsPV), func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
			pv.Spec.MountOptions = []string{"nfsvers=4.1", "hard,noatime"}
			pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		}, Source{Name: "pv1", Server: "nas", Export: "/export", Options: []string{"vers=4", "hard"}, Exclusive: true}},
		{"local volume", claimVolume(false), bound("claim1", corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/srv/disk"}}),
			func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = inZone("a") },
			Source{Name: "pv1", Root: "/srv", Path: "disk", Type: corev1.HostPathDirectory, Group: true}},
		{"ephemeral", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}, bound("web-data", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			yes := true
			c.OwnerReferences = []metav1.OwnerReference{{UID: "pod", Controller: &yes}}
		}, Source{Name: "pv1", Root: "/srv", Path: "pv"}},
		{"claim that is going and protected", claimVolume(false), bound("claim1", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			now := metav1.Now()
			c.DeletionTimestamp, c.Finalizers = &now, []string{"kubernetes.io/pvc-protection"}
		}, Source{Name: "pv1", Root: "/srv", Path: "pv"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(tt.claims.claim, tt.claims.pv)
			}
			got, err := Sources(withVolume(tt.source), volumeNode(), tt.claims)
			tt.want.Volume = "data"
			if err != nil || !reflect.DeepEqual(got, []Source{tt.want}) {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func inZone(zone string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{zone}}}},
	}}}
}

func TestSourcesNotToBeHad(t *testing.T) {
	hostPV := corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/pv"}}
	block := corev1.PersistentVolumeBlock
	zfs := "zfs"
	for _, tt := range []struct {
		name   string
		source corev1.VolumeSource
		claims claims
		edit   func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume)
		want   string
	}{
		{"not allowed", hostVolume("/etc", ""), claims{}, nil, "hostPath /etc is not in a directory that this node shows to pods (--host-path)"},
		{"not quite the prefix", hostVolume("/srvx", ""), claims{}, nil, "not in a directory"},
		{"back steps", hostVolume("/srv/../etc", ""), claims{}, nil, "without \"..\""},
		{"no claim", claimVolume(false), claims{}, nil, "error processing PVC shop/claim1: failed to fetch PVC from API server"},
		{"unbound", claimVolume(false), bound("claim1", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			c.Status.Phase = corev1.ClaimPending
		}, "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: error processing PVC shop/claim1: PVC is not bound"},
		{"going", claimVolume(false), bound("claim1", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			now := metav1.Now()
			c.DeletionTimestamp = &now
		}, "PVC is being deleted"},
		{"bound to nothing", claimVolume(false), bound("claim1", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) { c.Spec.VolumeName = "" }, "empty pvc.Spec.VolumeName"},
		{"no volume", claimVolume(false), bound("claim1", hostPV), func(c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) { c.Spec.VolumeName = "x" }, "failed to fetch PV x"},
		{"volume of another claim", claimVolume(false), bound("claim1", hostPV), func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
			pv.Spec.ClaimRef.UID = types.UID("other")
		}, "does not point to claim.UID claim"},
		{"block", claimVolume(false), bound("claim1", hostPV), func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) { pv.Spec.VolumeMode = &block }, "volumeMode Block"},
		{"elsewhere", claimVolume(false), bound("claim1", hostPV), func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) { pv.Spec.NodeAffinity = inZone("b") }, "nodeAffinity that does not match"},
		{"csi", claimVolume(false), bound("claim1", corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{}}), nil, "can show local, hostPath and nfs volumes only"},
		{"device", claimVolume(false), bound("claim1", corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/srv/x", FSType: &zfs}}), nil, "mounts no block devices"},
		{"hostPath volume that is not allowed", claimVolume(false), bound("claim1", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}), nil, "PV pv1: hostPath / is not in a directory"},
		{"ephemeral of another pod", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}, bound("web-data", hostPV), nil, "PVC shop/web-data was not created for pod shop/web (pod is not owner)"},
		{"option of Linux", claimVolume(false), bound("claim1", corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/e"}}), func(_ *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
			pv.Spec.MountOptions = []string{"nconnect=4"}
		}, `mount option "nconnect=4" has no meaning`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(tt.claims.claim, tt.claims.pv)
			}
			_, err := Sources(withVolume(tt.source), volumeNode(), tt.claims)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAdmitVolumes(t *testing.T) {
	bundle := corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}}}}
	for _, tt := range []struct {
		name     string
		source   corev1.VolumeSource
		readOnly bool
		want     string
	}{
		{"allowed", hostVolume("/srv/a", corev1.HostPathSocket), false, ""},
		{"not allowed", hostVolume("/var", ""), false, `volume "data": hostPath /var is not in a directory`},
		{"device", hostVolume("/srv/null", corev1.HostPathCharDev), false, "of type CharDevice: mounts of a zone have no devices"},
		{"read-only prefix", hostVolume("/srv/fixed", ""), true, ""},
		{"read-only prefix, written", hostVolume("/srv/fixed", ""), false, "volumeMounts[/data] of container main needs readOnly: true"},
		{"claim", claimVolume(false), false, ""},
		{"csi", corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}}, false, `volume "data": type csi`},
		{"gitRepo", corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{}}, false, `volume "data": type gitRepo`},
		{"of a later API", corev1.VolumeSource{}, false, "unknown to this node"},
		{"projected", bundle, false, "projected source 0: clusterTrustBundle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := withVolume(tt.source)
			p.Spec.Containers = []corev1.Container{{Name: "main", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data", ReadOnly: tt.readOnly}}}}
			r := Admit(p, volumeNode())
			switch {
			case tt.want == "" && r != nil:
				t.Errorf("refused: %+v", r)
			case tt.want != "" && (r == nil || !strings.Contains(r.Message, tt.want)):
				t.Errorf("refusal %+v, want %q", r, tt.want)
			}
		})
	}
}

func TestVolumeMountStatus(t *testing.T) {
	mode := func(m corev1.RecursiveReadOnlyMode) *corev1.RecursiveReadOnlyMode { return &m }
	c := &corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "a", MountPath: "/a"},
		{Name: "b", MountPath: "/b", ReadOnly: true},
		{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyIfPossible)},
		{Name: "d", MountPath: "/d", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)},
		{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyDisabled)},
	}}
	want := []corev1.VolumeMountStatus{
		{Name: "a", MountPath: "/a"},
		{Name: "b", MountPath: "/b", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyDisabled)},
		{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)},
		{Name: "d", MountPath: "/d", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyEnabled)},
		{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: mode(corev1.RecursiveReadOnlyDisabled)},
	}
	if got := volumeMountStatus(c); !reflect.DeepEqual(got, want) {
		t.Errorf("volumeMountStatus gives %+v", got)
	}
}

func TestParseHostPrefix(t *testing.T) {
	for in, want := range map[string]HostPrefix{
		"/srv": {Path: "/srv"}, "/srv:ro": {Path: "/srv", ReadOnly: true}, "/": {Path: "/"}, "/a:b": {Path: "/a:b"},
	} {
		if got, err := ParseHostPrefix(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "srv", "/srv/", "/a/../b", ":ro"} {
		if got, err := ParseHostPrefix(in); err == nil {
			t.Errorf("%q is accepted: %+v", in, got)
		}
	}
}

func TestNFSOptions(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"hard,timeo=600,retrans=2":     "hard timeo=600 retrans=2",
		"vers=4.2,proto=tcp,sec=sys":   "vers=4 proto=tcp sec=sys",
		"nolock,nodev,noatime,_netdev": "llock nodevices",
	} {
		got, err := NFSOptions([]string{in})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"vers=2", "timeo=", "timeo=x", "rsize=1k", "fsc", "retry=9", "sec=none", "proto=udp", "-o", "hard=1"} {
		if got, err := NFSOptions([]string{in}); err == nil {
			t.Errorf("%q is accepted: %q", in, got)
		}
	}
}

func FuzzNFSOptions(f *testing.F) {
	f.Add("vers=4,hard")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NFSOptions([]string{s})
		if err != nil {
			return
		}
		for _, o := range got {
			if o == "" || strings.ContainsAny(o, ", \t\n") {
				t.Errorf("%q gives the option %q", s, o)
			}
		}
	})
}

// TestHostPodsSeeTheHost: a host pod could look at everything anyway.
func TestHostPodsSeeTheHost(t *testing.T) {
	p := withVolume(hostVolume("/var/log", corev1.HostPathDirectory))
	class := HostClass
	p.Spec.RuntimeClassName = &class
	got, err := Sources(p, volumeNode(), claims{})
	want := []Source{{Volume: "data", Name: "data", Root: "/", Path: "var/log", Type: corev1.HostPathDirectory}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestEachMountOnce: the status has one line for each mount.
func TestEachMountOnce(t *testing.T) {
	p := pod()
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "a", MountPath: "/a"}, {Name: "b", MountPath: "/b", ReadOnly: true}}
	s := Status(Observed{Pod: p, Node: node()})
	if got := s.ContainerStatuses[0].VolumeMounts; len(got) != 2 {
		t.Errorf("the status has %d mounts: %+v", len(got), got)
	}
}
