package translate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones/podinit"
)

// secure applies the security contexts of pod and container.
func secure(pc *podinit.Container, pod *corev1.Pod, c *corev1.Container) error {
	if p := pod.Spec.SecurityContext; p != nil {
		pc.RunAsUser, pc.RunAsGroup = p.RunAsUser, p.RunAsGroup
		pc.RunAsNonRoot = isTrue(p.RunAsNonRoot)
		pc.SupplementalGroups = slices.Clone(p.SupplementalGroups)
		pc.StrictGroups = p.SupplementalGroupsPolicy != nil && *p.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
		if p.FSGroup != nil && !slices.Contains(pc.SupplementalGroups, *p.FSGroup) {
			pc.SupplementalGroups = append(pc.SupplementalGroups, *p.FSGroup)
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			pc.RunAsUser = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			pc.RunAsGroup = s.RunAsGroup
		}
		if s.RunAsNonRoot != nil {
			pc.RunAsNonRoot = *s.RunAsNonRoot
		}
		pc.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
		pc.ReadOnlyRoot = isTrue(s.ReadOnlyRootFilesystem)
		if s.Capabilities != nil {
			pc.AddCapabilities = capabilities(s.Capabilities.Add)
			pc.DropCapabilities = capabilities(s.Capabilities.Drop)
		}
		if isTrue(s.Privileged) { // Admit has seen that the node allows it
			pc.AddCapabilities, pc.DropCapabilities = []string{"ALL"}, nil
		}
	}
	if !pc.RunAsNonRoot {
		return nil
	}
	return nonRoot(pc, fmt.Sprintf("(pod: %q, container: %s)", podFormat(pod), c.Name))
}

// podFormat names a pod as a kubelet's messages do.
func podFormat(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

// nonRoot refuses a container that runs as root, or as a user of whom nobody
// can tell before it runs: what a name stands for is the image's word. podinit
// checks the number again.
func nonRoot(pc *podinit.Container, which string) error {
	if pc.RunAsUser != nil {
		if *pc.RunAsUser == 0 {
			return errors.New("container's runAsUser breaks non-root policy " + which)
		}
		return nil
	}
	user, _, _ := strings.Cut(pc.User, ":")
	uid, err := strconv.ParseInt(user, 10, 64)
	switch {
	case user == "", err == nil && uid == 0:
		return errors.New("container has runAsNonRoot and image will run as root " + which)
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user, which)
	}
	return nil
}

func capabilities(in []corev1.Capability) []string {
	var out []string
	for _, c := range in {
		out = append(out, plainCapability(c))
	}
	return out
}

func plainCapability(c corev1.Capability) string {
	return strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
}

// grantable are the capabilities that a container of an lx zone can be given:
// those that stand for privileges which a zone has. docs/security.md has the
// table. All others would have to come from privileges that zones never have.
var grantable = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
	"NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
	"SYS_ADMIN", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE",
}

// byDefault is what a container runtime adds unasked, and so can be asked for
// without effect even where a zone has nothing like it.
const byDefault = "MKNOD"

// containerSecurity refuses what a zone cannot give, by name.
func (a *admission) containerSecurity(s *corev1.SecurityContext) {
	if s == nil {
		return
	}
	a.when(isTrue(s.Privileged) && !a.privileged, "securityContext.privileged, which this node does not allow")
	a.when(localSeccomp(s.SeccompProfile), "securityContext.seccompProfile of type Localhost")
	a.when(localAppArmor(s.AppArmorProfile), "securityContext.appArmorProfile of type Localhost")
	a.when(s.ProcMount != nil && *s.ProcMount != corev1.DefaultProcMount, "securityContext.procMount")
	if s.Capabilities == nil {
		return
	}
	for _, c := range s.Capabilities.Add {
		name := plainCapability(c)
		a.when(!slices.Contains(grantable, name) && name != byDefault, "securityContext.capabilities.add: %s", c)
	}
}
