package translate

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reddwarf.io/reddwarf/probes"
)

// text shows a checker as tests compare it.
func text(c probes.Checker) string {
	switch c := c.(type) {
	case probes.HTTP:
		return fmt.Sprintf("http %s %v %v", c.URL, c.Header, c.Cleartext2)
	case probes.TCP:
		return "tcp " + c.Address
	case probes.GRPC:
		return fmt.Sprintf("grpc %s %q %v", c.Address, c.Service, c.TLS)
	case probes.Exec:
		return fmt.Sprintf("exec %q", c.Args)
	}
	_, err := c.Check(context.Background())
	return fmt.Sprintf("error %v", err)
}

func TestChecker(t *testing.T) {
	get := func(edit func(*corev1.HTTPGetAction)) corev1.ProbeHandler {
		h := &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}
		edit(h)
		return corev1.ProbeHandler{HTTPGet: h}
	}
	tcp := func(port intstr.IntOrString) corev1.ProbeHandler {
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}
	}
	container := &corev1.Container{
		Name:  "web",
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9090}},
		Env: []corev1.EnvVar{
			{Name: "FILE", Value: "/old"}, {Name: "FILE", Value: "/tmp/alive"},
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{}},
		},
	}
	for want, h := range map[string]corev1.ProbeHandler{
		"http http://10.0.0.9:80 map[] false": get(func(*corev1.HTTPGetAction) {}),
		"http https://10.0.0.9:8080/healthz?full=1 map[] false": get(func(h *corev1.HTTPGetAction) {
			h.Scheme, h.Port, h.Path = corev1.URISchemeHTTPS, intstr.FromString("http"), "/healthz?full=1"
		}),
		"http http://other:80/%25zz map[] false": get(func(h *corev1.HTTPGetAction) { h.Host, h.Path = "other", "/%zz" }),
		"http http://10.0.0.9:80 map[Host:[a] X-Two:[1 2]] true": get(func(h *corev1.HTTPGetAction) {
			h.HTTPHeaders = []corev1.HTTPHeader{{Name: "x-two", Value: "1"}, {Name: "Host", Value: "a"}, {Name: "X-Two", Value: "2"}}
			h.Protocol = new(corev1.HTTPProtocolHTTP2)
		}),
		`error port "nope" not found`:      get(func(h *corev1.HTTPGetAction) { h.Port = intstr.FromString("nope") }),
		"tcp 10.0.0.9:8080":                tcp(intstr.FromString("http")),
		`error port "80" not found`:        tcp(intstr.FromString("80")),
		"error invalid port number: 65536": tcp(intstr.FromInt32(65536)),
		"tcp [fd00::1]:1":                  {TCPSocket: &corev1.TCPSocketAction{Host: "fd00::1", Port: intstr.FromInt32(1)}},
		`grpc 10.0.0.9:9 "" false`:         {GRPC: &corev1.GRPCAction{Port: 9}},
		`grpc 10.0.0.9:9 "s" true`:         {GRPC: &corev1.GRPCAction{Port: 9, Service: new("s"), Mode: new(corev1.GRPCProbeModeTLS)}},
		`exec ["cat" "/tmp/alive" "" "$(NONE)" "$(FILE)"]`: {Exec: &corev1.ExecAction{
			Command: []string{"cat", "$(FILE)", "$(IP)", "$(NONE)", "$$(FILE)"},
		}},
		"error missing probe handler for container web": {},
	} {
		got := text(Checker(&corev1.Probe{ProbeHandler: h}, container, "10.0.0.9", nil))
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestExecCheckerRunsInTheContainer(t *testing.T) {
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
	run := func(_ context.Context, args []string, out io.Writer) (int, error) {
		fmt.Fprint(out, "said ", args)
		return 2, nil
	}
	got, err := Checker(p, &corev1.Container{}, "", run).Check(t.Context())
	if err != nil || got.Passed || got.Message != "said [x]" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProbeSpec(t *testing.T) {
	full := &corev1.Probe{InitialDelaySeconds: 1, PeriodSeconds: 2, TimeoutSeconds: 3, SuccessThreshold: 4, FailureThreshold: 5}
	if got, want := ProbeSpec(full), (probes.Spec{Delay: time.Second, Period: 2 * time.Second, Timeout: 3 * time.Second, Successes: 4, Failures: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := ProbeSpec(&corev1.Probe{}), (probes.Spec{Period: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 3}); got != want {
		t.Errorf("without values %+v, want %+v", got, want)
	}
}

func TestProbeGrace(t *testing.T) {
	for _, tt := range []struct {
		pod, probe *int64
		want       time.Duration
	}{
		{nil, nil, 30 * time.Second}, {new(int64(60)), nil, time.Minute}, {new(int64(60)), new(int64(5)), 5 * time.Second},
		{new(int64(5)), new(int64(60)), time.Minute}, {new(int64(0)), nil, 2 * time.Second}, {nil, new(int64(1)), 2 * time.Second},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: tt.pod}}
		if got := ProbeGrace(pod, &corev1.Probe{TerminationGracePeriodSeconds: tt.probe}); got != tt.want {
			t.Errorf("%v, %v: %s, want %s", tt.pod, tt.probe, got, tt.want)
		}
	}
}

func TestProbe(t *testing.T) {
	c := &corev1.Container{StartupProbe: &corev1.Probe{}, LivenessProbe: &corev1.Probe{}, ReadinessProbe: &corev1.Probe{}}
	if Probe(c, Startup) != c.StartupProbe || Probe(c, Liveness) != c.LivenessProbe || Probe(c, Readiness) != c.ReadinessProbe {
		t.Error("the kinds are mixed up")
	}
}

// FuzzHTTPProbeStaysAtItsHost: whatever a pod's author writes as a path, the
// check goes to the host and port that the probe names.
func FuzzHTTPProbeStaysAtItsHost(f *testing.F) {
	for _, path := range []string{"/healthz", "//evil.example/x", "http://u:p@evil.example:1/", "mailto:x", "x:y//z", "@evil:80/", "/%zz", "?a", "#b", "\n"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		get := &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(80)}
		h := Checker(&corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}}, &corev1.Container{}, "10.0.0.9", nil).(probes.HTTP)
		asked, err := url.Parse(h.URL.String())
		if err != nil || asked.Host == "" {
			return // nobody is asked
		}
		if asked.Host != "10.0.0.9:80" || asked.Scheme != "http" {
			t.Errorf("path %q asks %s", path, asked)
		}
	})
}
