package provider

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
)

// portPod is a pod that is also reached by the host's port 8080.
func portPod() *corev1.Pod {
	p := testPod()
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolTCP}}
	return p
}

// leads returns where the host's ports lead to.
func (w *world) leads() string {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	var all []string
	for _, list := range w.host.ports {
		for _, p := range list {
			all = append(all, fmt.Sprintf("%s %s -> %s", p.Protocol, p.Host, p.Pod))
		}
	}
	return strings.Join(all, ", ")
}

const portLeads = "tcp 198.51.100.11:8080 -> 10.244.1.2:80"

func TestHostPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(portPod())
		settle(time.Second)
		w.mustRun()
		if got := w.leads(); got != portLeads {
			t.Fatalf("the host's ports lead to %q", got)
		}
		w.killAgent()
		w.host.mu.Lock()
		clear(w.host.ports) // rules are the host's, this is what the agent knows of them
		w.host.mu.Unlock()
		w.startAgent()
		settle(time.Second)
		if got := w.leads(); got != portLeads {
			t.Errorf("after a restart of the agent they lead to %q", got)
		}
		w.delete(pod, 30)
		settle(time.Second)
		w.mustBeGone()
	})
}

func TestAgentKilledAtEveryCommandWithHostPorts(t *testing.T) {
	whole := func(w *world) {
		pod := w.create(portPod())
		settle(time.Second)
		w.delete(pod, 30)
		settle(time.Second)
	}
	n := countCommands(t, whole)
	creating := countCommands(t, func(w *world) { w.create(portPod()); settle(time.Second) })
	if creating >= n {
		t.Fatal("nothing is done at the end")
	}
	for i := range n {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.killAt(i, false)
				pod := w.create(portPod())
				settle(time.Second)
				if i < creating {
					w.killAgent()
					w.mustBeRecorded()
					w.startAgent()
					w.relist()
					settle(10 * time.Second)
					w.mustRun()
					if got := w.leads(); got != portLeads {
						t.Errorf("the host's ports lead to %q", got)
					}
				}
				w.delete(pod, 30)
				settle(time.Second)
				if i >= creating {
					w.killAgent()
					w.startAgent()
					settle(45 * time.Second)
				}
				w.mustBeGone()
			})
		})
	}
}

// TestHostPortsOfAnEndedPod: the scheduler gives the port to the next pod while
// the object of the one that has ended is still there.
func TestHostPortsOfAnEndedPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second} })
		pod := portPod()
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		w.create(pod)
		settle(5 * time.Second)
		if s := w.status(); s.Phase != corev1.PodSucceeded {
			t.Fatalf("phase %s", s.Phase)
		}
		if got := w.leads(); got != "" {
			t.Errorf("the host's ports still lead to %q", got)
		}
		if r := w.p.portsTaken(portPod()); r != nil {
			t.Errorf("the next pod is refused: %+v", r)
		}
	})
}

func TestHostPortsOfTwoPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(portPod())
		settle(time.Second)
		second := portPod()
		second.Name, second.UID = "other", "9b7f1f8e-6f5c-4b8e-9a53-0d0f6a1c2b3d"
		w.create(second)
		settle(time.Second)
		got, err := w.api.get("default", "other")
		if err != nil || got.Status.Phase != corev1.PodFailed || got.Status.Reason != translate.ReasonNodePorts {
			t.Errorf("the second pod is %s, reason %q, %v", got.Status.Phase, got.Status.Reason, err)
		}
		if leads := w.leads(); leads != portLeads {
			t.Errorf("the host's ports lead to %q", leads)
		}
	})
}

// TestAddressIsKeptWhileAPortLeadsToIt: else the port would lead to the pod
// that has the address next.
func TestAddressIsKeptWhileAPortLeadsToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pod := w.create(portPod())
		settle(time.Second)
		w.host.failBy(func(command string) error {
			if command == "ports" {
				return errors.New("ipnat does not answer")
			}
			return nil
		})
		w.delete(pod, 30)
		settle(time.Minute)
		if len(w.pool.Owners()) != 1 {
			t.Error("the address is free and a port of the host leads to it")
		}
		w.host.failBy(func(string) error { return nil })
		settle(time.Minute)
		w.mustBeGone()
	})
}

func TestNoAddressIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := 0; ; i++ {
			if _, err := w.pool.Allocate(fmt.Sprint(i)); err != nil {
				break
			}
		}
		w.create(testPod())
		settle(5 * time.Second)
		if s := w.status(); s.Phase != corev1.PodPending {
			t.Fatalf("phase %s", s.Phase)
		}
		if got := strings.Join(w.events.reasons, "\n"); !strings.Contains(got, "FailedCreatePodSandBox") || !strings.Contains(got, "10.244.1.0/24: exhausted") {
			t.Errorf("no event says why:\n%s", got)
		}
		w.pool.Release("7")
		settle(time.Minute)
		w.mustRun()
		if ip := w.status().PodIP; ip != "10.244.1.9" {
			t.Errorf("address %s", ip)
		}
	})
}
