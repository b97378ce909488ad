package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/images"
)

// TestSecurityContext looks at what containers may do from inside.
func TestSecurityContext(t *testing.T) {
	apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: inside}\nspec:"+onNode+`
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1001, runAsGroup: 2002, supplementalGroups: [3003], fsGroup: 4004}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: bound
    image: `+busyboxImage+`
    command: ["sleep", "3600"]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: root
    image: `+busyboxImage+`
    command: ["sleep", "3600"]
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [CHOWN, NET_BIND_SERVICE]}}
    volumeMounts: [{name: data, mountPath: /data}]
`)
	p := waitPod(t, "inside", "a ready pod", ready)
	status := func(field string) string { return "sed -n 's/^" + field + ":[[:space:]]*//p' /proc/self/status" }
	for _, tt := range []struct{ container, command, want string }{
		{"bound", "id -u; id -g; id -G", "1001\n2002\n2002 3003 4004\n"},
		{"bound", "touch /x 2>/dev/null", "exit 1"},
		{"bound", "touch /data/x && stat -c '%u %g' /data/x", "1001 4004\n"},
		{"bound", status("CapEff") + "; " + status("CapPrm") + "; " + status("NoNewPrivs"), "0000000000000000\n0000000000000000\n1\n"},
		{"bound", "chown 0 /data/x 2>/dev/null", "exit 1"},
		// CHOWN is bit 0, NET_BIND_SERVICE bit 10.
		{"root", "id -u; " + status("CapEff") + "; " + status("NoNewPrivs"), "0\n0000000000000401\n0\n"},
		{"root", "touch /x", ""},
		{"root", "touch /y && chown 7 /y && stat -c %u /y", "7\n"},
		{"root", "hostname other 2>/dev/null", "exit 1"},
	} {
		out, code := kubectlCode(t, "", "exec", "inside", "-c", tt.container, "--", "sh", "-c", tt.command)
		if code != 0 {
			out += fmt.Sprintf("exit %d", code)
		}
		if out != tt.want {
			t.Errorf("container %s: %s: %q, want %q", tt.container, tt.command, out, tt.want)
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		u := s.User
		if u == nil || u.Linux == nil {
			t.Errorf("the status does not say as whom container %s runs", s.Name)
			continue
		}
		if want := map[string]int64{"bound": 1001, "root": 0}[s.Name]; u.Linux.UID != want || u.Linux.GID != 2002 {
			t.Errorf("the status says that container %s runs as %+v", s.Name, u.Linux)
		}
	}
}

// trapping is a container's program that says by which signal it was stopped.
const trapping = `for s in TERM USR1; do trap "echo $s >/dev/termination-log; exit 3" $s; done; echo ready; while :; do sleep 0.1; done`

// TestStopSignal stops containers with the signal that they name, or their image.
// What a kubelet says of it in the status shows that the cluster has the feature;
// so other pods have nothing of it there.
func TestStopSignal(t *testing.T) {
	base, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	config, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.Config.StopSignal = "SIGUSR1"
	img, err := mutate.Config(base, config.Config)
	if err != nil {
		t.Fatal(err)
	}
	full := image("signals/busybox:1")
	ref, err := name.ParseReference(full, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	type container struct{ name, image, named, want, status string }
	tests := []struct {
		name       string
		containers []container
	}{
		{"signal-unnamed", []container{{"plain", busyboxImage, "", "TERM", ""}, {"image", full, "", "USR1", ""}}},
		{"signal-named", []container{
			{"plain", busyboxImage, "", "TERM", "SIGTERM"}, {"image", full, "", "USR1", "SIGUSR1"},
			{"named", busyboxImage, "SIGUSR1", "USR1", "SIGUSR1"}, {"both", full, "SIGTERM", "TERM", "SIGTERM"},
		}},
	}
	for _, tt := range tests {
		manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: " + tt.name + "}\nspec:" + onNode +
			"\n  os: {name: linux}\n  terminationGracePeriodSeconds: 30\n  restartPolicy: Never\n  containers:\n"
		for _, c := range tt.containers {
			manifest += fmt.Sprintf("  - {name: %s, image: %q, command: [sh, -c, %q]", c.name, c.image, trapping)
			if c.named != "" {
				manifest += ", lifecycle: {stopSignal: " + c.named + "}"
			}
			manifest += "}\n"
		}
		apply(t, manifest)
	}
	for _, tt := range tests {
		p := waitPod(t, tt.name, "a ready pod", ready)
		for i, c := range tt.containers {
			eventually(t, time.Minute, "the traps", func(ctx context.Context) error {
				out, err := bed.Kubectl(ctx, "logs", tt.name, "-c", c.name)
				if err == nil && !strings.Contains(out, "ready") {
					err = fmt.Errorf("the container says %q", out)
				}
				return err
			})
			got := ""
			if s := p.Status.ContainerStatuses[i].StopSignal; s != nil {
				got = string(*s)
			}
			if p.Status.ContainerStatuses[i].Name != c.name || got != c.status {
				t.Errorf("%s: the status of container %s has stop signal %q, want %q", tt.name, c.name, got, c.status)
			}
		}
		// A finalizer keeps the object for its last status.
		kubectl(t, "patch", "pod", tt.name, "-p", `{"metadata":{"finalizers":["example.org/kept"]}}`)
		t.Cleanup(func() {
			bed.Kubectl(context.Background(), "patch", "pod", tt.name, "-p", `{"metadata":{"finalizers":null}}`)
		})
		kubectl(t, "delete", "pod", tt.name, "--wait=false")
	}
	for _, tt := range tests {
		p := waitPod(t, tt.name, "the containers' end", func(p *corev1.Pod) bool {
			return !slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Terminated == nil })
		})
		for i, c := range tt.containers {
			end := p.Status.ContainerStatuses[i].State.Terminated
			if strings.TrimSpace(end.Message) != c.want || end.ExitCode != 3 {
				t.Errorf("%s: container %s ended with %+v, want signal %s", tt.name, c.name, end, c.want)
			}
		}
	}
}

// TestNoRoom places a pod where there is no room for it.
func TestNoRoom(t *testing.T) {
	apply(t, pod("no-room", webImage, "nodeName: e2e1", "resources: {requests: {cpu: \"100\"}}"))
	p := waitPod(t, "no-room", "a refused pod", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status; s.Reason != "OutOfcpu" || len(s.ContainerStatuses) > 0 ||
		!strings.HasPrefix(s.Message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 100000, used: ") {
		t.Errorf("status %+v", s)
	}
	if out := kubectl(t, "get", "pod", "no-room", "--no-headers"); !strings.Contains(out, "OutOfcpu") {
		t.Errorf("kubectl shows %q", out)
	}
}

// TestEphemeralClaim gives a pod a claim of its own, which is bound to a local
// volume and goes with the pod.
func TestEphemeralClaim(t *testing.T) {
	onHost(t, "sh", "-c", "mkdir -p "+sharedDir+"/own && echo mine > "+sharedDir+"/own/file")
	apply(t, `
apiVersion: v1
kind: PersistentVolume
metadata: {name: own1, labels: {of: test-ephemeral-claim}}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: own
  persistentVolumeReclaimPolicy: Retain
  local: {path: `+sharedDir+`/own}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [e2e1]}]
`)
	apply(t, sleeper("own-claim", `
- name: own
  ephemeral:
    volumeClaimTemplate:
      spec: {accessModes: [ReadWriteOnce], storageClassName: own, resources: {requests: {storage: 1Gi}}}
`, "- {name: own, mountPath: /own}"))
	p := waitPod(t, "own-claim", "a ready pod", ready)
	if out := inPod(t, "own-claim", "cat /own/file && echo pod > /own/new"); out != "mine\n" {
		t.Errorf("the pod reads %q", out)
	}
	if out := kubectl(t, "get", "pvc", "own-claim-own", "-o", "jsonpath={.spec.volumeName} {.status.phase}"); out != "own1 Bound" {
		t.Errorf("its claim is %q", out)
	}
	kubectl(t, "delete", "pod", "own-claim")
	waitGone(t, p)
	err := bed.Eventually(t.Context(), 2*time.Minute, "the end of the claim", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "pvc", "own-claim-own", "--ignore-not-found", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("there is still %s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if out := onHost(t, "cat", sharedDir+"/own/file", sharedDir+"/own/new"); out != "mine\npod\n" {
		t.Errorf("the host reads %q", out)
	}
	mustNotBeMounted(t)
}
