// Package ledger is the agent's own durable record of its pods: one folder per
// pod UID with the pod as the API server gave it (pod.json) and what the agent
// decided and saw (state.json).
//
// It exists because neither the API server nor the host can answer everything
// after a crash: how often a container was restarted, which address was given
// away, how an attempt ended whose process is long gone. What the host can
// answer is never kept here. A folder that cannot be read is reported and left
// alone: its zone may still run.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
)

// Version is the version of the files. A file of another version is reported
// as corrupt rather than guessed at.
const Version = 1

const (
	podFile   = "pod.json"
	stateFile = "state.json"

	// unfinished begins the name of a folder that is being made or removed.
	unfinished = "."

	// maxFile bounds what is read back: etcd keeps objects below 1.5 MiB.
	maxFile = 4 << 20
)

// validUID is what a pod UID may look like to become a folder's name: UUIDs,
// and the hex digests that static pods carry.
var validUID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,62}$`)

// ErrUID means that a UID cannot be used as a folder's name.
var ErrUID = errors.New("unusable pod UID")

// Record is all that is kept of one pod.
type Record struct {
	Pod   *corev1.Pod
	State State
}

// Corrupt is a folder that could not be read.
type Corrupt struct {
	UID string
	Err error
}

// Store is the folder of all records. Its methods may be called concurrently;
// each pod is written by one worker.
type Store struct {
	dir string
}

// Open returns the store in dir, made if missing, readable by root only: pods
// carry literal environment values. What an earlier agent had not finished
// making or removing is removed.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	for _, e := range entries {
		if uid, ok := strings.CutPrefix(e.Name(), unfinished); !ok || !validUID.MatchString(uid) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// Create makes a pod that has no record durable with its first state: after a
// crash both are there or neither. It waits for the disk three times, and
// SavePod and SaveState twice each.
func (s *Store) Create(pod *corev1.Pod, st State) error {
	uid := string(pod.UID)
	if !validUID.MatchString(uid) {
		return fmt.Errorf("ledger %q: %w", uid, ErrUID)
	}
	st.Version = Version
	temp, dir := filepath.Join(s.dir, unfinished+uid), filepath.Join(s.dir, uid)
	// Both may be there only of a creation that failed, of which nobody was told.
	if err := errors.Join(os.RemoveAll(temp), os.RemoveAll(dir), os.Mkdir(temp, 0o700)); err != nil {
		return fmt.Errorf("ledger %s: %w", uid, err)
	}
	var group errgroup.Group // the two files wait for the disk together
	for name, v := range map[string]any{podFile: pod, stateFile: st} {
		group.Go(func() error {
			data, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("encode %s: %w", name, err)
			}
			return writeSynced(filepath.Join(temp, name), data)
		})
	}
	err := group.Wait()
	if err == nil {
		err = syncDir(temp)
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("ledger %s: create: %w", uid, err)
	}
	return nil
}

// SavePod makes pod durable as the newest version of its object. The pod must
// have a record.
func (s *Store) SavePod(pod *corev1.Pod) error {
	return s.save(string(pod.UID), podFile, pod)
}

// SaveState makes st durable. The pod must have a record.
func (s *Store) SaveState(st State) error {
	st.Version = Version
	return s.save(st.UID, stateFile, st)
}

func (s *Store) save(uid, name string, v any) error {
	if !validUID.MatchString(uid) {
		return fmt.Errorf("ledger %q: %w", uid, ErrUID)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("ledger %s: encode %s: %w", uid, name, err)
	}
	if err := writeAtomic(filepath.Join(s.dir, uid), name, data); err != nil {
		return fmt.Errorf("ledger %s: write %s: %w", uid, name, err)
	}
	return nil
}

// Remove forgets a pod. A pod that is not known is not an error.
func (s *Store) Remove(uid string) error {
	if !validUID.MatchString(uid) {
		return fmt.Errorf("ledger %q: %w", uid, ErrUID)
	}
	// It goes under a name that says so first: a crash in between leaves no
	// record that is half there.
	temp := filepath.Join(s.dir, unfinished+uid)
	err := os.RemoveAll(temp)
	if err == nil {
		err = os.Rename(filepath.Join(s.dir, uid), temp)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(syncDir(s.dir), os.RemoveAll(temp))
	}
	if err != nil {
		return fmt.Errorf("ledger %s: remove: %w", uid, err)
	}
	return nil
}

// Load reads every record, in the order of UIDs. Records that cannot be read
// are returned apart. A folder without a state is an unfinished creation of an
// older agent, of which nobody was told, and is skipped.
func (s *Store) Load() ([]Record, []Corrupt, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	var records []Record
	var corrupt []Corrupt
	for _, e := range entries {
		if !e.IsDir() || !validUID.MatchString(e.Name()) {
			continue
		}
		r, err := s.load(e.Name())
		switch {
		case errors.Is(err, errEmpty):
		case err != nil:
			corrupt = append(corrupt, Corrupt{UID: e.Name(), Err: err})
		default:
			records = append(records, r)
		}
	}
	return records, corrupt, nil
}

var errEmpty = errors.New("no state and nothing done")

func (s *Store) load(uid string) (Record, error) {
	root, err := os.OpenRoot(filepath.Join(s.dir, uid))
	if err != nil {
		return Record{}, err
	}
	defer root.Close()
	var pod corev1.Pod
	var st State
	podErr := read(root, podFile, &pod)
	stateErr := read(root, stateFile, &st)
	if errors.Is(stateErr, fs.ErrNotExist) && (podErr == nil || errors.Is(podErr, fs.ErrNotExist)) {
		return Record{}, errEmpty // the pod was written first
	}
	if err := errors.Join(podErr, stateErr); err != nil {
		return Record{}, err
	}
	if string(pod.UID) != uid || st.UID != uid {
		return Record{}, fmt.Errorf("files are of pods %q and %q", pod.UID, st.UID)
	}
	if err := st.check(); err != nil {
		return Record{}, err
	}
	return Record{Pod: &pod, State: st}, nil
}

func read(root *os.Root, name string, v any) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxFile {
		return fmt.Errorf("read %s: larger than %d bytes", name, maxFile)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// writeAtomic replaces dir/name so that a reader, and a power cut, find the old
// or the new content.
func writeAtomic(dir, name string, data []byte) error {
	// Each file has one writer, so what is there under this name is of one
	// that did not come to its end.
	temp := filepath.Join(dir, "."+name)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeSynced writes a new file and waits for the disk.
func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
