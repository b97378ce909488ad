package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// recordVersion is the form of the file. Another one is not read.
const recordVersion = 1

// Route is a route to a network through a neighbour.
type Route struct {
	To      netip.Prefix `json:"to"`
	Gateway netip.Addr   `json:"gateway"`
}

// record is what was made here that cannot say whose it is: routes, rules of
// ipnat and settings have no owner. What is to be made is written down before
// it is, and what was removed is struck out afterwards, so whatever is not in
// the record is somebody else's.
//
// All of it is gone after a reboot, and the file should be, too: it belongs
// below /var/run, which illumos keeps in memory.
type record struct {
	path string // empty: kept in memory only

	Version int      `json:"version"`
	Routes  []Route  `json:"routes,omitempty"`
	Rules   []string `json:"rules,omitempty"` // as ipnat prints them

	// Before are settings as they were before we changed them, by their key.
	Before map[string]string `json:"before,omitempty"`
}

// readRecord returns the record at path, an empty one if there is none.
func readRecord(path string) (*record, error) {
	r := &record{path: path, Version: recordVersion, Before: map[string]string{}}
	if path == "" {
		return r, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network: record of routes and rules: %w", err)
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("network: record of routes and rules %s: %w", path, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("network: record of routes and rules %s: version %d, want %d", path, r.Version, recordVersion)
	}
	if r.Before == nil {
		r.Before = map[string]string{}
	}
	return r, nil
}

// change applies f and writes the record down. Nothing has changed if that
// fails.
func (r *record) change(f func(*record)) error {
	next := &record{path: r.path, Version: recordVersion, Routes: slices.Clone(r.Routes), Rules: slices.Clone(r.Rules), Before: maps.Clone(r.Before)}
	f(next)
	if slices.Equal(next.Routes, r.Routes) && slices.Equal(next.Rules, r.Rules) && maps.Equal(next.Before, r.Before) {
		return nil
	}
	if err := next.write(); err != nil {
		return fmt.Errorf("network: record of routes and rules: %w", err)
	}
	*r = *next
	return nil
}

func (r *record) write() error {
	if r.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
		return err
	}
	tmp := r.path + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, r.path)
}

// remove forgets everything.
func (r *record) remove() error {
	*r = record{path: r.path, Version: recordVersion, Before: map[string]string{}}
	if r.path == "" {
		return nil
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network: record of routes and rules: %w", err)
	}
	return nil
}
