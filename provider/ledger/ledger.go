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
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Version is the version of the files. A file of another version is reported
// as corrupt rather than guessed at.
const Version = 1

const (
	podFile   = "pod.json"
	stateFile = "state.json"

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
	mu  sync.Mutex // serialises changes of the directory itself
}

// Open returns the store in dir, made if missing, readable by root only: pods
// carry literal environment values.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &Store{dir: dir}, nil
}

// SavePod makes pod durable as the newest version of its object.
func (s *Store) SavePod(pod *corev1.Pod) error {
	return s.save(string(pod.UID), podFile, pod)
}

// SaveState makes st durable.
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
	dir := filepath.Join(s.dir, uid)
	if err := s.ensureDir(dir); err != nil {
		return fmt.Errorf("ledger %s: %w", uid, err)
	}
	if err := writeAtomic(dir, name, data); err != nil {
		return fmt.Errorf("ledger %s: write %s: %w", uid, name, err)
	}
	return nil
}

func (s *Store) ensureDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(s.dir)
}

// Remove forgets a pod. A pod that is not known is not an error.
func (s *Store) Remove(uid string) error {
	if !validUID.MatchString(uid) {
		return fmt.Errorf("ledger %q: %w", uid, ErrUID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, uid)
	// pod.json goes last: a crash in between leaves a pod of which nothing has
	// been done, never a state without its pod.
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ledger %s: remove: %w", uid, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("ledger %s: remove: %w", uid, err)
	}
	return syncDir(s.dir)
}

// Load reads every record, in the order of UIDs. Records that cannot be read
// are returned apart. A folder that holds nothing but temporary files is an
// unfinished creation, of which nobody was told, and is skipped.
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

var errEmpty = errors.New("no files")

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
	if errors.Is(podErr, fs.ErrNotExist) && errors.Is(stateErr, fs.ErrNotExist) {
		return Record{}, errEmpty
	}
	if podErr != nil {
		return Record{}, podErr
	}
	if errors.Is(stateErr, fs.ErrNotExist) {
		// The pod is written first: nothing had been done for it yet.
		st, stateErr = State{Version: Version, UID: uid}, nil
	}
	if stateErr != nil {
		return Record{}, stateErr
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
func writeAtomic(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name()) // best effort: a stray temporary file is ignored by Load
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
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
