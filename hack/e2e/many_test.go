package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// many is how many pods TestManyPods makes, and atOnce how many lives go on side
// by side. The seed gives the same pods and the same order in every run.
const (
	many     = 100
	atOnce   = 10
	manySeed = 20261126
)

// shape is a pod as the generator makes it, with what a kubelet would say of it
// in the end.
type shape struct {
	name     string
	manifest string
	expect   func(*corev1.Pod) error
	serves   bool // it goes on until it is deleted
	grace    int  // seconds, at its deletion; -1 is forced
}

// newShape draws one pod: one to three containers, perhaps an init container, a
// sidecar, probes and volumes, and an end of its own or none.
func newShape(r *rand.Rand, n int) shape {
	s := shape{name: fmt.Sprintf("many-%03d", n), grace: []int{0, 1, 5, -1}[r.IntN(4)]}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {many: \"1\", round: first}}\nspec:%s\n", s.name, onNode)
	code, policy := 0, "Always"
	s.serves = r.IntN(3) > 0
	if !s.serves {
		policy = []string{"Never", "OnFailure"}[r.IntN(2)]
		if policy == "Never" && r.IntN(2) == 0 {
			code = 1 + r.IntN(100)
		}
	}
	initFails := policy == "Never" && r.IntN(6) == 0
	neverReady := s.serves && r.IntN(6) == 0
	fmt.Fprintf(&b, "  restartPolicy: %s\n  terminationGracePeriodSeconds: 5\n", policy)
	inits, sidecar := r.IntN(2) == 0 || initFails, r.IntN(3) == 0
	if inits || sidecar {
		b.WriteString("  initContainers:\n")
	}
	if inits {
		fmt.Fprintf(&b, "  - {name: first, image: %q, command: [sh, -c, %q], volumeMounts: [{name: data, mountPath: /data}]}\n",
			busyboxImage, map[bool]string{true: "exit 9", false: "echo made > /data/first"}[initFails])
	}
	if sidecar {
		fmt.Fprintf(&b, "  - {name: aside, image: %q, restartPolicy: Always, args: [serve, --port, \"9090\"]}\n", webImage)
	}
	b.WriteString("  containers:\n")
	containers := 1 + r.IntN(3)
	for i := range containers {
		if s.serves {
			probe := fmt.Sprintf("httpGet: {path: /, port: %d}", 8080+i)
			if neverReady && i == 0 {
				probe = "tcpSocket: {port: 1}"
			}
			fmt.Fprintf(&b, "  - {name: c%d, image: %q, args: [serve, --port, \"%d\"], readinessProbe: {%s, periodSeconds: 1}, volumeMounts: [{name: info, mountPath: /info}]}\n",
				i, webImage, 8080+i, probe)
			continue
		}
		check := "true"
		if inits && !initFails {
			check = "test -s /data/first"
		}
		exit := 0
		if i == 0 {
			exit = code
		}
		fmt.Fprintf(&b, "  - {name: c%d, image: %q, command: [sh, -c, \"%s && exit %d; exit 99\"], volumeMounts: [{name: data, mountPath: /data}]}\n", i, busyboxImage, check, exit)
	}
	b.WriteString("  volumes:\n  - {name: data, emptyDir: {}}\n  - {name: info, downwardAPI: {items: [{path: round, fieldRef: {fieldPath: \"metadata.labels['round']\"}}]}}\n")
	s.manifest = b.String()
	s.expect = func(p *corev1.Pod) error {
		return asExpected(p, s.serves, neverReady, initFails, sidecar, code, containers)
	}
	return s
}

// asExpected says in what a pod's status differs from what it should come to.
func asExpected(p *corev1.Pod, serves, neverReady, initFails, sidecar bool, code, containers int) error {
	st := p.Status
	if st.PodIP == "" || st.StartTime == nil || st.QOSClass != corev1.PodQOSBestEffort {
		return fmt.Errorf("podIP %q, startTime %v, qosClass %s", st.PodIP, st.StartTime, st.QOSClass)
	}
	want := corev1.PodSucceeded
	switch {
	case serves:
		want = corev1.PodRunning
	case code != 0 || initFails:
		want = corev1.PodFailed
	}
	if st.Phase != want {
		return fmt.Errorf("phase %s, want %s", st.Phase, want)
	}
	if got := ready(p); got != (serves && !neverReady) {
		return fmt.Errorf("ready: %v", got)
	}
	if len(st.ContainerStatuses) != containers {
		return fmt.Errorf("%d container statuses, want %d", len(st.ContainerStatuses), containers)
	}
	for i, c := range st.ContainerStatuses {
		switch {
		case c.RestartCount != 0:
			return fmt.Errorf("%s was restarted %d times", c.Name, c.RestartCount)
		case serves && (c.State.Running == nil || c.Ready != (!neverReady || i > 0)):
			return fmt.Errorf("%s: %+v, ready %v", c.Name, c.State, c.Ready)
		case !serves && !initFails && (c.State.Terminated == nil || i == 0 && int(c.State.Terminated.ExitCode) != code || i > 0 && c.State.Terminated.ExitCode != 0):
			return fmt.Errorf("%s: %+v, want exit code %d in the first", c.Name, c.State, code)
		case initFails && c.State.Waiting == nil && c.State.Terminated == nil:
			return fmt.Errorf("%s ran after a failed init container: %+v", c.Name, c.State)
		}
	}
	for _, c := range st.InitContainerStatuses {
		switch {
		case c.Name == "first" && (c.State.Terminated == nil || (c.State.Terminated.ExitCode != 0) != initFails):
			return fmt.Errorf("init container: %+v", c.State)
		case c.Name == "aside" && serves && c.State.Running == nil:
			return fmt.Errorf("sidecar: %+v", c.State)
		case c.Name == "aside" && !serves && sidecar && !initFails && c.State.Terminated == nil:
			return fmt.Errorf("sidecar after the others ended: %+v", c.State)
		}
	}
	return nil
}

// TestManyPods lets many pods of mixed shapes come, change and go side by side,
// in an order of its own. Each must come to the status that a kubelet would give
// it, and nothing of any of them may be left on the host.
func TestManyPods(t *testing.T) {
	r := rand.New(rand.NewPCG(manySeed, many))
	shapes := make([]shape, many)
	for i := range shapes {
		shapes[i] = newShape(r, i)
	}
	r.Shuffle(many, func(i, j int) { shapes[i], shapes[j] = shapes[j], shapes[i] })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if _, err := bed.Kubectl(ctx, "delete", "pods", "-l", "many=1", "--ignore-not-found", "--wait=true"); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	links := len(vnics(t))
	queue := make(chan shape)
	var lives sync.WaitGroup
	for range atOnce {
		lives.Go(func() {
			for s := range queue {
				if err := live(t.Context(), s); err != nil {
					t.Errorf("%s: %v\n%s", s.name, err, s.manifest)
				}
			}
		})
	}
	for _, s := range shapes {
		queue <- s
	}
	close(queue)
	lives.Wait()
	eventually(t, time.Minute, "the links of all pods to be gone", func(context.Context) error {
		if now := len(vnics(t)); now != links {
			return fmt.Errorf("%d links, %d before", now, links)
		}
		return nil
	})
}

// live is one pod's life, from its creation to the last trace of it.
func live(ctx context.Context, s shape) error {
	if _, err := bed.KubectlIn(ctx, s.manifest, "create", "-f", "-"); err != nil {
		return err
	}
	var uid string
	var last *corev1.Pod
	err := bed.Eventually(ctx, 3*time.Minute, "its status", func(ctx context.Context) error {
		p, err := getPod(ctx, s.name)
		if err != nil {
			return err
		}
		uid, last = string(p.UID), p
		return s.expect(p)
	})
	if err != nil {
		return errors.Join(err, errors.New(describe(last)))
	}
	if s.serves {
		if _, err := bed.Kubectl(ctx, "label", "pod", s.name, "round=second", "--overwrite"); err != nil {
			return err
		}
		err := bed.Eventually(ctx, time.Minute, "the new label in its file", func(ctx context.Context) error {
			out, err := host.Run(ctx, "cat", "/rpool/reddwarf/pods/"+uid+"/volumes/info/round")
			if err == nil && strings.TrimSpace(out) != "second" {
				err = fmt.Errorf("it says %q", out)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	args := []string{"delete", "pod", s.name, "--wait=true", fmt.Sprintf("--grace-period=%d", max(s.grace, 0))}
	if s.grace <= 0 {
		args = append(args, "--force")
	}
	if _, err := bed.Kubectl(ctx, args...); err != nil {
		return err
	}
	return bed.Eventually(ctx, 2*time.Minute, "nothing of it on the host", func(ctx context.Context) error { return left(ctx, uid) })
}
