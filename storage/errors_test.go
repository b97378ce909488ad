package storage

import (
	"context"
	"errors"
	"slices"
	"testing"

	"reddwarf.io/reddwarf/zones/command"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		stderr string
		want   error // nil: none of ours
	}{
		{"cannot open 'p/x': dataset does not exist\n", ErrNotFound},
		{"cannot create 'p/x': parent does not exist\n", ErrNotFound},
		{"cannot create 'p/x': no such parent 'p'\n", ErrNotFound},
		{"cannot create 'p/x': dataset already exists\n", ErrExists},
		{"cannot create snapshot 'p/x@s': dataset already exists\n", ErrExists},
		{"cannot hold snapshot 'p/x@s': tag already exists on this dataset\n", ErrExists},
		{"cannot release hold from snapshot 'p/x@s': no such tag on this dataset\n", ErrNotFound},
		{"cannot destroy 'p/x': dataset is busy\n", ErrBusy},
		{"cannot unmount '/p/x': Device busy\n", ErrBusy},
		{"cannot unmount '/p/x/a': Device busy\ncannot unmount '/p/x/b': Device busy\n", ErrBusy},
		{"cannot create 'p/x': out of space\n", ErrNoSpace},
		{"cannot destroy 'p/x': filesystem has children\nuse '-r' to destroy the following datasets:\np/x@s\n", ErrInUse},
		{"cannot destroy 'p/x@s': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\np/y\n", ErrInUse},

		// Not exactly a known message, so not a known failure.
		{"cannot open 'p/x': dataset does not exist any more\n", nil},
		{"cannot unmount '/p/x': Device busy\ncannot destroy 'p/y': I/O error\n", nil},
		{"cannot open 'p/x': dataset does not exist\ncannot destroy 'p/y': dataset is busy\n", nil},
		{"dataset does not exist\n", nil},
		{"internal error: out of memory\n", nil},
		{"", nil},
	} {
		err := classify(&command.Error{Cmd: command.New("zfs"), ExitCode: 1, Stderr: tt.stderr, Err: errors.New("exit")})
		for _, kind := range texts {
			if errors.Is(err, kind) != (kind == tt.want) { //nolint:errorlint // the sentinels themselves are compared
				t.Errorf("%q: errors.Is(%v, %v) = %v", tt.stderr, err, kind, errors.Is(err, kind))
			}
		}
	}
}

// answers is a Runner that gives each command the same answer.
type answers string

// Run implements command.Runner.
func (a answers) Run(context.Context, command.Cmd) ([]byte, error) { return []byte(a), nil }

func TestParsersRefuseOddOutput(t *testing.T) {
	for _, out := range []string{"one field\n", "a\tb\tc\td\te\tf\tg\n", "rpool/reddwarf/pods/u\tu\tsoon\n"} {
		s := New(answers(out), Config{})
		if pods, err := s.Pods(t.Context()); err == nil {
			t.Errorf("Pods took %q for %v", out, pods)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("rpool/reddwarf/pods/u\tu\t1700000000\n")
	f.Add("rpool/reddwarf/pods/u\tu\t1\t2\tnone\t4\n")
	f.Add("rpool/reddwarf/images/i@image\t-\t0\t1\ti\nrpool/reddwarf/images/i\t-\t0\t1\ti\n")
	f.Fuzz(func(t *testing.T, out string) {
		s := New(answers(out), Config{})
		pods, err := s.parsePods([]byte(out))
		for _, p := range pods {
			if err != nil || checkWord("pod", p.UID) != nil {
				t.Errorf("Pods = %v, %v of %q", pods, err, out)
			}
		}
		if _, err := s.parseUsage([]byte(out)); err != nil {
			return
		}
		images, err := s.parseImages([]byte(out))
		if slices.ContainsFunc(images, func(i ImageDataset) bool { return err != nil || checkWord("image", i.ID) != nil }) {
			t.Errorf("Images = %v, %v of %q", images, err, out)
		}
	})
}
