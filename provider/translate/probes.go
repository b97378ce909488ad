package translate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reddwarf.io/reddwarf/probes"
)

// ProbeKind is what a probe of a container is for, as events name it.
type ProbeKind string

// The kinds.
const (
	Startup   ProbeKind = "Startup"
	Readiness ProbeKind = "Readiness"
	Liveness  ProbeKind = "Liveness"
)

// Probe returns a container's probe of that kind, nil if it has none.
func Probe(c *corev1.Container, kind ProbeKind) *corev1.Probe {
	switch kind {
	case Startup:
		return c.StartupProbe
	case Readiness:
		return c.ReadinessProbe
	case Liveness:
		return c.LivenessProbe
	}
	return nil
}

// ProbeSpec returns when to make p's checks and how many must agree. The delay
// is that after the container's start.
func ProbeSpec(p *corev1.Probe) probes.Spec {
	return probes.Spec{
		Delay:     time.Duration(p.InitialDelaySeconds) * time.Second,
		Period:    secondsOr(p.PeriodSeconds, 10),
		Timeout:   secondsOr(p.TimeoutSeconds, 1),
		Successes: int(max(p.SuccessThreshold, 1)),
		Failures:  countOr(p.FailureThreshold, 3),
	}
}

// secondsOr and countOr give what the API server fills in, for pods that it
// did not.
func secondsOr(n int32, otherwise int) time.Duration {
	return time.Duration(countOr(n, otherwise)) * time.Second
}

func countOr(n int32, otherwise int) int {
	if n > 0 {
		return int(n)
	}
	return otherwise
}

// ProbeGrace is how long a container may take to stop after a probe of that
// kind failed, and at least the two seconds that a kubelet gives.
func ProbeGrace(pod *corev1.Pod, p *corev1.Probe) time.Duration {
	const least = 2 * time.Second
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		seconds = *p.TerminationGracePeriodSeconds
	}
	return max(least, time.Duration(seconds)*time.Second)
}

// Run runs a program in a container; see probes.Exec.
type Run func(ctx context.Context, args []string, out io.Writer) (code int, err error)

// Checker returns what makes the checks of a probe of c, a container of a pod
// with that address. A port that does not exist is an error of every check.
func Checker(p *corev1.Probe, c *corev1.Container, podIP string, run Run) probes.Checker {
	switch {
	case p.Exec != nil:
		return probes.Exec{Args: probeCommand(p.Exec.Command, c), Run: run}
	case p.HTTPGet != nil:
		port, err := probePort(p.HTTPGet.Port, c)
		if err != nil {
			return impossible{err}
		}
		return httpChecker(p.HTTPGet, port, podIP)
	case p.TCPSocket != nil:
		port, err := probePort(p.TCPSocket.Port, c)
		if err != nil {
			return impossible{err}
		}
		return probes.TCP{Address: net.JoinHostPort(or(p.TCPSocket.Host, podIP), strconv.Itoa(port))}
	case p.GRPC != nil:
		return probes.GRPC{
			Address: net.JoinHostPort(podIP, strconv.Itoa(int(p.GRPC.Port))), Service: deref(p.GRPC.Service),
			TLS: deref(p.GRPC.Mode) == corev1.GRPCProbeModeTLS,
		}
	}
	return impossible{fmt.Errorf("missing probe handler for container %s", c.Name)}
}

// impossible is a check that cannot be carried out.
type impossible struct{ err error }

func (i impossible) Check(context.Context) (probes.Result, error) { return probes.Result{}, i.err }

// probeCommand expands references to the variables that the container's own
// manifest gives a value; a kubelet leaves all others alone here.
func probeCommand(command []string, c *corev1.Container) []string {
	lookup := func(name string) (string, bool) {
		for i := len(c.Env) - 1; i >= 0; i-- {
			if c.Env[i].Name == name {
				return c.Env[i].Value, true
			}
		}
		return "", false
	}
	var out []string
	for _, word := range command {
		out = append(out, Expand(word, lookup))
	}
	return out
}

func probePort(p intstr.IntOrString, c *corev1.Container) (int, error) {
	port := p.IntVal
	if p.Type == intstr.String {
		found := false
		for _, have := range c.Ports {
			if have.Name == p.StrVal && !found {
				port, found = have.ContainerPort, true
			}
		}
		if !found {
			return 0, fmt.Errorf("port %q not found", p.StrVal)
		}
	}
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("invalid port number: %d", port)
	}
	return int(port), nil
}

func httpChecker(get *corev1.HTTPGetAction, port int, podIP string) probes.HTTP {
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path} // it was accepted, so the service is to see it
	}
	u.Scheme = strings.ToLower(or(string(get.Scheme), "http"))
	u.Host = net.JoinHostPort(or(get.Host, podIP), strconv.Itoa(port))
	header := http.Header{}
	for _, h := range get.HTTPHeaders {
		header.Add(h.Name, h.Value)
	}
	return probes.HTTP{URL: u, Header: header, Cleartext2: deref(get.Protocol) == corev1.HTTPProtocolHTTP2}
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
