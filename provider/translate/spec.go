package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Input is all that a pod's zone and containers are made from.
type Input struct {
	Pod   *corev1.Pod
	Node  Node
	Brand string

	// Addresses are the pod's, with the lengths of the node's prefixes, and
	// Gateways the node's own in them.
	Addresses []netip.Prefix
	Gateways  []netip.Addr
	Slot      int

	// Images are what the references were resolved to, by container.
	Images map[string]*ledger.Image

	// Places are where the roots of containers are in a running zone, of those
	// whose image was changed meanwhile. Others are not in it, or 0.
	Places map[string]int

	Objects  Objects
	Services Services
	Files    Files // nil before the zone runs

	// Shown is what Sources became, by volume.
	Shown map[string]Shown
}

// The files that podinit mounts from its spec directory.
const (
	hostsFile    = "hosts"
	resolvFile   = "resolv.conf"
	hostnameFile = "hostname"
)

// ErrNoCommand means that neither the pod nor the image says what to run.
var ErrNoCommand = errors.New("no command specified")

// Spec returns what podinit is told before the zone boots. start says which
// containers it shall start by itself, and attempt the number of the attempt.
// A container whose configuration cannot be resolved yet fails all: podinit's
// Spec is complete or not there. Only those whose environment the zone itself
// has to tell are left out.
func Spec(in Input, attempt func(name string) int, start func(name string) bool) (podinit.Spec, error) {
	s := podinit.Spec{
		Version:  podinit.Version,
		PodUID:   string(in.Pod.UID),
		Hostname: kernelHostname(in.Pod, in.Node),
		Volumes:  ownVolumes(in.Pod, in.Shown),
	}
	if in.Brand == BrandNative {
		s.Network = &podinit.Network{Interface: LinkName(in.Slot), Addresses: in.Addresses, Gateways: in.Gateways}
		s.HostSystem = true
	}
	for _, c := range AllContainers(in.Pod) {
		if NeedsFiles(c) {
			continue // it is started when it is its turn, by the agent
		}
		pc, err := Container(in, c)
		if err != nil {
			return podinit.Spec{}, err
		}
		pc.Attempt, pc.Start = attempt(c.Name), start(c.Name)
		s.Containers = append(s.Containers, pc)
	}
	return s, nil
}

// AllContainers returns the init containers in their order, then the others.
func AllContainers(pod *corev1.Pod) []*corev1.Container {
	var all []*corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}

// kernelHostname is the host name with setHostnameAsFQDN taken into account.
// Admit has refused one that is too long.
func kernelHostname(pod *corev1.Pod, node Node) string {
	if isTrue(pod.Spec.SetHostnameAsFQDN) {
		if fqdn := FQDN(pod, node); fqdn != "" {
			return fqdn
		}
	}
	return Hostname(pod)
}

// Container returns c as podinit runs it, but for its attempt.
func Container(in Input, c *corev1.Container) (podinit.Container, error) {
	image := in.Images[c.Name]
	if image == nil {
		return podinit.Container{}, fmt.Errorf("container %s: image is not on the host", c.Name)
	}
	vars, err := Environment(withAddresses(in), c, in.Node, in.Objects, in.Services, in.Files)
	if err != nil {
		return podinit.Container{}, err
	}
	lookup := lookupIn(vars)
	args := arguments(c, image, lookup)
	if len(args) == 0 {
		return podinit.Container{}, &ConfigError{Container: c.Name, Err: ErrNoCommand}
	}
	env := image.Env
	if HostPod(in.Pod) {
		env = append([]string{"PATH=" + in.Node.HostPath}, env...)
		vars = append(vars, hostVars(c, in.Node)...)
	}
	pc := podinit.Container{
		Name:                   c.Name,
		Spare:                  max(Spare(in.Pod, c.Name), in.Places[c.Name]), // at most one is set
		Args:                   args,
		Env:                    mergeEnv(env, kernelHostname(in.Pod, in.Node), c.TTY, vars),
		Dir:                    workingDir(c, image),
		User:                   image.User,
		TTY:                    c.TTY,
		Stdin:                  c.Stdin,
		StdinOnce:              c.StdinOnce,
		TerminationMessagePath: c.TerminationMessagePath,
	}
	if err := secure(&pc, in.Pod, c); err != nil {
		return podinit.Container{}, &ConfigError{Container: c.Name, Err: err}
	}
	if pc.Mounts, err = mounts(c, lookup); err != nil {
		return podinit.Container{}, &ConfigError{Container: c.Name, Err: err}
	}
	return pc, nil
}

// withAddresses returns the pod with the addresses that it has been given,
// which the API server may not know yet.
func withAddresses(in Input) *corev1.Pod {
	p := *in.Pod
	p.Status.PodIP, p.Status.PodIPs = "", nil
	for _, a := range in.Addresses {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a.Addr().String()})
	}
	if len(p.Status.PodIPs) > 0 {
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
	return &p
}

func lookupIn(vars []Var) func(string) (string, bool) {
	m := make(map[string]string, len(vars))
	for _, v := range vars {
		m[v.Name] = v.Value
	}
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

// arguments applies the rules of command and args: a command replaces the
// image's entrypoint and with it the image's arguments.
func arguments(c *corev1.Container, image *ledger.Image, lookup func(string) (string, bool)) []string {
	expandAll := func(in []string) []string {
		out := make([]string, len(in))
		for i, s := range in {
			out[i] = Expand(s, lookup)
		}
		return out
	}
	switch {
	case len(c.Command) > 0:
		return append(expandAll(c.Command), expandAll(c.Args)...)
	case len(c.Args) > 0:
		return append(slices.Clone(image.Entrypoint), expandAll(c.Args)...)
	}
	return append(slices.Clone(image.Entrypoint), image.Cmd...)
}

func workingDir(c *corev1.Container, image *ledger.Image) string {
	switch {
	case c.WorkingDir != "":
		return c.WorkingDir
	case image.WorkingDir != "":
		return path.Join("/", image.WorkingDir)
	}
	return "/"
}

// mounts returns the container's volume mounts in the pod's order, shorter
// targets first where one lies below another, and the files every container
// has unless it mounts something there itself.
func mounts(c *corev1.Container, lookup func(string) (string, bool)) ([]podinit.Mount, error) {
	var out []podinit.Mount
	own := map[string]bool{}
	for _, m := range c.VolumeMounts {
		sub := m.SubPath
		if m.SubPathExpr != "" {
			var unknown []string
			if sub, unknown = expand(m.SubPathExpr, lookup); len(unknown) > 0 {
				return nil, fmt.Errorf("volume mount %s: subPathExpr names unknown variables %s", m.MountPath, strings.Join(unknown, ", "))
			}
			if path.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
				return nil, fmt.Errorf("volume mount %s: subPathExpr gives %q, which leaves the volume", m.MountPath, sub)
			}
		}
		target := path.Join("/", m.MountPath)
		own[target] = true
		out = append(out, podinit.Mount{Volume: m.Name, SubPath: sub, Target: target, ReadOnly: m.ReadOnly})
	}
	for target, file := range map[string]string{
		"/etc/hosts": hostsFile, "/etc/resolv.conf": resolvFile, "/etc/hostname": hostnameFile,
	} {
		if !own[target] {
			out = append(out, podinit.Mount{File: file, Target: target, ReadOnly: true})
		}
	}
	slices.SortStableFunc(out, func(a, b podinit.Mount) int { return strings.Compare(a.Target, b.Target) })
	return out, nil
}
