package translate

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
)

// TestStatus has a golden file for each state that users see.
func TestStatus(t *testing.T) {
	began := time.Date(2026, 11, 1, 12, 0, 0, 500, time.UTC)
	now := began.Add(time.Minute)
	image := &ledger.Image{ID: "sha256:aa", Digest: "registry.example/web@sha256:bb"}
	exit := func(attempt, code int, reason string) *ledger.Exit {
		return &ledger.Exit{Attempt: attempt, Code: code, Reason: reason, StartedAt: began.Add(5 * time.Second), FinishedAt: began.Add(50 * time.Second)}
	}
	running := func(c *ledger.Container) {
		c.Image, c.Phase, c.StartedAt, c.Started, c.Ready = image, podinit.Running, began.Add(5*time.Second), true, true
	}
	for _, tt := range []struct {
		name string
		edit func(*Observed)
	}{
		{"pending", func(o *Observed) { o.ZoneRuns, o.State.Addresses = false, nil }},
		{"image-error", func(o *Observed) {
			o.Waiting = map[string]Waiting{"web": {ReasonErrImagePull, "web:1: image not found"}}
		}},
		{"running", func(o *Observed) { running(&o.State.Containers[0]) }},
		{"probe-not-started", func(o *Observed) {
			running(&o.State.Containers[0])
			o.State.Containers[0].Started, o.State.Containers[0].Ready = false, false
		}},
		{"probe-not-ready", func(o *Observed) {
			running(&o.State.Containers[0])
			o.State.Containers[0].Ready = false
		}},
		{"running-again", func(o *Observed) {
			running(&o.State.Containers[0])
			o.State.Containers[0].Attempt, o.State.Containers[0].Last = 2, exit(1, 1, ReasonError)
		}},
		{"crash-loop", func(o *Observed) {
			c := &o.State.Containers[0]
			c.Image, c.Attempt, c.Phase, c.Exit = image, 3, podinit.Exited, exit(3, 139, ReasonError)
			c.Exit.Signal = 11
			c.NotBefore = c.Exit.FinishedAt.Add(40 * time.Second)
		}},
		{"start-error", func(o *Observed) {
			o.Pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			c := &o.State.Containers[0]
			c.Image, c.Phase, c.Exit = image, podinit.Exited, exit(0, 128, ReasonStartError)
			c.Exit.Message = `exec: "/web": no such file or directory`
			o.State.End = &ledger.End{Phase: corev1.PodFailed, At: now}
		}},
		{"ephemeral", func(o *Observed) {
			running(&o.State.Containers[0])
			o.Spares = 2
			for _, name := range []string{"debugger", "pulls", "too-many"} {
				o.Pod.Spec.EphemeralContainers = append(o.Pod.Spec.EphemeralContainers,
					corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "tools:1"}})
				o.State.Containers = append(o.State.Containers, ledger.Container{Name: name, Phase: podinit.Waiting})
			}
			running(&o.State.Containers[1])
			o.Waiting = map[string]Waiting{"pulls": {ReasonErrImagePull, "tools:1: image not found"}}
		}},
		{"hook", func(o *Observed) {
			running(&o.State.Containers[0]) // which is not shown yet
			o.Pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		}},
		{"sidecar-starts", func(o *Observed) {
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: "web:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			o.State.Containers = append([]ledger.Container{{Name: "proxy"}}, o.State.Containers...)
			running(&o.State.Containers[0])
			o.State.Containers[0].Started, o.State.Containers[0].Ready = false, false
		}},
		{"sidecar-restarts", func(o *Observed) {
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: "web:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			o.State.Containers = append([]ledger.Container{{Name: "proxy"}}, o.State.Containers...)
			running(&o.State.Containers[1])
			o.State.Initialized = true
			c := &o.State.Containers[0]
			c.Image, c.Phase, c.Exit = image, podinit.Exited, exit(0, 0, ReasonCompleted)
			c.NotBefore = c.Exit.FinishedAt.Add(40 * time.Second)
		}},
		{"sidecar-stops", func(o *Observed) {
			o.Pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: "web:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			o.State.Containers = append([]ledger.Container{{Name: "proxy"}}, o.State.Containers...)
			running(&o.State.Containers[0])
			c := &o.State.Containers[1]
			c.Image, c.Phase, c.Exit = image, podinit.Exited, exit(0, 0, ReasonCompleted)
			o.State.Initialized, o.State.End = true, &ledger.End{Phase: corev1.PodSucceeded, At: now}
		}},
		{"succeeded", func(o *Observed) {
			o.Pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			c := &o.State.Containers[0]
			c.Image, c.Phase, c.Exit = image, podinit.Exited, exit(0, 0, ReasonCompleted)
			o.ZoneRuns, o.State.End = false, &ledger.End{Phase: corev1.PodSucceeded, At: now}
		}},
		{"refused", func(o *Observed) {
			o.ZoneRuns, o.State.Addresses = false, nil
			o.State.End = &ledger.End{Phase: corev1.PodFailed, Reason: ReasonUnsupported, Message: "Pod uses what this node cannot do: hostNetwork", At: now, Refused: true}
		}},
		{"deadline-while-initializing", func(o *Observed) {
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "one", Image: "web:1"}, {Name: "two", Image: "web:1"}, {Name: "three", Image: "web:1"}}
			c := ledger.Container{Name: "two", Image: image, Attempt: 1, Phase: podinit.Waiting, Last: exit(0, 1, ReasonError)}
			o.State.Containers = []ledger.Container{
				{Name: "one", Image: image, Phase: podinit.Exited, Exit: exit(0, 0, ReasonCompleted)}, c,
				{Name: "three", Phase: podinit.Waiting}, {Name: "web", Phase: podinit.Waiting},
			}
			o.ZoneRuns, o.State.Boot = false, "b"
			o.State.End = &ledger.End{Phase: corev1.PodFailed, Reason: ReasonDeadline, Message: "Pod was active on the node longer than the specified deadline", At: now}
		}},
		{"deadline-while-pulling", func(o *Observed) {
			o.ZoneRuns, o.State.Addresses = false, nil
			o.State.End = &ledger.End{Phase: corev1.PodFailed, Reason: ReasonDeadline, Message: "Pod was active on the node longer than the specified deadline", At: now}
		}},
		{"refused-initializing", func(o *Observed) {
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "one", Image: "web:1"}}
			o.ZoneRuns, o.State.Addresses = false, nil
			o.State.End = &ledger.End{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Pod was rejected: …", At: now, Refused: true}
		}},
		{"initializing", func(o *Observed) {
			o.Pod.Spec.InitContainers = []corev1.Container{{Name: "one", Image: "web:1"}, {Name: "two", Image: "web:1"}}
			o.State.Containers = []ledger.Container{
				{Name: "one", Image: image, Phase: podinit.Exited, Exit: exit(0, 0, ReasonCompleted)},
				{Name: "two", Image: image, Phase: podinit.Running, StartedAt: began, Started: true, Ready: true},
				{Name: "web", Image: image, Phase: podinit.Waiting},
			}
		}},
		{"one-of-two-ready", func(o *Observed) {
			o.Pod.Spec.Containers = append(o.Pod.Spec.Containers, corev1.Container{Name: "side", Image: "side:1"})
			running(&o.State.Containers[0])
			o.State.Containers = append(o.State.Containers, ledger.Container{Name: "side", Phase: podinit.Exited, Exit: exit(0, 1, ReasonError)})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Status.Conditions = []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(began.Truncate(time.Second))},
				{Type: "example.org/gate", Status: corev1.ConditionTrue, Message: "not ours"},
			}
			o := Observed{
				Pod: p, Node: node(), Now: now, ZoneRuns: true,
				State: ledger.State{
					UID: uid, Accepted: began, Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.9")},
					Containers: []ledger.Container{{Name: "web", Phase: podinit.Waiting}},
				},
			}
			tt.edit(&o)
			text, err := yaml.Marshal(Status(o))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "status-"+tt.name+".yaml", string(text))
		})
	}
}

// TestStatusIsStable: the status of an unchanged pod, made again later from
// what the API server has, is the same to the byte.
func TestStatusIsStable(t *testing.T) {
	began := time.Date(2026, 11, 1, 12, 0, 0, 123456789, time.UTC)
	o := Observed{
		Pod: pod(), Node: node(), Now: began, ZoneRuns: true,
		State: ledger.State{UID: uid, Accepted: began, Containers: []ledger.Container{{
			Name: "web", Phase: podinit.Running, StartedAt: began, Ready: true, Started: true, Last: &ledger.Exit{Code: 1, FinishedAt: began}}}},
	}
	first, err := yaml.Marshal(Status(o))
	if err != nil {
		t.Fatal(err)
	}
	o.Pod = o.Pod.DeepCopy()
	if err := yaml.Unmarshal(first, &o.Pod.Status); err != nil {
		t.Fatal(err)
	}
	o.Now = began.Add(time.Hour)
	second, err := yaml.Marshal(Status(o))
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Errorf("status changed from\n%s\nto\n%s", first, second)
	}
}

// TestAdmitNamesEveryFault: what a pod would not get is refused by name.
func TestAdmitNamesEveryFault(t *testing.T) {
	yes, no, long := true, false, "Localhost"
	always := corev1.ContainerRestartPolicyAlways
	both := corev1.MountPropagationBidirectional
	for want, edit := range map[string]func(*corev1.Pod){
		"hostNetwork":      func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"hostPID":          func(p *corev1.Pod) { p.Spec.HostPID = true },
		"hostIPC":          func(p *corev1.Pod) { p.Spec.HostIPC = true },
		"hostUsers: false": func(p *corev1.Pod) { p.Spec.HostUsers = &no },
		"privileged": func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		},
		"seccompProfile": func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &long}}
		},
		"lifecycle.preStop.tcpSocket": func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{}}}
		},
		"action Reboot": func(p *corev1.Pod) {
			p.Spec.Containers[0].RestartPolicy = &always
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Reboot"}}
		},
		"mountPropagation": func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{MountPath: "/x", MountPropagation: &both}}
		},
		`volume "v": hostPath /etc is not in a directory`: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}}
		},
		`volume "v": type csi`: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}}}}
		},
		`volume "v": type gitRepo`: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{}}}}
		},
		`volume "v": emptyDir with medium HugePages`: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}}}
		},
		"nothing that this node knows": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			p := pod()
			edit(p)
			r := Admit(p, node())
			if r == nil || r.Reason != ReasonUnsupported {
				t.Fatalf("Admit = %+v", r)
			}
			if want == "nothing that this node knows" {
				want = "unknown to this node"
			}
			if !strings.Contains(r.Message, want) {
				t.Errorf("message %q does not say %q", r.Message, want)
			}
		})
	}
	if r := Admit(pod(), node()); r != nil {
		t.Errorf("a plain pod is refused: %+v", r)
	}
	windows := pod()
	windows.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
	if r := Admit(windows, node()); r == nil || r.Reason != ReasonPodOS {
		t.Errorf("a Windows pod: %+v", r)
	}
	tuned := pod()
	tuned.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.shm_rmid_forced", Value: "1"}}}
	if r := Admit(tuned, node()); r == nil || r.Reason != ReasonSysctl || !strings.Contains(r.Message, `"kernel.shm_rmid_forced" not allowlisted`) {
		t.Errorf("a pod with sysctls: %+v", r)
	}
}
