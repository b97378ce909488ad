package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"reddwarf.io/reddwarf/provider/images"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage/oci"
)

// defaultIdentityDir is where `reddwarf join` puts what `reddwarf node` reads.
const defaultIdentityDir = "/etc/reddwarf"

// defaultPodinitNative runs in native zones, and as host pods' podinit.
const defaultPodinitNative = "/opt/reddwarf/lib/podinit"

// defaultRunDir is in memory on illumos, and so gone after a reboot, as are the
// routes and rules that the record in it is about.
const defaultRunDir = "/var/run/reddwarf"

// config is what an operator sets. Nothing else of the agent reads flags or
// the environment.
type config struct {
	Kubeconfig  string
	IdentityDir string
	NodeName    string
	NodeIP      []string
	Labels      map[string]string
	MaxPods     int64

	Listen       string
	ClientCAFile string
	TLSCertFile  string
	TLSKeyFile   string

	HostPaths []string

	DataDir string
	LogDir  string
	Pool    string

	PodCIDR     []string
	ClusterCIDR []string
	Etherstub   string
	RunDir      string
	NodeRoutes  bool
	Masquerade  bool

	PodinitLX     string
	PodinitNative string
	Transport     string
	Brands        []string

	HostPodNamespaces []string

	ClusterDNS    []string
	ClusterDomain string

	InsecureRegistries []string
	RegistryMirrors    []string
	RegistryConfig     string

	ImageGCHighThreshold int
	ImageGCLowThreshold  int
	ImageMinimumGCAge    time.Duration
	ImageMaximumGCAge    time.Duration
	NodeStatusMaxImages  int

	AllowPrivileged bool

	ReservedCPUs   int
	ReservedMemory string

	LogLevel string
}

// registerHost registers what says where things are on the host, which all
// commands share.
func (c *config) registerHost(f *pflag.FlagSet) {
	registerSettings(f)
	f.StringVar(&c.Kubeconfig, "kubeconfig", defaultIdentityDir+"/kubeconfig", "how to reach the API server, with the identity system:node:NAME")
	f.StringVar(&c.IdentityDir, "identity-dir", defaultIdentityDir, "certificates and keys that the agent gets from the cluster")
	f.StringVar(&c.NodeName, "node-name", "", "name of the Kubernetes node (default: the host's name)")
	f.StringVar(&c.DataDir, "data-dir", "/var/lib/reddwarf", "where the agent keeps its records of pods")
	f.StringVar(&c.LogDir, "pod-log-dir", "/var/log/pods", "where links to the logs of pods are made")
	f.StringVar(&c.Pool, "pool", "rpool", "ZFS pool for images, pods and volumes, below POOL/reddwarf")
	f.StringVar(&c.RunDir, "run-dir", defaultRunDir, "where the agent records which routes and rules are its own; should not outlive a reboot")
	f.StringVar(&c.Etherstub, "etherstub", "reddwarf0", "etherstub that the pods' VNICs are made over")
}

func (c *config) register(f *pflag.FlagSet) {
	c.registerHost(f)
	f.StringSliceVar(&c.NodeIP, "node-ip", nil, "address of this host that the API server reaches; one for each IP family (required)")
	f.StringToStringVar(&c.Labels, "node-labels", nil, "labels of the node, key=value")
	f.Int64Var(&c.MaxPods, "max-pods", 110, "how many pods the node takes")

	f.StringVar(&c.Listen, "listen", ":10250", "address of the kubelet API")
	f.StringVar(&c.ClientCAFile, "client-ca-file", defaultIdentityDir+"/ca.crt", "certificates that sign the clients of the kubelet API")
	f.StringVar(&c.TLSCertFile, "tls-cert-file", "", "serving certificate of the kubelet API, read again when it changes (default: the cluster is asked for one)")
	f.StringVar(&c.TLSKeyFile, "tls-private-key-file", "", "its key")

	f.StringSliceVar(&c.HostPaths, "host-path", nil, "PREFIX[:ro]: directory of this host that pods may see with all below it, by hostPath and by local and hostPath persistent volumes; may be repeated (default: none)")

	f.StringSliceVar(&c.PodCIDR, "pod-cidr", nil, "addresses for pods, one network for each IP family, where the cluster does not assign node.spec.podCIDRs")
	f.StringSliceVar(&c.ClusterCIDR, "cluster-cidr", nil, "network of all nodes' pods, one for each IP family (default: what is around all nodes' podCIDRs)")
	f.BoolVar(&c.NodeRoutes, "node-routes", true, "keep routes to the pods of other nodes; it needs the right to read all nodes")
	f.BoolVar(&c.Masquerade, "masquerade", true, "give what pods send out of the cluster the host's address")

	f.StringVar(&c.PodinitLX, "podinit-lx", "/opt/reddwarf/lib/podinit-linux", "podinit for zones of the lx brand")
	f.StringVar(&c.PodinitNative, "podinit-native", defaultPodinitNative, "podinit for native zones")
	f.StringVar(&c.Transport, "zone-transport", "auto", "how to reach podinit: auto, socket or zlogin")
	f.StringSliceVar(&c.Brands, "brands", []string{"lx"}, "zone brands that this host can run")

	f.StringSliceVar(&c.HostPodNamespaces, "host-pod-namespaces", nil, "namespaces whose pods may run in the host's global zone, as root (runtimeClassName reddwarf-host)")

	f.StringSliceVar(&c.ClusterDNS, "cluster-dns", nil, "name servers of pods with dnsPolicy ClusterFirst (default: the addresses of the Service kube-system/kube-dns)")
	f.StringVar(&c.ClusterDomain, "cluster-domain", "", "DNS domain of the cluster (default: clusterDomain of the ConfigMap kube-system/kubelet-config, where kubeadm keeps the kubelets' configuration; else cluster.local)")

	f.StringSliceVar(&c.InsecureRegistries, "insecure-registry", nil, "registry HOST[:PORT] that is spoken to without TLS")
	f.StringSliceVar(&c.RegistryMirrors, "registry-mirror", nil, "REGISTRY=HOST[:PORT]: ask HOST before REGISTRY, such as docker.io=mirror.example; may be repeated")
	f.StringVar(&c.RegistryConfig, "registry-config", "", "file in the form of ~/.docker/config.json with registry passwords for all pods")

	f.IntVar(&c.ImageGCHighThreshold, "image-gc-high-threshold", 85, "percent of the pool's space in use from which on images that no pod uses are removed; 100 for never")
	f.IntVar(&c.ImageGCLowThreshold, "image-gc-low-threshold", 80, "percent of the pool's space in use down to which images are removed")
	f.DurationVar(&c.ImageMinimumGCAge, "image-minimum-gc-age", 2*time.Minute, "how long after its pull an image is kept whatever the space")
	f.DurationVar(&c.ImageMaximumGCAge, "image-maximum-gc-age", 0, "how long an image is kept that no pod uses, however much space there is; 0 for ever")
	f.IntVar(&c.NodeStatusMaxImages, "node-status-max-images", 50, "how many images the node's status tells of, the largest first; -1 for all")

	f.BoolVar(&c.AllowPrivileged, "allow-privileged", false, "run privileged containers, with all that their zones may do")
	f.IntVar(&c.ReservedCPUs, "reserved-cpus", 0, "processors that are not offered to pods")
	f.StringVar(&c.ReservedMemory, "reserved-memory", "0", "memory that is not offered to pods, such as 1Gi")

	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// poolName is the grammar of zpool(8): a letter, then letters, digits and -_.: .
var poolName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*$`)

// validate lists every fault with what to do about it, and fills in what
// depends on the machine.
func (c *config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if err := c.fill(); err != nil {
		faults = append(faults, err)
	}
	if len(c.NodeIP) == 0 {
		fault("--node-ip is required: the API server connects to it for logs and exec")
	}
	for _, ip := range c.NodeIP {
		if _, err := netip.ParseAddr(ip); err != nil {
			fault("--node-ip %q is not an IP address", ip)
		}
	}
	for _, s := range notOfEachFamily(c.PodCIDR) {
		fault("--pod-cidr %q is not a network such as 10.244.7.0/24, one for each IP family", s)
	}
	for _, s := range notOfEachFamily(c.ClusterCIDR) {
		fault("--cluster-cidr %q is not a network such as 10.244.0.0/16, one for each IP family", s)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil {
		fault("--listen %q is not [ADDRESS]:PORT", c.Listen)
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		fault("--listen %q: the port must be a number from 1 to 65535, because the API server is told it", c.Listen)
	}
	if c.ClientCAFile == "" {
		fault("--client-ca-file is empty: without it nobody could be told from anybody on the kubelet API")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		fault("--tls-cert-file and --tls-private-key-file go together")
	}
	if _, err := c.mirrors(); err != nil {
		fault("--registry-mirror: %w", err)
	}
	if _, err := c.hostPaths(); err != nil {
		fault("--host-path: %w", err)
	}
	if err := c.imagePolicy().Validate(); err != nil {
		fault("--image-gc-high-threshold, --image-gc-low-threshold, --image-minimum-gc-age, --image-maximum-gc-age: %w", err)
	}
	if c.NodeStatusMaxImages < -1 {
		fault("--node-status-max-images %d: want a number of images, or -1 for all", c.NodeStatusMaxImages)
	}
	switch c.Transport {
	case "auto", "socket", "zlogin":
	default:
		fault("--zone-transport %q: want auto, socket or zlogin", c.Transport)
	}
	for _, b := range c.Brands {
		switch b {
		case "lx", "reddwarf":
		default:
			fault("--brands: %q is not a brand that pods can run in; want lx or reddwarf", b)
		}
	}
	for _, s := range c.HostPodNamespaces {
		if msgs := validation.IsDNS1123Label(s); len(msgs) > 0 {
			fault("--host-pod-namespaces: %q is not a namespace: %s", s, strings.Join(msgs, ", "))
		}
	}
	for _, s := range c.ClusterDNS {
		if _, err := netip.ParseAddr(s); err != nil {
			fault("--cluster-dns %q is not an IP address", s)
		}
	}
	if c.ClusterDomain != "" {
		if msgs := validation.IsDNS1123Subdomain(c.ClusterDomain); len(msgs) > 0 {
			fault("--cluster-domain %q: %s", c.ClusterDomain, strings.Join(msgs, ", "))
		}
	}
	return errors.Join(faults...)
}

// fill checks what registerHost registers, and fills in the node's name.
func (c *config) fill() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			fault("--node-name is not set and the host has no name: %w", err)
		}
		c.NodeName = strings.ToLower(name)
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		fault("--node-name %q: %s", c.NodeName, strings.Join(msgs, ", "))
	}
	if !poolName.MatchString(c.Pool) {
		fault("--pool %q is not the name of a ZFS pool", c.Pool)
	}
	for flag, path := range map[string]string{"--data-dir": c.DataDir, "--pod-log-dir": c.LogDir, "--identity-dir": c.IdentityDir, "--run-dir": c.RunDir} {
		if !filepath.IsAbs(path) {
			fault("%s %q must be an absolute path", flag, path)
		}
	}
	return errors.Join(faults...)
}

// notOfEachFamily returns what is no network, or a second one of its IP family.
func notOfEachFamily(values []string) []string {
	var bad []string
	families := map[bool]bool{}
	for _, s := range values {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Masked() != p || families[p.Addr().Is4()] {
			bad = append(bad, s)
			continue
		}
		families[p.Addr().Is4()] = true
	}
	return bad
}

// parsed reads values that validate has seen.
func parsed(values []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range values {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// networkRecord is the file by which the agent knows its routes and rules.
func (c *config) networkRecord() string { return filepath.Join(c.RunDir, "network.json") }

func (c *config) imagePolicy() images.Policy {
	return images.Policy{
		HighThresholdPercent: c.ImageGCHighThreshold, LowThresholdPercent: c.ImageGCLowThreshold,
		MinAge: c.ImageMinimumGCAge, MaxAge: c.ImageMaximumGCAge,
	}
}

// mirrors reads the values of --registry-mirror.
func (c *config) mirrors() ([]oci.Mirror, error) {
	var all []oci.Mirror
	for _, s := range c.RegistryMirrors {
		m, err := oci.ParseMirror(s)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// hostPaths reads the values of --host-path.
func (c *config) hostPaths() ([]translate.HostPrefix, error) {
	var all []translate.HostPrefix
	for _, s := range c.HostPaths {
		p, err := translate.ParseHostPrefix(s)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
