package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// readSample returns the tests that the file names: one on each line, empty
// lines and those that begin with # aside.
func readSample(file string, tests []test) ([]test, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known := map[string]test{}
	for _, t := range tests {
		known[t.Name] = t
	}
	var due []test
	var errs []error
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t, ok := known[line]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: the suite has no test %q", file, line))
			continue
		}
		due = append(due, t)
	}
	if len(due) == 0 {
		errs = append(errs, fmt.Errorf("%s: it names no test", file))
	}
	return due, errors.Join(errs...)
}

// unlessPassed is an error that names each of these tests that did not pass.
func (r *results) unlessPassed(tests []test) error {
	var errs []error
	for _, t := range tests {
		got, ok := r.Tests[t.Name]
		if !ok {
			got.State = "not run"
		}
		if got.State != passed {
			errs = append(errs, fmt.Errorf("%s: %s: %s %s (log: %s)", got.State, t.Name, got.Message, got.Where, got.Log))
		}
	}
	return errors.Join(errs...)
}
