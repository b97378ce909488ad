package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones/podinit"
)

// TestNonRoot: only a number that is not 0 passes, in a kubelet's words.
func TestNonRoot(t *testing.T) {
	yes, zero, one := true, int64(0), int64(1)
	for _, tt := range []struct {
		name  string
		image string // its user
		as    *int64
		want  string
	}{
		{"runAsUser", "root", &one, ""},
		{"runAsUser root", "1000", &zero, `container's runAsUser breaks non-root policy (pod: "web-0_shop(` + uid + `)", container: web)`},
		{"image without user", "", nil, "container has runAsNonRoot and image will run as root"},
		{"image of root by number", "0:0", nil, "container has runAsNonRoot and image will run as root"},
		{"image with number", "1000:2000", nil, ""},
		{"image with name", "nobody", nil, "container has runAsNonRoot and image has non-numeric user (nobody), cannot verify user is non-root"},
		{"image with nonsense", "0x0", nil, "non-numeric user (0x0)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: tt.as}
			pc := podinit.Container{User: tt.image}
			err := secure(&pc, p, &p.Spec.Containers[0])
			if tt.want == "" {
				if err != nil || !pc.RunAsNonRoot {
					t.Errorf("%v; podinit checks: %v", err, pc.RunAsNonRoot)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// TestAdmitCapabilities: what no zone has is refused, the rest is not.
func TestAdmitCapabilities(t *testing.T) {
	for name, ok := range map[corev1.Capability]bool{
		"NET_ADMIN": true, "CAP_SYS_PTRACE": true, "net_bind_service": true, "MKNOD": true,
		"SYS_MODULE": false, "SYS_TIME": false, "CAP_SYS_RAWIO": false, "BPF": false, "ALL": false, "NO_SUCH": false,
	} {
		p := pod()
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
			Add: []corev1.Capability{name}, Drop: []corev1.Capability{"ALL"},
		}}
		r := Admit(p, node())
		if (r == nil) != ok || !ok && !strings.Contains(r.Message, "capabilities.add: "+string(name)) {
			t.Errorf("%s: %+v, want admitted %v", name, r, ok)
		}
	}
}

func TestAdmitPrivileged(t *testing.T) {
	yes := true
	p := pod()
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
	if r := Admit(p, node()); r == nil || !strings.Contains(r.Message, "containers[web].securityContext.privileged, which this node does not allow") {
		t.Errorf("refusal: %+v", r)
	}
	n := node()
	n.AllowPrivileged = true
	if r := Admit(p, n); r != nil {
		t.Errorf("refused where it is allowed: %+v", r)
	}
	var pc podinit.Container
	if err := secure(&pc, p, &p.Spec.Containers[0]); err != nil || len(pc.AddCapabilities) != 1 || pc.AddCapabilities[0] != "ALL" {
		t.Errorf("container: %+v, %v", pc, err)
	}
}

// TestWhatALinuxNodeIgnores: options of other systems change nothing, as on a
// Linux kubelet without SELinux.
func TestWhatALinuxNodeIgnores(t *testing.T) {
	name := "x"
	p := pod()
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		WindowsOptions: &corev1.WindowsSecurityContextOptions{RunAsUserName: &name}, SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c1"},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		WindowsOptions: &corev1.WindowsSecurityContextOptions{RunAsUserName: &name}, SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c1"},
	}
	if r := Admit(p, node()); r != nil {
		t.Errorf("refused: %+v", r)
	}
}
