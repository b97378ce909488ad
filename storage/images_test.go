package storage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/storage"
)

func TestImageLife(t *testing.T) {
	h, s := newHost(t)
	ctx := t.Context()
	calls := 0
	fill := func(_ context.Context, dir string) error {
		calls++
		return os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	}
	for range 2 {
		if err := s.MakeImage(ctx, "base", "", fill); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 1 {
		t.Errorf("filled %d times, want once", calls)
	}
	image(t, s, "top", "base")
	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureContainer(ctx, uid, "web", "top"); err != nil {
		t.Fatal(err)
	}
	images, err := s.Images(ctx)
	if err != nil || len(images) != 2 {
		t.Fatalf("Images = %+v, %v", images, err)
	}
	slices.SortFunc(images, func(a, b storage.ImageDataset) int { return strings.Compare(a.ID, b.ID) })
	base, top := images[0], images[1]
	if !base.Complete || base.Parent != "" || base.Clones != 1 || base.Images != 1 || base.Created.IsZero() {
		t.Errorf("base = %+v", base)
	}
	if !top.Complete || top.Parent != "base" || top.Clones != 1 || top.Images != 0 {
		t.Errorf("top = %+v", top)
	}
	for _, id := range []string{"base", "top"} {
		if err := s.RemoveImage(ctx, id); !errors.Is(err, storage.ErrInUse) {
			t.Errorf("RemoveImage of %s in use = %v, want ErrInUse", id, err)
		}
		if out := h.run(t, "holds", "-H", "rpool/reddwarf/images/"+id+"@image"); !strings.Contains(out, "reddwarf") {
			t.Errorf("%s is not held any more: %q", id, out)
		}
	}
	if err := s.RemovePod(ctx, uid); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"top", "base", "base"} {
		if err := s.RemoveImage(ctx, id); err != nil {
			t.Errorf("RemoveImage of %s = %v", id, err)
		}
	}
	if have, err := s.HasImage(ctx, "top"); err != nil || have {
		t.Errorf("HasImage = %v, %v after its removal", have, err)
	}
	if got, want := h.names(t), []string{"", "/images", "/pods", "/spares"}; !slices.Equal(got, want) {
		t.Errorf("datasets %q, want %q", got, want)
	}
}

func TestImageIsHeld(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	if _, err := h.zfs(t.Context(), zfsCmd("destroy", "rpool/reddwarf/images/img@image")); err == nil {
		t.Error("the snapshot of an image could be destroyed")
	}
}

func TestImageFillFails(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "base", "")
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(t.Context())
	err := s.MakeImage(ctx, "img", "base", func(context.Context, string) error {
		cancel() // the leftover goes nevertheless
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("MakeImage = %v, want fill's error", err)
	}
	if slices.Contains(h.names(t), "/images/img") {
		t.Error("a failed image was left behind")
	}
}

// TestImageCrash stops the making of an image before each of its commands and
// expects the next try to succeed, after which it can be used and removed.
func TestImageCrash(t *testing.T) {
	for step := range 10 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			h, s := newHost(t)
			n := 0
			h.fail = func(cmd string) error {
				if n++; n > step {
					return failure(cmd, "killed")
				}
				return nil
			}
			none := func(context.Context, string) error { return nil }
			first := s.MakeImage(t.Context(), "img", "", none)
			h.reset()
			again := storage.New(h, storage.Config{Root: h.root}) // a new agent remembers nothing
			if have, err := again.HasImage(t.Context(), "img"); err != nil || have && first != nil && step < 5 {
				t.Errorf("HasImage = %v, %v after a crash", have, err)
			}
			image(t, again, "img", "")
			if out := h.run(t, "holds", "-H", "rpool/reddwarf/images/img@image"); !strings.Contains(out, "reddwarf") {
				t.Errorf("the image is not held: %q", out)
			}
			if err := again.RemoveImage(t.Context(), "img"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestImageVanished(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	h.run(t, "release", "reddwarf", "rpool/reddwarf/images/img@image")
	h.run(t, "destroy", "-r", "rpool/reddwarf/images/img")
	if _, err := s.EnsureContainer(ctx, uid, "web", "img"); !errors.Is(err, storage.ErrNoImage) {
		t.Fatalf("EnsureContainer = %v, want ErrNoImage", err)
	}
	if have, err := s.HasImage(ctx, "img"); err != nil || have {
		t.Errorf("HasImage = %v, %v: still believed to be there", have, err)
	}
	if err := s.MakeImage(ctx, "top", "img", nil); !errors.Is(err, storage.ErrNoImage) {
		t.Errorf("MakeImage on an absent parent = %v, want ErrNoImage", err)
	}
}
