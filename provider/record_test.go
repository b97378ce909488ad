package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
)

// lateDisk keeps what the ledger held when each command of a pod's start began,
// so that a test can take back what an agent that died had not yet on disk.
type lateDisk struct {
	w   *modelWorld
	dir string

	mu       sync.Mutex
	commands []string
	kill     int // the command at which the agent is killed
	after    bool
}

func newLateDisk(w *modelWorld, kill int, after bool) *lateDisk {
	d := &lateDisk{w: w, dir: w.t.TempDir(), kill: kill, after: after}
	end := w.kill
	w.failBy(func(command string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.commands = append(d.commands, command)
		n := len(d.commands) - 1
		if n > d.kill && d.kill >= 0 {
			return errKilled
		}
		if !strings.HasPrefix(command, "zfs ") { // then the record may be half written
			if err := copyStill(d.at(n), filepath.Join(w.data, "pods")); err != nil {
				w.t.Error(err)
			}
		}
		if n != d.kill {
			return nil
		}
		end()
		if d.after {
			return nil
		}
		return errKilled
	})
	return d
}

// copyStill copies a directory whose files are replaced now and then: where one
// was renamed meanwhile, it begins anew.
func copyStill(to, from string) error {
	for {
		err := os.CopyFS(to, os.DirFS(from))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

func (d *lateDisk) at(command int) string { return filepath.Join(d.dir, fmt.Sprint(command)) }

// loseWrites makes the ledger the oldest one that may be on disk after the
// commands that were run, and returns what was the last of them.
func (d *lateDisk) loseWrites() string {
	d.w.t.Helper()
	pods := filepath.Join(d.w.data, "pods")
	last := len(d.commands) - 1
	if d.kill >= 0 {
		last = d.kill
	}
	from := last
	switch command := d.commands[last]; {
	case strings.HasPrefix(command, "zfs "):
		from = -1 // the record is written while the datasets are made
	case strings.Contains(command, " mark "):
		from = d.find("zonecfg ") // what it configured is written while this runs
	case strings.Contains(command, " list"):
		if booted := d.find(" boot"); booted >= 0 && booted < last {
			from = booted // what podinit reported is written behind
		}
	}
	if err := os.RemoveAll(pods); err != nil {
		d.w.t.Fatal(err)
	}
	if from >= 0 {
		if err := os.CopyFS(pods, os.DirFS(d.at(from))); err != nil {
			d.w.t.Fatal(err)
		}
	}
	return d.commands[last]
}

func (d *lateDisk) find(part string) int {
	for i, c := range d.commands {
		if strings.Contains(c, part) {
			return i
		}
	}
	return -1
}

func startCommands(t *testing.T) (n int) {
	synctest.Test(t, func(t *testing.T) {
		w := newModelWorld(t)
		w.ran()
		w.create(volumePod())
		settle(time.Second)
		n = len(w.ran())
	})
	return n
}

// An agent that dies before what it decided or saw is on disk leaves a host from
// which the next one gets to the same pod.
func TestAgentKilledBeforeTheDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a pod dozens of times")
	}
	n := startCommands(t)
	seen := map[string]bool{}
	for i := -1; i < n; i++ { // -1: it is killed when the pod is seen to run
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", i, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newModelWorld(t)
					d := newLateDisk(w, i, after)
					pod := w.create(volumePod())
					settle(time.Second)
					if i < 0 {
						w.mustRun()
					}
					before := w.status()
					w.killAgent()
					seen[strings.Fields(d.loseWrites())[0]] = true
					w.failBy(func(string) error { return nil })
					w.startAgent()
					w.relist()
					settle(30 * time.Second)
					w.mustRun()
					now := w.status()
					if c := now.ContainerStatuses[0]; c.RestartCount != 0 || now.PodIP != "10.244.1.2" {
						t.Errorf("restarts %d, address %s", c.RestartCount, now.PodIP)
					}
					if i < 0 && !before.ContainerStatuses[0].State.Running.StartedAt.Equal(&now.ContainerStatuses[0].State.Running.StartedAt) {
						t.Errorf("started at %s, before that at %s", now.ContainerStatuses[0].State, before.ContainerStatuses[0].State)
					}
					w.delete(pod, 30)
					settle(35 * time.Second)
					w.mustBeGone()
				})
			})
		}
	}
	for _, program := range []string{"zfs", "dladm", "zonecfg", "zoneadm"} {
		if !seen[program] {
			t.Errorf("no agent was killed at %s", program)
		}
	}
}

// What an agent made without a record goes away with the pod, too.
func TestUnrecordedPodIsRemoved(t *testing.T) {
	n, unrecorded := startCommands(t), 0
	for i := range n {
		synctest.Test(t, func(t *testing.T) {
			w := newModelWorld(t)
			d := newLateDisk(w, i, true)
			pod := w.create(volumePod())
			settle(time.Second)
			w.killAgent()
			last := d.loseWrites()
			if !strings.HasPrefix(last, "zfs ") || !strings.Contains(w.show("zfs", "list", "-H", "-o", "name"), testUID) {
				return
			}
			unrecorded++
			w.api.mu.Lock()
			delete(w.api.pods, pod.Namespace+"/"+pod.Name)
			w.api.mu.Unlock()
			w.failBy(func(string) error { return nil })
			w.startAgent()
			settle(30 * time.Minute)
			w.mustBeGone()
		})
	}
	if unrecorded == 0 {
		t.Error("no agent died with a dataset and without a record")
	}
}

// A status may be shown before the record has it only if podinit would tell the
// next agent the same.
func TestEndsAreOnDiskBeforeTheyShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Minute, code: 3} })
		w.create(testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		settle(time.Second)
		w.mustRun()
		k := w.p.worker(testUID)
		// A directory in the place of the file that is written first.
		if err := os.MkdirAll(filepath.Join(w.data, "pods", testUID, ".state.json", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		settle(2 * time.Minute)
		if s := w.status(); s.ContainerStatuses[0].State.Terminated != nil || s.Phase != corev1.PodRunning {
			t.Errorf("shown, and not on record: %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
		if st := k.observed().State; st.Container("web").Exit != nil {
			t.Errorf("it is taken for recorded: %+v", st.Containers)
		}
		if err := os.RemoveAll(filepath.Join(w.data, "pods", testUID, ".state.json")); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		s := w.status()
		if s.Phase != corev1.PodFailed || s.ContainerStatuses[0].State.Terminated == nil || s.ContainerStatuses[0].State.Terminated.ExitCode != 3 {
			t.Errorf("then: %s, %+v", s.Phase, s.ContainerStatuses[0].State)
		}
	})
}

// A record that could not be written behind is written before the next step.
func TestFailedWriteBehindIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := newWorker(w.p, testPod(), ledger.State{UID: testUID, Containers: []ledger.Container{{Name: "web"}}})
		if err := os.WriteFile(filepath.Join(w.data, "pods", "."+testUID), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		pods := filepath.Join(w.data, "pods")
		if err := os.Rename(pods, pods+".away"); err != nil {
			t.Fatal(err)
		}
		if err := k.assignAddress(); err != nil {
			t.Fatal(err) // it is only begun
		}
		if err := k.settle(); err == nil || k.durable {
			t.Fatalf("settled without a ledger: %v, durable %v", err, k.durable)
		}
		if err := k.attempt(t.Context(), step{act: actLink}); err == nil || k.have.link || len(w.host.leftovers()) > 0 {
			t.Errorf("the link was made without a record: %v, %v", err, w.host.leftovers())
		}
		if err := os.Rename(pods+".away", pods); err != nil {
			t.Fatal(err)
		}
		if err := k.attempt(t.Context(), step{act: actLink}); err != nil || !k.have.link || !k.durable {
			t.Errorf("then: %v, %+v", err, k.have)
		}
		store, err := ledger.Open(pods)
		if err != nil {
			t.Fatal(err)
		}
		records, _, _ := store.Load()
		if len(records) != 1 || records[0].State.Boot != ledger.BootPending || records[0].State.Slot == 0 {
			t.Errorf("records %+v", records)
		}
		if err := k.attempt(t.Context(), step{act: actUnlink}); err != nil {
			t.Error(err)
		}
	})
}
