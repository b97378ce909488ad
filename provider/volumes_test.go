package provider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/provider/objects"
	"reddwarf.io/reddwarf/provider/translate"
)

// shown returns the file of a volume as a container reads it.
func (w *world) shown(volume, name string) string {
	data, err := os.ReadFile(filepath.Join(w.p.c.Storage.PodDir(testUID), translate.VolumesDir, volume, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (e *fakeEvents) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.reasons, func(s string) bool { return strings.Contains(s, text) })
}

// configVolume adds a volume that shows a ConfigMap.
func configVolume(name string, optional bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: &optional},
		}})
	}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"key": value}}
}

func (w *world) setConfigMap(name, value string) {
	w.cluster.edit(func(c *fakeCluster) {
		if c.maps == nil {
			c.maps = map[string]*corev1.ConfigMap{}
		}
		c.maps[name] = configMap(name, value)
		if value == "" {
			delete(c.maps, name)
		}
	})
	w.p.ObjectChanged(objects.Key{Kind: objects.ConfigMap, Namespace: "default", Name: name})
}

// TestVolumesWaitForTheirObjects holds a pod back until an object is there, and
// no longer.
func TestVolumesWaitForTheirObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(configVolume("settings", false)))
		settle(10 * time.Minute) // tries are far apart by now
		if s := w.status(); s.Phase != corev1.PodPending {
			t.Errorf("phase %s without the ConfigMap", s.Phase)
		}
		if !w.events.has(`FailedMount: MountVolume.SetUp failed for volume "settings" : configmaps "settings" not found`) {
			t.Errorf("events: %v", w.events.reasons)
		}
		w.setConfigMap("settings", "red")
		settle(time.Second)
		w.mustRun()
		if got := w.shown("settings", "key"); got != "red" {
			t.Errorf("the volume shows %q", got)
		}
	})
}

// TestOneVolumeDoesNotHoldUpOthers takes an object away from a running pod: it
// keeps what it had, and its other volumes are kept up to date.
func TestOneVolumeDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setConfigMap("a-gone", "old")
		w.setConfigMap("b-stays", "old")
		w.create(testPod(configVolume("a-gone", false), configVolume("b-stays", false), configVolume("c-later", true)))
		settle(time.Second)
		w.mustRun()
		w.setConfigMap("a-gone", "")
		settle(time.Hour)
		w.mustRun()
		if !w.events.has(`FailedMount: MountVolume.SetUp failed for volume "a-gone"`) {
			t.Errorf("nothing was said: %v", w.events.reasons)
		}
		w.setConfigMap("b-stays", "new")
		w.setConfigMap("c-later", "there")
		settle(time.Second)
		for volume, want := range map[string]string{"a-gone": "old", "b-stays": "new", "c-later": "there"} {
			if got := w.shown(volume, "key"); got != want {
				t.Errorf("volume %s shows %q, want %q", volume, got, want)
			}
		}
		w.setConfigMap("a-gone", "back")
		settle(time.Second)
		if got := w.shown("a-gone", "key"); got != "back" {
			t.Errorf("when it is back, the volume shows %q", got)
		}
	})
}

// TestTokenIsReplacedWhatever lets the API server be away for longer than a
// token lives: it is asked until it answers.
func TestTokenIsReplacedWhatever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issued, away := 0, false
		w.cluster.edit(func(c *fakeCluster) {
			c.token = func() (string, time.Time, error) {
				if away {
					return "", time.Time{}, errors.New("the API server is away")
				}
				issued++
				return fmt.Sprintf("token %d", issued), time.Now().Add(8 * time.Minute), nil
			}
		})
		w.create(testPod())
		settle(time.Second)
		w.mustRun()
		first := w.shown("token", "token")
		settle(9 * time.Minute)
		if got := w.shown("token", "token"); got == first {
			t.Errorf("after nine minutes it is still %q", got)
		}
		w.cluster.edit(func(*fakeCluster) { away = true })
		settle(24 * time.Hour)
		w.mustRun()
		stale := w.shown("token", "token")
		w.cluster.edit(func(*fakeCluster) { away = false })
		settle(2 * time.Minute)
		if got := w.shown("token", "token"); got == stale {
			t.Errorf("two minutes after the API server is back it is still %q", got)
		}
	})
}

// TestWriteVolume looks at modes, owners and the links of a volume.
func TestWriteVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	user, group := int64(1001), int64(4711)
	files := map[string]translate.File{
		"plain":     {Data: []byte("x"), Mode: 0o644},
		"d/private": {Data: []byte("y"), Mode: 0o400},
		"token":     {Data: []byte("z"), Mode: 0o600, User: &user},
	}
	for _, tt := range []struct {
		name  string
		group *int64
		want  map[string]string
	}{
		{"no group", nil, map[string]string{
			".": "drwxr-xr-x 0:0", "plain": "-rw-r--r-- 0:0", "d": "drwxr-xr-x 0:0", "d/private": "-r-------- 0:0", "token": "-rw------- 1001:0",
		}},
		{"group", &group, map[string]string{
			".": "dgrwxr-xr-x 0:4711", "plain": "-rw-r--r-- 0:4711", "d": "dgrwxr-xr-x 0:4711", "d/private": "-r--r----- 0:4711", "token": "-rw-r----- 1001:4711",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir()
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
			dir, err := os.OpenRoot(path)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close() //nolint:errcheck // only a handle
			if err := writeVolume(dir, files, tt.group); err != nil {
				t.Fatal(err)
			}
			for name, want := range tt.want {
				info, err := dir.Stat(name)
				if err != nil {
					t.Fatal(err)
				}
				st := info.Sys().(*syscall.Stat_t)
				if got := fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid); got != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
			before, err := dir.Readlink(dataLink)
			if err != nil {
				t.Fatal(err)
			}
			if err := writeVolume(dir, files, tt.group); err != nil {
				t.Fatal(err)
			}
			if after, err := dir.Readlink(dataLink); err != nil || after != before {
				t.Errorf("the same content was written again: %s, %v", after, err)
			}
		})
	}
}
