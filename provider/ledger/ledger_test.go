package ledger

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/zones/podinit"
)

const uid = "0b7f1f8e-6f5c-4b8e-9a53-0d0f6a1c2b3d"

func pod(uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: types.UID(uid)}}
}

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pods")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestRecordSurvives(t *testing.T) {
	s, _ := open(t)
	at := time.Date(2026, 11, 1, 2, 3, 4, 5, time.UTC)
	st := State{
		Version: Version, UID: uid, Accepted: at, Slot: 7, Boot: "b1",
		Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.9")},
		Containers: []Container{{
			Name: "web", Attempt: 3, Phase: podinit.Running, StartedAt: at, Backoff: 40 * time.Second,
			Image: &Image{Ref: "web:1", ID: "sha256:1", Env: []string{"A=b\n\"c\""}},
			Last:  &Exit{Attempt: 2, Code: 137, Signal: 9, Reason: "Error", FinishedAt: at},
		}},
		End:      &End{Phase: corev1.PodFailed, Reason: "Evicted", At: at},
		Deletion: &Deletion{At: at, Grace: 30 * time.Second},
	}
	if err := s.Create(pod(uid), st); err != nil {
		t.Fatal(err)
	}
	records, corrupt, err := s.Load()
	if err != nil || len(corrupt) != 0 || len(records) != 1 {
		t.Fatalf("Load = %v, %v, %v", records, corrupt, err)
	}
	if !reflect.DeepEqual(records[0].State, st) {
		t.Errorf("state came back as %+v\nwant %+v", records[0].State, st)
	}
	if records[0].Pod.Name != "web" {
		t.Errorf("pod came back as %q", records[0].Pod.Name)
	}
}

func TestRemoveIsRepeatable(t *testing.T) {
	s, dir := open(t)
	if err := s.Create(pod(uid), State{UID: uid}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(uid); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What an agent that was killed leaves half made or half removed is nobody's
// record and in nobody's way.
func TestUnfinishedIsSweptAway(t *testing.T) {
	_, dir := open(t)
	for _, name := range []string{"." + uid, ".not a uid", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, podFile), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".not a uid", "other"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	// One that is in the way nevertheless: of this agent's own creation that failed.
	for _, name := range []string{"." + uid, uid} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Create(pod(uid), State{UID: uid, Slot: 3}); err != nil {
		t.Fatal(err)
	}
	records, corrupt, err := s.Load()
	if err != nil || len(corrupt) != 1 || len(records) != 1 || records[0].State.Slot != 3 { // "other" is corrupt
		t.Errorf("Load = %v, %v, %v", records, corrupt, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "."+uid)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished folder: %v", err)
	}
}

// A write that an earlier agent did not finish is replaced, and one for a pod
// without a record is refused.
func TestSave(t *testing.T) {
	s, dir := open(t)
	if err := s.SaveState(State{UID: uid}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SaveState without a record = %v", err)
	}
	if err := s.Create(pod(uid), State{UID: uid}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, uid, "."+stateFile), []byte("half of a much longer stat"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := pod(uid)
	other.Name = "renamed"
	if err := errors.Join(s.SaveState(State{UID: uid, Slot: 4}), s.SavePod(other)); err != nil {
		t.Fatal(err)
	}
	records, _, err := s.Load()
	if err != nil || len(records) != 1 || records[0].State.Slot != 4 || records[0].Pod.Name != "renamed" {
		t.Errorf("Load = %+v, %v", records, err)
	}
}

func TestUnusableUIDIsRefused(t *testing.T) {
	s, dir := open(t)
	for _, bad := range []string{"", "..", "../x", "a/b", ".hidden", strings.Repeat("a", 64)} {
		if err := s.Create(pod(bad), State{UID: bad}); !errors.Is(err, ErrUID) {
			t.Errorf("Create(%q) = %v, want ErrUID", bad, err)
		}
		if err := s.SavePod(pod(bad)); !errors.Is(err, ErrUID) {
			t.Errorf("SavePod(%q) = %v, want ErrUID", bad, err)
		}
		if err := s.Remove(bad); !errors.Is(err, ErrUID) {
			t.Errorf("Remove(%q) = %v, want ErrUID", bad, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("something was written beside the store: %v", left)
	}
}

func TestLoadReportsWhatItCannotRead(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   map[string]string
		records int
		corrupt int
	}{
		{"pod only: nothing was done yet", map[string]string{podFile: `{"metadata":{"uid":"` + uid + `"}}`}, 0, 0},
		{"cut-off pod, no state", map[string]string{podFile: `{"metadata":`}, 0, 1},
		{"temporary files only", map[string]string{".pod.json-1": "{"}, 0, 0},
		{"state without pod", map[string]string{stateFile: `{"version":1,"uid":"` + uid + `"}`}, 0, 1},
		{"cut off", map[string]string{podFile: `{"metadata":{"uid":"` + uid + `"}}`, stateFile: `{"version":1,"u`}, 0, 1},
		{"other version", map[string]string{podFile: `{"metadata":{"uid":"` + uid + `"}}`, stateFile: `{"version":2,"uid":"` + uid + `"}`}, 0, 1},
		{"other pod", map[string]string{podFile: `{"metadata":{"uid":"x"}}`, stateFile: `{"version":1,"uid":"` + uid + `"}`}, 0, 1},
		{"too large", map[string]string{podFile: `{"metadata":{"uid":"` + uid + `"}}`, stateFile: strings.Repeat(" ", maxFile+1)}, 0, 1},
		{"doubled container", map[string]string{podFile: `{"metadata":{"uid":"` + uid + `"}}`,
			stateFile: `{"version":1,"uid":"` + uid + `","containers":[{"name":"a"},{"name":"a"}]}`}, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, dir := open(t)
			if err := os.Mkdir(filepath.Join(dir, uid), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, data := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, uid, name), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			records, corrupt, err := s.Load()
			if err != nil || len(records) != tt.records || len(corrupt) != tt.corrupt {
				t.Fatalf("Load = %d records, %v, %v", len(records), corrupt, err)
			}
			if left, _ := os.ReadDir(filepath.Join(dir, uid)); len(left) != len(tt.files) {
				t.Error("Load removed files")
			}
		})
	}
}

func FuzzLoadNeverPanics(f *testing.F) {
	f.Add([]byte(`{"version":1,"uid":"` + uid + `","slot":1,"addresses":["10.0.0.1"],"end":{"phase":"Failed"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, dir := open(t)
		if err := s.Create(pod(uid), State{UID: uid}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, uid, stateFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		records, corrupt, err := s.Load()
		if err != nil || len(records)+len(corrupt) != 1 {
			t.Fatalf("Load = %v, %v, %v", records, corrupt, err)
		}
	})
}
