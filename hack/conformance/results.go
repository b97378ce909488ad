package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// passed is Ginkgo's word for a test that passed.
const passed = "passed"

// longest is how much of a message is kept: some hold the whole pod.
const longest = 1200

// result is what came of one test.
type result struct {
	State   string // as Ginkgo says: passed, failed, skipped, timedout, panicked, interrupted
	Message string `json:",omitempty"` // why it failed or was skipped
	Where   string `json:",omitempty"` // source line of the failure
	Seconds int
	Log     string // directory below the work directory
	Day     string
	Commit  string `json:",omitempty"` // of the agent
}

// results are kept in a file between runs.
type results struct {
	mu    sync.Mutex
	Tests map[string]result
}

func load(file string) (*results, error) {
	r := &results{Tests: map[string]result{}}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.Tests); err != nil {
		return nil, fmt.Errorf("results %s: %w", file, err)
	}
	return r, nil
}

// record takes over the results of a batch. What an interrupted run ended early
// has no result: it runs again.
func (r *results) record(o options, batch []test, reports []report, interrupted bool, log string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range reports {
		for _, s := range rep.SpecReports {
			name := strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
			ours := slices.ContainsFunc(batch, func(t test) bool { return t.Name == name })
			if !ours || s.State == "pending" || interrupted && s.State != passed {
				continue
			}
			message := s.Failure.Message
			if s.Failure.ForwardedPanic != "" {
				message += ": " + s.Failure.ForwardedPanic
			}
			if len(message) > longest {
				message = strings.ToValidUTF8(message[:longest], "") + "…"
			}
			where := ""
			if s.State != passed && s.Failure.Location.FileName != "" {
				where = fmt.Sprintf("%s:%d", shortFile(s.Failure.Location.FileName), s.Failure.Location.LineNumber)
			}
			if s.State == "skipped" && message == "" {
				continue // not in focus, or the batch ended before it
			}
			r.Tests[name] = result{
				State: s.State, Message: message, Where: where, Seconds: int(s.RunTime.Seconds()),
				Log: log, Day: time.Now().UTC().Format(time.DateOnly), Commit: o.commit,
			}
			fmt.Printf("%-8s %4ds  %s\n", s.State, int(s.RunTime.Seconds()), name)
		}
	}
	text, err := json.MarshalIndent(r.Tests, "", "\t")
	if err != nil {
		return err
	}
	temp := o.results + ".new"
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, o.results)
}

// shortFile is a source file below the suite's own module.
func shortFile(name string) string {
	if _, after, ok := strings.Cut(name, "/test/e2e/"); ok {
		return "test/e2e/" + after
	}
	return filepath.Base(name)
}
