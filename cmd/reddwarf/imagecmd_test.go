package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/provider/images"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// fewImages has two images, of which one is in use and the other goes.
type fewImages struct{ gone bool }

func (f *fewImages) Known() ([]oci.Known, error) {
	known := []oci.Known{{ID: "a", Dataset: "a", Tags: []string{"registry/a:1"}, Digests: []string{"registry/a@sha256:0123456789abcdef"}}}
	if !f.gone {
		known = append(known, oci.Known{ID: "b", Dataset: "b", Tags: []string{"registry/b:1", "registry/b:2"}})
	}
	return known, nil
}

func (f *fewImages) Datasets(context.Context) ([]storage.ImageDataset, error) {
	return []storage.ImageDataset{{ID: "a", Refers: 3 << 20, Clones: 1}, {ID: "b", Used: 1 << 10, Refers: 2 << 20}}, nil
}

func (f *fewImages) InUse(map[string]bool, time.Time) error { return nil }

func (f *fewImages) Remove(_ context.Context, id string, _ time.Time) (int64, error) {
	if id != "b" || f.gone {
		return 0, errors.New("not to be removed: " + id)
	}
	f.gone = true
	return 1 << 10, nil
}

func (f *fewImages) Sweep(context.Context, time.Time) (int64, error) { return 512, nil }

// TestImageCommandsAskTheAgent has the commands speak to an agent that holds the
// host's lock.
func TestImageCommandsAskTheAgent(t *testing.T) {
	a := &agent{config: config{RunDir: t.TempDir()}}
	unlock, err := lockHost(a.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	command := func(args ...string) (string, error) {
		var out strings.Builder
		// fcntl's locks are a process's, so here nobody is kept out: what the command
		// does after that is called itself.
		c := a.config
		var err error
		switch args[0] {
		case "list":
			var list []images.Listed
			if err = c.askAgent(t.Context(), "GET", "/images", &list); err == nil {
				err = printImages(&out, list, time.Now())
			}
		case "prune", "dry":
			path := map[string]string{"prune": "/images/prune", "dry": "/images/prune?dry-run"}[args[0]]
			var p images.Pruned
			if err = c.askAgent(t.Context(), "POST", path, &p); err == nil {
				err = printPruned(&out, p, args[0] == "dry")
			}
		}
		return out.String(), err
	}
	if _, err := command("list"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("without a socket: %v", err)
	}

	few := &fewImages{}
	collector := images.New(images.Config{
		Store: few, Log: silent{}, Events: &record.FakeRecorder{}, Users: func() map[string][]string { return map[string][]string{"a": {"ns/pod"}} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 { // the second one finds the socket of the first
		serve, err := a.serveLocal(ctx, collector)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- serve() }()
		defer func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("serve ended with %v", err)
			}
		}()
	}
	if info, err := os.Stat(filepath.Dir(a.localSocket())); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v, %v", info.Mode(), err)
	}
	for _, tt := range []struct{ command, want string }{
		{"list", "registry/a:1  sha256:0123456789ab  3.0 MiB  ns/pod   now"},
		{"list", "registry/b:2  -                    2.0 MiB  -"},
		{"dry", "would remove registry/b:1 (1.0 KiB held by it alone)\n"},
		{"prune", "removed registry/b:1 (1.0 KiB freed)\nremoved leftovers of pulls (512 B freed)\n1 images removed, 1.5 KiB freed\n"},
		{"prune", "0 images removed, 512 B freed\n"},
	} {
		if out, err := command(tt.command); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v, printed\n%swant\n%s", tt.command, err, out, tt.want)
		}
	}
}

func TestStillImagesNeedsTheRecords(t *testing.T) {
	c := config{Pool: "no-such-pool", DataDir: t.TempDir()}
	if _, err := c.stillImages(t.Context(), silent{}); !errors.Is(err, errNoImages) {
		t.Errorf("%v, want errNoImages", err)
	}
}
