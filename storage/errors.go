package storage

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// What a caller may want to tell apart. Each is wrapped with the operation and
// zfs' own words.
var (
	// ErrNotFound means that the dataset or snapshot does not exist.
	ErrNotFound = errors.New("no such dataset")
	// ErrExists means that a dataset, snapshot or hold of that name exists.
	ErrExists = errors.New("dataset exists")
	// ErrBusy means that something uses the dataset: a mount, a process or a
	// zone. It is worth retrying.
	ErrBusy = errors.New("dataset is busy")
	// ErrInUse means that clones or children hang on the dataset. It does not
	// heal before they are gone.
	ErrInUse = errors.New("dataset is in use")
	// ErrNoSpace means that the pool or a quota above the dataset is full.
	ErrNoSpace = errors.New("out of space")
	// ErrForeign means that the dataset is not ours to change.
	ErrForeign = errors.New("dataset is not ours")
	// ErrConflict means that the dataset exists but was made from something
	// else than what is wanted now.
	ErrConflict = errors.New("dataset was made from another image")
	// ErrName means that a name cannot be a part of a dataset's.
	ErrName = errors.New("not a usable name")
	// ErrNoImage means that the image dataset is absent or incomplete.
	ErrNoImage = errors.New("no such image dataset")
)

// complaint matches one failure as zfs(8) prints it: "cannot ACTION 'NAME':
// TEXT". Neither a dataset nor a mount point of ours contains a quote.
var complaint = regexp.MustCompile(`^cannot [^']+ '[^']*': (.+)$`)

// texts says what the TEXT of a complaint means. They come from
// libzfs_util.c, zfs_main.c and strerror(3C) of illumos.
var texts = map[string]error{
	"dataset does not exist":                 ErrNotFound,
	"no such pool or dataset":                ErrNotFound,
	"parent does not exist":                  ErrNotFound,
	"no such tag on this dataset":            ErrNotFound,
	"dataset already exists":                 ErrExists,
	"pool or dataset exists":                 ErrExists,
	"tag already exists on this dataset":     ErrExists,
	"dataset is busy":                        ErrBusy,
	"pool or dataset is busy":                ErrBusy,
	"mountpoint or dataset is busy":          ErrBusy,
	"dataset in use by local zone":           ErrBusy,
	"Device busy":                            ErrBusy,
	"snapshot has dependent clones":          ErrInUse,
	"filesystem has dependent clones":        ErrInUse,
	"filesystem has children":                ErrInUse,
	"out of space":                           ErrNoSpace,
	"filesystem already mounted":             ErrExists,
	"not currently mounted":                  ErrNotFound,
	"dataset is in use in a non-global zone": ErrBusy,
}

// classify is the only place that reads what zfs(8) says of a failure. A
// complaint it does not know exactly stays what it is. When a recursive
// operation complains of several datasets, all must agree.
func classify(err error) error {
	var ce *command.Error
	if err == nil || !errors.As(err, &ce) {
		return err
	}
	var found error
	for line := range strings.Lines(ce.Stderr) {
		m := complaint.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		text := m[1]
		if strings.HasPrefix(text, "no such parent '") {
			text = "parent does not exist"
		}
		kind := texts[text]
		if kind == nil || found != nil && found != kind { //nolint:errorlint // the sentinels themselves are compared
			return err
		}
		found = kind
	}
	if found == nil {
		return err
	}
	return fmt.Errorf("%w: %w", found, err)
}
