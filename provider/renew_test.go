package provider

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
)

// setImage gives a container of the pod another image, as kubectl set image does.
func (w *world) setImage(name, image string) {
	w.t.Helper()
	pod, err := w.api.get("default", "web")
	if err != nil {
		w.t.Fatal(err)
	}
	pod = pod.DeepCopy()
	container(pod, name).Image = image
	if err := w.p.UpdatePod(w.t.Context(), w.api.put(pod)); err != nil {
		w.t.Fatal(err)
	}
}

// dataset is the image that a root was made of.
func (w *world) dataset(name string) string {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	return w.host.datasets["pods/"+testUID+"/"+name]
}

func statusOf(t *testing.T, list []corev1.ContainerStatus, name string) corev1.ContainerStatus {
	t.Helper()
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no status of container %s", name)
	return corev1.ContainerStatus{}
}

const (
	webDigest   = "registry.example/web@sha256:bb"
	toolsDigest = "registry.example/tools@sha256:dd"
)

func TestImageChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		pod := w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: "web:1"})
		}))
		settle(5 * time.Second)
		w.mustRun()
		w.setImage("web", "tools:1")
		settle(5 * time.Second)
		w.mustRun()
		list := w.status().ContainerStatuses
		web, side := statusOf(t, list, "web"), statusOf(t, list, "side")
		if web.State.Running == nil || web.RestartCount != 1 || web.ImageID != toolsDigest || web.Image != "tools:1" {
			t.Errorf("the container is %+v", web)
		}
		if e := web.LastTerminationState.Terminated; e == nil || e.ExitCode != 143 {
			t.Errorf("before, it ended as %+v", e)
		}
		if side.RestartCount != 0 || side.State.Running == nil || side.ImageID != webDigest {
			t.Errorf("the other container is %+v", side)
		}
		started := w.host.podinit(testZone).started["web"]
		if started.Spare != storage.Spares || started.Attempt != 1 || started.Args[0] != "/bin/sh" {
			t.Errorf("podinit was told %+v", started)
		}
		if n := w.count("Killing: Container web definition changed, will be restarted"); n != 1 {
			t.Errorf("%d events in %q", n, w.reasons())
		}
		if w.hasEvent("ImageChangeIgnored") {
			t.Errorf("events are %q", w.reasons())
		}

		// Its next attempts have that image, also after a new agent and another change.
		w.host.podinit(testZone).exits["web"](3, 0)
		settle(30 * time.Second)
		if again := w.host.podinit(testZone).started["web"]; again.Spare != storage.Spares || again.Attempt != 2 {
			t.Errorf("podinit was told %+v", again)
		}
		w.killAgent()
		w.startAgent()
		w.setImage("web", "web:1")
		settle(5 * time.Second)
		if last := w.host.podinit(testZone).started["web"]; last.Spare != storage.Spares-1 || last.Attempt != 3 || last.Args[0] != "/web" {
			t.Errorf("podinit was told %+v", last)
		}
		w.setImage("web", "tools:1")
		settle(5 * time.Second)

		// The zone boots again with an ordinary root of the newest image.
		w.host.crashZone(testZone)
		settle(time.Minute)
		w.mustRun()
		if got := w.host.podinit(testZone).started["web"]; got.Spare != 0 || got.Args[0] != "/bin/sh" || w.dataset("c-web") != "tools1" {
			t.Errorf("podinit was told %+v, of %s", got, w.dataset("c-web"))
		}
		for n := range storage.Spares {
			if w.dataset(fmt.Sprintf("e-web.%d", n+1)) != "" {
				t.Errorf("place %d is still taken", n+1)
			}
		}
		w.setImage("web", "web:1")
		settle(5 * time.Second)
		if got := w.host.podinit(testZone).started["web"].Spare; got != storage.Spares {
			t.Errorf("the places are not free again: %d", got)
		}
		w.delete(pod, 30)
		settle(time.Minute)
		w.mustBeGone()
	})
}

// TestImageChangeTakesItsTime: until the container has stopped, the status tells
// of what runs.
func TestImageChangeTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		w.host.behave(func(_ string, attempt int) behaviour { return behaviour{stubborn: attempt == 0} })
		w.create(testPod())
		settle(5 * time.Second)
		w.setImage("web", "tools:1")
		settle(20 * time.Second)
		if s := w.status().ContainerStatuses[0]; s.State.Running == nil || s.Image != "web:1" || s.ImageID != webDigest || s.Ready {
			t.Errorf("while it stops: %+v", s)
		}
		settle(20 * time.Second)
		s := w.status().ContainerStatuses[0]
		if e := s.LastTerminationState.Terminated; s.Image != "tools:1" || s.State.Running == nil || e == nil || e.ExitCode != 137 {
			t.Errorf("after it was killed: %+v", s)
		}
	})
}

// TestImageChangeToOneThatVanishes: what an administrator destroys between its
// pull and its use is pulled again, for the same place.
func TestImageChangeToOneThatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		w.create(testPod())
		settle(5 * time.Second)
		failed := false
		w.host.failBy(func(command string) error {
			if command == "renewal" && !failed {
				failed = true
				return storage.ErrNoImage
			}
			return nil
		})
		w.setImage("web", "tools:1")
		settle(30 * time.Second)
		w.mustRun()
		if s := w.status().ContainerStatuses[0]; !failed || s.ImageID != toolsDigest || s.RestartCount != 1 {
			t.Errorf("it is %+v", s)
		}
		if got := w.host.podinit(testZone).started["web"].Spare; got != storage.Spares {
			t.Errorf("it is at place %d", got)
		}
	})
}

// TestImageChangeOfOneThatFails: another image is no part of the crash loop, and
// one that was misspelt can be mended.
func TestImageChangeOfOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second, code: 1} })
		w.create(testPod())
		settle(3 * time.Minute)
		s := w.status().ContainerStatuses[0]
		if s.State.Waiting == nil || s.State.Waiting.Reason != translate.ReasonCrashLoopBackOff {
			t.Fatalf("it is %+v", s)
		}
		w.setImage("web", "tolls:1")
		settle(15 * time.Second) // it was tried, and is not to be tried again for a while
		if why := w.status().ContainerStatuses[0].State.Waiting; why == nil || why.Reason != translate.ReasonImagePullBackOff && why.Reason != translate.ReasonErrImagePull {
			t.Errorf("it is %+v", w.status().ContainerStatuses[0].State)
		}
		w.host.behave(func(_ string, n int) behaviour {
			if n == int(s.RestartCount)+1 {
				return behaviour{runs: time.Second, code: 1}
			}
			return behaviour{}
		})
		w.setImage("web", "tools:1")
		settle(500 * time.Millisecond)
		if now := w.status().ContainerStatuses[0]; now.RestartCount != s.RestartCount+1 || now.State.Running == nil {
			t.Errorf("it does not run at once: %+v", now)
		}
		settle(restartDelay + 2*time.Second)
		if now := w.status().ContainerStatuses[0]; now.RestartCount != s.RestartCount+2 || now.State.Running == nil {
			t.Errorf("it has the delays of the image before: %+v", now)
		}
	})
}

// TestImageChangeBeforeTheBoot: the pod never ran, so nothing has to stop.
func TestImageChangeBeforeTheBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Name: "web", Image: "web:1"}, {Name: "side", Image: "missing:1"}}
		}))
		settle(2 * time.Minute)
		w.setImage("web", "tools:1") // was here already
		w.setImage("side", "web:1")
		settle(2 * time.Second)
		w.mustRun()
		for _, s := range w.status().ContainerStatuses {
			if s.RestartCount != 0 || s.State.Running == nil {
				t.Errorf("%s is %+v", s.Name, s)
			}
		}
		if w.dataset("c-web") != "tools1" || w.dataset("c-side") != "web1" {
			t.Errorf("roots are of %s and %s", w.dataset("c-web"), w.dataset("c-side"))
		}
	})
}

// TestImageChangeAndPolicies: another image restarts what runs whatever the
// policy says, and nothing else.
func TestImageChangeAndPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		always := corev1.ContainerRestartPolicyAlways
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers = []corev1.Container{
				{Name: "sidecar", Image: "web:1", RestartPolicy: &always}, {Name: "init", Image: "web:1"},
			}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "done", Image: "web:1"})
		}))
		settle(5 * time.Second)

		// An init container is left to its work, and what comes after it has the new image.
		w.setImage("init", "tools:1")
		w.setImage("web", "tools:1")
		settle(5 * time.Second)
		s := w.status()
		if init := statusOf(t, s.InitContainerStatuses, "init"); init.State.Running == nil || init.RestartCount != 0 || init.ImageID != webDigest {
			t.Errorf("the init container is %+v", init)
		}
		w.host.podinit(testZone).exits["init"](0, 0)
		settle(5 * time.Second)
		w.host.podinit(testZone).exits["done"](0, 0)
		settle(5 * time.Second)
		web := statusOf(t, w.status().ContainerStatuses, "web")
		if web.ImageID != toolsDigest || web.RestartCount != 0 || web.State.Running == nil {
			t.Errorf("the container that waited is %+v", web)
		}

		w.setImage("web", "web:1")
		w.setImage("done", "tools:1")
		w.setImage("sidecar", "tools:1")
		settle(5 * time.Second)
		s = w.status()
		if web := statusOf(t, s.ContainerStatuses, "web"); web.RestartCount != 1 || web.State.Running == nil || s.Phase != corev1.PodRunning {
			t.Errorf("%s: it is %+v", s.Phase, web)
		}
		if done := statusOf(t, s.ContainerStatuses, "done"); done.RestartCount != 0 || done.State.Terminated == nil {
			t.Errorf("one that had ended is %+v", done)
		}
		if side := statusOf(t, s.InitContainerStatuses, "sidecar"); side.RestartCount != 1 || side.ImageID != toolsDigest || side.State.Running == nil {
			t.Errorf("the sidecar is %+v", side)
		}
		if n := w.count("Killing: Init container sidecar definition changed"); n != 1 {
			t.Errorf("%d events in %q", n, w.reasons())
		}
	})
}

// TestImageChangeWithoutRoom is not silent, and waits for the next boot.
func TestImageChangeWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.hasTools()
		pod := w.create(testPod())
		settle(5 * time.Second)
		images := []string{"tools:1", "web:1"}
		for n := range storage.Spares - 1 {
			w.setImage("web", images[n%2])
			settle(5 * time.Second)
		}
		pod, err := w.api.get(pod.Namespace, pod.Name)
		if err != nil {
			t.Fatal(err)
		}
		w.debug(pod, debugger("first"), debugger("second"))
		settle(5 * time.Second)
		eph := w.status().EphemeralContainerStatuses
		if eph[0].State.Running == nil || eph[1].State.Waiting == nil || eph[1].State.Waiting.Reason != translate.ReasonUnsupported {
			t.Errorf("ephemeral containers are %+v", eph)
		}
		was := w.status().ContainerStatuses[0]
		w.setImage("web", images[1])
		settle(5 * time.Second)
		if now := w.status().ContainerStatuses[0]; now.ContainerID != was.ContainerID || now.RestartCount != int32(storage.Spares-1) {
			t.Errorf("it was %+v, and is %+v", was, now)
		}
		if !w.hasEvent("ImageChangeIgnored") {
			t.Errorf("nothing says so: %q", w.reasons())
		}
		w.host.crashZone(testZone)
		settle(time.Minute)
		w.mustRun()
		if now := w.status().ContainerStatuses[0]; now.ImageID != webDigest || w.dataset("c-web") != "web1" {
			t.Errorf("after the next boot it is %+v", now)
		}
	})
}

// TestAgentKilledWhileAnImageChanges: before or after each command, the next
// agent goes on, and each attempt runs once.
func TestAgentKilledWhileAnImageChanges(t *testing.T) {
	once := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
	var commands []string
	countCommands(t, func(w *world) {
		w.host.hasTools()
		w.create(testPod(once))
		settle(5 * time.Second)
		before := len(w.host.ran())
		w.setImage("web", "tools:1")
		settle(5 * time.Second)
		commands = w.host.ran()[before:]
	})
	if len(commands) < 4 || !slices.ContainsFunc(commands, func(s string) bool { return s == "renewal" }) {
		t.Fatalf("it is only %q", commands)
	}
	for i := range commands {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s/%v", i, commands[i], after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.host.hasTools()
					pod := w.create(testPod(once))
					settle(5 * time.Second)
					w.killAt(i, after)
					w.setImage("web", "tools:1")
					settle(5 * time.Second)
					w.killAgent()
					w.startAgent()
					settle(time.Minute)
					w.mustRun()
					s := w.status().ContainerStatuses[0]
					if s.RestartCount != 1 || s.ImageID != toolsDigest || s.State.Running == nil {
						t.Errorf("it is %+v", s)
					}
					if p := w.host.podinit(testZone).started["web"]; p.Spare != storage.Spares || p.Attempt != 1 || strings.Join(p.Args, " ") != "/bin/sh" {
						t.Errorf("podinit was told %+v", p)
					}
					w.delete(pod, 30)
					settle(time.Minute)
					w.mustBeGone()
				})
			})
		}
	}
}
