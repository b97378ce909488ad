package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The directories of the host that pods may see; see run.
const (
	sharedDir = "/srv/e2e"
	fixedDir  = "/srv/e2e-fixed"
)

// sleeper is a pod with volumes, and one container that mounts them and sleeps.
func sleeper(name, volumes, mounts string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec:" + onNode + `
  terminationGracePeriodSeconds: 1
  volumes:
` + indent(volumes, "  ") + `  containers:
  - name: main
    image: ` + busyboxImage + `
    command: ["sleep", "3600"]
    volumeMounts:
` + indent(mounts, "    ")
}

// inPod runs a command in the pod's container and returns what it prints, with
// its exit code if that is not 0.
func inPod(t *testing.T, pod, command string) string {
	t.Helper()
	out, code := kubectlCode(t, "", "exec", pod, "--", "sh", "-c", command)
	if code != 0 {
		out += fmt.Sprintf("exit %d", code)
	}
	return out
}

// waitReason waits for an event about the pod whose message has text in it.
func waitReason(t *testing.T, pod, reason, text string) {
	t.Helper()
	err := bed.Eventually(t.Context(), time.Minute, "the event "+reason+" "+text, func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "events", "--field-selector", "involvedObject.name="+pod+",reason="+reason, "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("the events say %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// mustNotBeMounted waits until the host has nothing mounted for pods.
func mustNotBeMounted(t *testing.T) {
	t.Helper()
	err := bed.Eventually(t.Context(), time.Minute, "no mounts for pods", func(ctx context.Context) error {
		out, err := host.Run(ctx, "mount", "-p")
		if err == nil && strings.Contains(out, "/reddwarf/mounts/") {
			err = fmt.Errorf("the host has\n%s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestHostPaths shows directories, files and sockets of the host, and refuses
// what is not allowed or leads out of it.
func TestHostPaths(t *testing.T) {
	onHost(t, "sh", "-c", "mkdir -p "+sharedDir+"/d "+fixedDir+" && echo hello > "+sharedDir+"/d/file && echo fixed > "+fixedDir+"/file && ln -sfn /etc "+sharedDir+"/out")
	apply(t, sleeper("hostpaths", `
- {name: dir, hostPath: {path: `+sharedDir+`/d, type: Directory}}
- {name: made, hostPath: {path: `+sharedDir+`/made/deep, type: DirectoryOrCreate}}
- {name: file, hostPath: {path: `+sharedDir+`/d/file, type: File}}
- {name: fixed, hostPath: {path: `+fixedDir+`}}
`, `
- {name: dir, mountPath: /dir}
- {name: made, mountPath: /made}
- {name: file, mountPath: /one/file, readOnly: true}
- {name: fixed, mountPath: /fixed, readOnly: true, recursiveReadOnly: IfPossible}
`))
	p := waitPod(t, "hostpaths", "a ready pod", ready)
	for command, want := range map[string]string{
		"cat /dir/file /one/file /fixed/file":            "hello\nhello\nfixed\n",
		"echo from pod > /dir/new && echo x > /made/new": "",
		"echo x > /one/file 2>/dev/null":                 "exit 1",
		"touch /fixed/new 2>/dev/null":                   "exit 1",
	} {
		if out := inPod(t, "hostpaths", command); out != want {
			t.Errorf("%s: %q, want %q", command, out, want)
		}
	}
	if out := onHost(t, "cat", sharedDir+"/d/new", sharedDir+"/made/deep/new"); out != "from pod\nx\n" {
		t.Errorf("the host reads %q", out)
	}
	for _, m := range p.Status.ContainerStatuses[0].VolumeMounts {
		if m.Name == "fixed" && (m.RecursiveReadOnly == nil || *m.RecursiveReadOnly != corev1.RecursiveReadOnlyEnabled) {
			t.Errorf("the status says of the read-only mount: %+v", m)
		}
	}

	apply(t, sleeper("hostpath-denied", "- {name: etc, hostPath: {path: /etc}}", "- {name: etc, mountPath: /etc-of-host}"))
	waitPod(t, "hostpath-denied", "a refused pod", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && strings.Contains(p.Status.Message, "hostPath /etc is not in a directory that this node shows to pods")
	})

	apply(t, sleeper("hostpath-escape", "- {name: out, hostPath: {path: "+sharedDir+"/out}}", "- {name: out, mountPath: /out}"))
	waitReason(t, "hostpath-escape", "FailedMount", "leads out of the directory that is allowed")
	if p := waitPod(t, "hostpath-escape", "a pod", func(*corev1.Pod) bool { return true }); p.Status.Phase != corev1.PodPending {
		t.Errorf("the pod whose path leads out is %s", p.Status.Phase)
	}

	kubectl(t, "delete", "pod", "hostpaths", "hostpath-denied", "hostpath-escape")
	waitGone(t, p)
	mustNotBeMounted(t)
}

// exported makes a directory of an NFS server of the lab.
func exported(t *testing.T, server, dir string) string {
	t.Helper()
	home := filepath.Join(labDir(), "nfs", server, dir)
	if err := os.MkdirAll(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	return home
}

// labDir is the lab's own directory, which all hosts share.
func labDir() string { return filepath.Join(os.Getenv("REDDWARF_BED"), "lab") }

// persistent is a volume and a claim that is bound to it by name.
func persistent(name, source string) string {
	return `
apiVersion: v1
kind: PersistentVolume
metadata: {name: ` + name + `}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: ""
` + indent(source, "  ") + `---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ` + name + `, namespace: default}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: ` + name + `
  resources: {requests: {storage: 1Gi}}
`
}

// TestNFS mounts an export once for two pods, one through a claim and one
// inline, and unmounts it after the last.
func TestNFS(t *testing.T) {
	home := exported(t, "nas", "export/data")
	if err := os.WriteFile(filepath.Join(home, "file"), []byte("far away\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	apply(t, persistent("nfs1", "mountOptions: [\"vers=4.1\", hard]\nnfs: {server: nas, path: /export/data}"))
	apply(t, sleeper("nfs-claim", "- {name: data, persistentVolumeClaim: {claimName: nfs1}}", "- {name: data, mountPath: /data}"))
	apply(t, sleeper("nfs-second", "- {name: data, persistentVolumeClaim: {claimName: nfs1, readOnly: true}}", "- {name: data, mountPath: /data}"))
	apply(t, sleeper("nfs-inline", "- {name: data, nfs: {server: nas, path: /export/data}}", "- {name: data, mountPath: /data, subPath: sub}"))
	p := waitPod(t, "nfs-claim", "a ready pod", ready)
	waitPod(t, "nfs-second", "a ready pod", ready)
	waitPod(t, "nfs-inline", "a ready pod", ready)
	if out := inPod(t, "nfs-claim", "cat /data/file && echo mine > /data/mine"); out != "far away\n" {
		t.Errorf("the pod reads %q", out)
	}
	if out := inPod(t, "nfs-second", "cat /data/mine; touch /data/x 2>/dev/null"); out != "mine\nexit 1" {
		t.Errorf("the second pod, read-only, says %q", out)
	}
	if out := inPod(t, "nfs-inline", "echo sub > /data/file && cat /data/file"); out != "sub\n" {
		t.Errorf("the pod with a sub-path reads %q", out)
	}
	if text, err := os.ReadFile(filepath.Join(home, "sub", "file")); err != nil || string(text) != "sub\n" {
		t.Errorf("the server has %q, %v", text, err)
	}
	if n := strings.Count(onHost(t, "mount", "-p"), "nas:/export/data"); n != 2 {
		t.Errorf("the export is mounted %d times, want once for each set of options", n)
	}
	// An agent that is killed finds what it has mounted.
	if err := host.KillAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := host.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "pod", "nfs-claim")
	waitGone(t, p)
	if out := inPod(t, "nfs-second", "cat /data/file"); out != "far away\n" {
		t.Errorf("after the first pod is gone the second reads %q", out)
	}
	kubectl(t, "delete", "pod", "nfs-second", "nfs-inline")
	mustNotBeMounted(t)
}

// TestClaims waits for a claim as a kubelet does, shows local and hostPath
// volumes, and gives a local volume to the pod's group.
func TestClaims(t *testing.T) {
	onHost(t, "sh", "-c", "mkdir -p "+sharedDir+"/local "+sharedDir+"/pv && echo data > "+sharedDir+"/local/file && chmod 700 "+sharedDir+"/local && echo pv > "+sharedDir+"/pv/file")
	node := "local: {path: " + sharedDir + "/local}\nnodeAffinity:\n  required:\n    nodeSelectorTerms:\n    - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [e2e1]}]\n"
	apply(t, persistent("local1", node))
	apply(t, persistent("path1", "hostPath: {path: "+sharedDir+"/pv}"))
	manifest := sleeper("claims", "- {name: local, persistentVolumeClaim: {claimName: local1}}\n- {name: path, persistentVolumeClaim: {claimName: path1}}",
		"- {name: local, mountPath: /local}\n- {name: path, mountPath: /path}")
	apply(t, strings.Replace(manifest, "  terminationGracePeriodSeconds: 1\n", "  terminationGracePeriodSeconds: 1\n  securityContext: {fsGroup: 4711, runAsUser: 1000}\n", 1))
	waitPod(t, "claims", "a ready pod", ready)
	if out := inPod(t, "claims", "cat /local/file /path/file; stat -c '%a %g' /local /path; echo new > /local/new && stat -c %g /local/new"); out != "data\npv\n2770 4711\n755 0\n4711\n" {
		t.Errorf("the pod says %q", out)
	}

	// The name of the node is given, so that no scheduler waits for the claim.
	unbound := sleeper("unbound", "- {name: data, persistentVolumeClaim: {claimName: later}}", "- {name: data, mountPath: /data}")
	unbound = strings.Replace(unbound, "  nodeSelector: {kubernetes.io/os: illumos}", "  nodeName: e2e1", 1)
	apply(t, `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: later}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: later, resources: {requests: {storage: 1Gi}}}
`)
	apply(t, unbound)
	waitReason(t, "unbound", "FailedMount", "error processing PVC default/later: PVC is not bound")
	apply(t, strings.Split(persistent("later", "hostPath: {path: "+sharedDir+"/pv}"), "---")[0])
	waitPod(t, "unbound", "a ready pod, once its claim is bound", ready)

	apply(t, persistent("csi1", "csi: {driver: csi.example.org, volumeHandle: x}"))
	csi := strings.Replace(sleeper("csi", "- {name: data, persistentVolumeClaim: {claimName: csi1}}", "- {name: data, mountPath: /data}"), "  nodeSelector: {kubernetes.io/os: illumos}", "  nodeName: e2e1", 1)
	apply(t, csi)
	waitReason(t, "csi", "FailedMount", "this node can show local, hostPath and nfs volumes only")

	kubectl(t, "delete", "pod", "claims", "unbound", "csi")
	kubectl(t, "delete", "pvc", "later") // a volume does not go before its claim
	mustNotBeMounted(t)
	if out := onHost(t, "cat", sharedDir+"/local/file"); out != "data\n" {
		t.Errorf("the volume's data is %q after its pod", out)
	}
}

// TestImageVolume shows the files of an image, which nobody can change or run.
func TestImageVolume(t *testing.T) {
	apply(t, sleeper("image-volume", "- {name: img, image: {reference: \""+busyboxImage+"\"}}", "- {name: img, mountPath: /img}\n- {name: img, mountPath: /sub, subPath: etc}"))
	p := waitPod(t, "image-volume", "a ready pod", ready)
	for command, want := range map[string]string{
		"grep -c ^root: /img/etc/passwd /sub/passwd": "/img/etc/passwd:1\n/sub/passwd:1\n",
		"touch /img/new 2>/dev/null":                 "exit 1",
		"/img/bin/busybox true 2>/dev/null":          "exit 126",
	} {
		if out := inPod(t, "image-volume", command); out != want {
			t.Errorf("%s: %q, want %q", command, out, want)
		}
	}
	kubectl(t, "delete", "pod", "image-volume")
	waitGone(t, p)
}
