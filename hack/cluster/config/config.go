// Package config says what a dev cluster is made of, as plain data: its files,
// its certificates and the arguments of its components. It starts nothing.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
)

// Config is one dev cluster.
type Config struct {
	Dir         string       // absolute; everything the cluster owns is below it
	Bind        netip.Addr   // where the API server listens
	Advertise   netip.Addr   // its address for pods and nodes; the zero Addr or loopback means none
	Port        int          // of the API server, on Bind
	ServiceCIDR netip.Prefix // addresses of Services; its first host is the API server's
	PodCIDR     netip.Prefix // nodes get /24 pieces of it

	// FeatureGates is a list such as A=true,B=false, empty for the defaults. The
	// components are one process, so all of them have the same.
	FeatureGates string
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("dir %q: must be an absolute path", c.Dir))
	}
	if !c.Bind.IsValid() {
		errs = append(errs, errors.New("bind: an address is needed, such as 127.0.0.1"))
	}
	if c.Port < 1 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d: must be 1 to 65535", c.Port))
	}
	for _, p := range []struct {
		name    string
		prefix  netip.Prefix
		maxBits int
	}{{"service-cidr", c.ServiceCIDR, 28}, {"pod-cidr", c.PodCIDR, 24}} {
		switch {
		case !p.prefix.IsValid() || !p.prefix.Addr().Is4():
			errs = append(errs, fmt.Errorf("%s: an IPv4 prefix is needed", p.name))
		case p.prefix != p.prefix.Masked():
			errs = append(errs, fmt.Errorf("%s %s: has host bits; write %s", p.name, p.prefix, p.prefix.Masked()))
		case p.prefix.Bits() > p.maxBits:
			errs = append(errs, fmt.Errorf("%s %s: too small; /%d at least", p.name, p.prefix, p.maxBits))
		}
	}
	if c.ServiceCIDR.IsValid() && c.PodCIDR.IsValid() && c.ServiceCIDR.Overlaps(c.PodCIDR) {
		errs = append(errs, fmt.Errorf("service-cidr %s overlaps pod-cidr %s", c.ServiceCIDR, c.PodCIDR))
	}
	return errors.Join(errs...)
}

// Advertised says whether pods and nodes can be told the API server's address.
// The endpoints of the kubernetes Service may not be loopback addresses.
func (c Config) Advertised() bool {
	return c.Advertise.IsValid() && !c.Advertise.IsLoopback() && !c.Advertise.IsUnspecified()
}

// ServiceIP returns the address of the kubernetes Service.
func (c Config) ServiceIP() netip.Addr { return c.ServiceCIDR.Addr().Next() }

// LocalURL is where the cluster's own components reach the API server.
func (c Config) LocalURL() string {
	host := c.Bind
	if host.IsUnspecified() {
		host = netip.MustParseAddr("127.0.0.1")
	}
	return serverURL(host, c.Port)
}

// URL is where nodes reach the API server.
func (c Config) URL() string {
	if c.Advertised() {
		return serverURL(c.Advertise, c.Port)
	}
	return c.LocalURL()
}

// PKI returns the path of a file in the folder of keys and certificates.
func (c Config) PKI(name string) string { return filepath.Join(c.Dir, "pki", name) }

// File returns the path of a file of the cluster.
func (c Config) File(name string) string { return filepath.Join(c.Dir, name) }

// Kubeconfig returns the path of the kubeconfig of one of the identities that
// WriteCredentials makes: admin, kube-controller-manager, kube-scheduler.
func (c Config) Kubeconfig(name string) string { return c.File(name + ".kubeconfig") }

func serverURL(host netip.Addr, port int) string {
	return "https://" + net.JoinHostPort(host.String(), strconv.Itoa(port))
}
