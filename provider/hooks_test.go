package provider

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func execHook(args ...string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: args}}
}

func (w *world) hasEvent(prefix string) bool {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	return slices.ContainsFunc(w.events.reasons, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// did returns the commands that begin with one of the prefixes.
func (w *world) did(prefixes ...string) string {
	return fmt.Sprint(slices.DeleteFunc(w.host.ran(), func(c string) bool {
		return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c, p+" ") })
	}))
}

func TestPostStartHoldsBackRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{
				{Name: "web", Image: "web:1", Lifecycle: &corev1.Lifecycle{PostStart: execHook("sleep", "10s")}},
				{Name: "next", Image: "web:1"},
			}
		}))
		settle(5 * time.Second)
		s := w.status()
		if s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting == nil || s.ContainerStatuses[1].State.Waiting == nil {
			t.Errorf("while the hook runs: %s, %+v", s.Phase, s.ContainerStatuses)
		}
		settle(6 * time.Second)
		w.mustRun()
		if s := w.status(); !s.ContainerStatuses[1].Ready {
			t.Errorf("the second container: %+v", s.ContainerStatuses[1])
		}
		if got := w.did("exec", "start"); got != "[exec web sleep start next]" {
			t.Errorf("did %s", got)
		}
	})
}

func TestPostStartFailureKillsTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: execHook("exit"), PreStop: execHook("echo", "x")}
		}))
		settle(5 * time.Second)
		s := w.status()
		if e := s.ContainerStatuses[0].State.Terminated; s.Phase != corev1.PodFailed || e == nil || e.ExitCode != 143 {
			t.Errorf("status is %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		for _, want := range []string{"FailedPostStartHook: PostStartHook failed", "Killing: FailedPostStartHook"} {
			if !w.hasEvent(want) {
				t.Errorf("no event %q in %q", want, w.events.reasons)
			}
		}
		if got := w.did("exec", "signal"); got != "[exec web exit exec web echo signal web]" {
			t.Errorf("did %s", got)
		}
	})
}

// TestPreStopCountsIntoTheGrace has hooks that end in time, fail, and last too
// long.
func TestPreStopCountsIntoTheGrace(t *testing.T) {
	for _, tt := range []struct {
		name   string
		hook   *corev1.LifecycleHandler
		signal time.Duration // after the deletion
		event  bool
	}{
		{"exec", execHook("sleep", "5s"), 5 * time.Second, false},
		{"sleep", &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 7}}, 7 * time.Second, false},
		{"failing", execHook("no-such"), 0, true},
		{"too long", execHook("sleep", "1h"), 20 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				pod := w.create(testPod(func(p *corev1.Pod) {
					p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: tt.hook}
				}))
				settle(5 * time.Second)
				w.mustRun()
				w.delete(pod, 20)
				if tt.signal > 0 {
					settle(tt.signal - time.Second)
					if got := w.did("signal"); got != "[]" {
						t.Errorf("too early: %s", got)
					}
					settle(time.Second)
				}
				settle(time.Second)
				if got := w.did("signal"); got != "[signal web]" {
					t.Errorf("not signalled: %s", got)
				}
				if w.hasEvent("FailedPreStopHook") != tt.event {
					t.Errorf("events %q", w.events.reasons)
				}
				settle(5 * time.Second)
				w.mustBeGone()
			})
		})
	}
}

// TestHooksEndWithTheirContainer: nothing waits for a hook whose container is
// gone, and a deletion does not wait for a postStart hook.
func TestHooksEndWithTheirContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(_ string, attempt int) behaviour {
			if attempt == 0 {
				return behaviour{runs: 2 * time.Second, code: 1}
			}
			return behaviour{}
		})
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: execHook("sleep", "1h")}
		}))
		settle(5 * time.Second)
		if s := w.status(); s.ContainerStatuses[0].RestartCount != 1 || w.did("exec") != "[exec web sleep exec web sleep]" {
			t.Errorf("restarts %d, did %s", s.ContainerStatuses[0].RestartCount, w.did("exec"))
		}
		if n := len(w.p.worker(testUID).hooks); n != 1 {
			t.Errorf("%d hooks are kept", n)
		}
		w.delete(pod, 30)
		settle(5 * time.Second)
		w.mustBeGone()
		if w.hasEvent("FailedPostStartHook") {
			t.Errorf("events %q", w.events.reasons)
		}
	})
}

// TestHookAfterAgentRestart: a hook whose end nobody saw runs again.
func TestHookAfterAgentRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: execHook("sleep", "10s")}
		}))
		settle(5 * time.Second)
		w.killAgent()
		w.startAgent()
		settle(11 * time.Second)
		w.mustRun()
		w.killAgent()
		w.startAgent()
		settle(time.Minute)
		if got := w.did("exec"); got != "[exec web sleep exec web sleep]" {
			t.Errorf("did %s", got)
		}
	})
}

func TestSidecars(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(name string, attempt int) behaviour {
			switch {
			case name == "init":
				return behaviour{runs: time.Second}
			case name == "one" && attempt == 0:
				return behaviour{runs: 10 * time.Second}
			case name == "web":
				return behaviour{runs: 20 * time.Second}
			}
			return behaviour{stopAfter: 3 * time.Second}
		})
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: "web:1", RestartPolicy: &always},
				{Name: "init", Image: "web:1"},
				{Name: "two", Image: "web:1", RestartPolicy: &always},
			}
		}))
		settle(5 * time.Second)
		w.mustRun()
		settle(10 * time.Second)
		w.mustRun()
		if s := w.status().InitContainerStatuses; s[0].RestartCount != 1 || !s[0].Ready || !*s[0].Started || !s[2].Ready {
			t.Errorf("after the sidecar's restart: %+v", s)
		}
		settle(8 * time.Second) // web has ended, the sidecars stop
		if s := w.status(); s.Phase != corev1.PodRunning || s.InitContainerStatuses[0].State.Running == nil {
			t.Errorf("while sidecars stop: %s, %+v", s.Phase, s.InitContainerStatuses)
		}
		settle(8 * time.Second)
		s := w.status()
		if s.Phase != corev1.PodSucceeded {
			t.Errorf("phase %s", s.Phase)
		}
		for _, c := range s.InitContainerStatuses {
			if c.State.Terminated == nil {
				t.Errorf("%s is %+v", c.Name, c.State)
			}
		}
		if got := w.did("start", "signal"); got != "[start init start two start web start one signal two signal one]" {
			t.Errorf("did %s", got)
		}
	})
}

// TestSidecarsComeBackWithTheZone: after a lost zone all init containers run
// again, in their order.
func TestSidecarsComeBackWithTheZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(name string, _ int) behaviour {
			if name == "init" {
				return behaviour{runs: time.Second}
			}
			return behaviour{}
		})
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: "web:1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}, {Name: "init", Image: "web:1"},
			}
		}))
		settle(5 * time.Second)
		w.host.crashZone(testZone)
		settle(time.Minute)
		w.mustRun()
		if got := w.did("start"); got != "[start init start web start init start web]" {
			t.Errorf("did %s", got)
		}
		s := w.status()
		if s.InitContainerStatuses[0].RestartCount != 1 || s.InitContainerStatuses[1].RestartCount != 1 {
			t.Errorf("init containers: %+v", s.InitContainerStatuses)
		}
	})
}

func TestHTTPHook(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Host+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Hook"))
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	c := &corev1.Container{Name: "web", Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: int32(port)}}}
	headers := []corev1.HTTPHeader{{Name: "X-Hook", Value: "yes"}, {Name: "Host", Value: "virtual.example"}}
	for _, tt := range []struct {
		name string
		get  corev1.HTTPGetAction
		want string // the request, "" for an error
	}{
		{"by number", corev1.HTTPGetAction{Path: "/a?b=c", Port: intstr.FromInt(port)}, "GET " + u.Host + " /a?b=c "},
		{"by name", corev1.HTTPGetAction{Path: "stop", Port: intstr.FromString("admin"), HTTPHeaders: headers}, "GET virtual.example /stop yes"},
		{"TLS that is none", corev1.HTTPGetAction{Path: "/s", Port: intstr.FromInt(port), Scheme: corev1.URISchemeHTTPS}, "GET " + u.Host + " /s "},
		{"away", corev1.HTTPGetAction{Path: "/away", Port: intstr.FromInt(port)}, "GET " + u.Host + " /away "},
		{"no such port", corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("none")}, ""},
		{"nobody listens", corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt(1)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			err := httpHook(t.Context(), c, &tt.get, u.Hostname())
			if (err == nil) != (tt.want != "") {
				t.Fatalf("httpHook = %v", err)
			}
			if tt.want != "" && fmt.Sprint(got) != "["+tt.want+"]" {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}
