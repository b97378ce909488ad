package oci_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
	"reddwarf.io/reddwarf/zones/command"
)

// twoImages has a and b, of two layers each, with the first in common.
func twoImages(t *testing.T, im *oci.Images, r *server) (a, b oci.Image) {
	t.Helper()
	base := files(t, "base", "1")
	var err1, err2 error
	a, err1 = im.Ensure(t.Context(), oci.Request{Ref: r.push(t, "a", newImage(t, base, files(t, "a", "1")))})
	b, err2 = im.Ensure(t.Context(), oci.Request{Ref: r.push(t, "b", newImage(t, base, files(t, "b", "1")))})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// refused is what zfs destroy says of a dataset.
func refused(cmd, text string) error {
	name := cmd[strings.LastIndex(cmd, " ")+1:]
	return &command.Error{ExitCode: 1, Stderr: "cannot destroy '" + name + "': " + text + "\n", Err: errors.New("exit status 1")}
}

func TestRemove(t *testing.T) {
	h, s := newHost(t)
	im := oci.New(s, config())
	a, b := twoImages(t, im, newServer(t))
	_, err1 := s.EnsurePod(t.Context(), "u", 0)
	_, err2 := s.EnsureContainer(t.Context(), "u", "c", a.Dataset)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if _, err := im.Remove(t.Context(), a.ID, time.Now()); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("Remove of an image in use = %v, want ErrInUse", err)
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: a.Ref, Policy: oci.Never}); err != nil {
		t.Errorf("an image in use is lost: %v", err)
	}
	if _, err := im.Remove(t.Context(), b.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := len(h.images(t)); n != 4 {
		t.Errorf("%d datasets and snapshots, want the 4 of the other image: %q", n, h.images(t))
	}
	if err := s.RemovePod(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := im.Remove(t.Context(), a.ID, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if left := h.images(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: a.Ref, Policy: oci.Never}); !errors.Is(err, oci.ErrNeverPull) {
		t.Errorf("a removed image is still known: %v", err)
	}
}

// TestRemoveOfWhatWasAskedFor keeps an image whose user has not said yet that it
// is one.
func TestRemoveOfWhatWasAskedFor(t *testing.T) {
	_, s := newHost(t)
	im := oci.New(s, config())
	a, _ := twoImages(t, im, newServer(t))
	since := time.Now()
	for _, p := range []oci.Policy{oci.IfNotPresent, oci.Always} {
		time.Sleep(time.Millisecond)
		if _, err := im.Ensure(t.Context(), oci.Request{Ref: a.Ref, Policy: p}); err != nil {
			t.Fatal(err)
		}
		if _, err := im.Remove(t.Context(), a.ID, since); !errors.Is(err, storage.ErrInUse) {
			t.Errorf("Remove of an image that was asked for = %v, want ErrInUse", err)
		}
		since = time.Now()
	}
	if _, err := im.Remove(t.Context(), a.ID, time.Now()); err != nil {
		t.Error(err)
	}
}

// TestRemoveOfABase forgets an image that others are made from, and its layers
// go with the last of these.
func TestRemoveOfABase(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	im := oci.New(s, config())
	base := files(t, "base", "1")
	a, err1 := im.Ensure(t.Context(), oci.Request{Ref: r.push(t, "base", newImage(t, base))})
	b, err2 := im.Ensure(t.Context(), oci.Request{Ref: r.push(t, "top", newImage(t, base, files(t, "b", "1")))})
	_, err3 := im.Remove(t.Context(), a.ID, time.Now())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if known, err := im.Known(); err != nil || len(known) != 1 || known[0].ID != b.ID {
		t.Errorf("Known = %+v, %v", known, err)
	}
	if i, err := im.Ensure(t.Context(), oci.Request{Ref: b.Ref, Policy: oci.Never}); err != nil || h.content(t, i, "base") != "1" {
		t.Errorf("the other image: %+v, %v", i, err)
	}
	if _, err := im.Remove(t.Context(), b.ID, time.Now()); err != nil || len(h.images(t)) > 0 {
		t.Errorf("left behind: %q, %v", h.images(t), err)
	}
}

// TestRemoveFails refuses each destruction once: what could not be removed is
// kept whole and can be used, and goes the next time.
func TestRemoveFails(t *testing.T) {
	for _, text := range []string{"dataset is busy", "permission denied"} {
		t.Run(text, func(t *testing.T) {
			h, s := newHost(t)
			im := oci.New(s, config())
			a, _ := twoImages(t, im, newServer(t))
			h.fail = func(cmd string) error {
				if strings.HasPrefix(cmd, "zfs destroy") && strings.HasSuffix(cmd, a.Dataset) {
					return refused(cmd, text)
				}
				return nil
			}
			if _, err := im.Remove(t.Context(), a.ID, time.Now()); err == nil || errors.Is(err, storage.ErrInUse) {
				t.Errorf("Remove = %v, want a failure", err)
			}
			h.fail = nil
			for _, im := range []*oci.Images{im, oci.New(h.store(), config())} {
				if i, err := im.Ensure(t.Context(), oci.Request{Ref: a.Ref, Policy: oci.Never}); err != nil || h.content(t, i, "base") != "1" {
					t.Errorf("the image that could not be removed: %+v, %v", i, err)
				}
			}
			if held, err := h.Run(t.Context(), command.New("zfs", "holds", "-H", "rpool/reddwarf/images/"+a.Dataset+"@image")); err != nil || len(held) == 0 {
				t.Errorf("it is not held any more: %q, %v", held, err)
			}
			if _, err := im.Remove(t.Context(), a.ID, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRemoveCrash ends the agent before each command of a removal. The next one
// has the image whole or can have it again, and what is left of it is swept up.
func TestRemoveCrash(t *testing.T) {
	died := errors.New("died")
	for step := 0; ; step++ {
		h, s := newHost(t)
		r := newServer(t)
		im := oci.New(s, config())
		a, b := twoImages(t, im, r)
		if _, err := im.Remove(t.Context(), b.ID, time.Now()); err != nil {
			t.Fatal(err)
		}
		n := 0
		index := filepath.Join(h.root, "images", "index.json")
		var atDeath []byte
		h.fail = func(string) error {
			if n++; n <= step {
				return nil
			}
			if atDeath == nil { // what follows is not written by a dead agent
				var err error
				if atDeath, err = os.ReadFile(index); err != nil {
					t.Fatal(err)
				}
			}
			return died
		}
		_, err := im.Remove(t.Context(), a.ID, time.Now())
		h.fail = nil
		if err == nil && atDeath == nil {
			if step < 6 { // list, and release, get and destroy of two layers
				t.Errorf("a removal took %d commands", step)
			}
			return
		}
		if err := os.WriteFile(index, atDeath, 0o600); err != nil {
			t.Fatal(err)
		}
		next := oci.New(h.store(), config())
		if _, err := next.Sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
			t.Errorf("step %d: sweep: %v", step, err)
		}
		if left := h.images(t); len(left) > 0 {
			t.Errorf("step %d: left behind: %q", step, left)
		}
		if i, err := next.Ensure(t.Context(), oci.Request{Ref: a.Ref}); err != nil || h.content(t, i, "a") != "1" {
			t.Errorf("step %d: the image cannot be had again: %+v, %v", step, i, err)
		}
		if step > 50 {
			t.Fatal("a removal never ends")
		}
	}
}

// TestSweep removes what pulls that failed have left, once it is old enough, and
// nothing that an image, or anybody else, is made from.
func TestSweep(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	im := oci.New(s, config())
	a, _ := twoImages(t, im, r)
	if err := errors.Join(
		s.MakeImage(t.Context(), "lower", "", func(context.Context, string) error { return nil }),
		s.MakeImage(t.Context(), "upper", "lower", func(context.Context, string) error { return nil }),
		s.MakeImage(t.Context(), "cloned", "lower", func(context.Context, string) error { return nil }),
	); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"create", "rpool/reddwarf/images/foreign"},
		{"clone", "-o", "mountpoint=legacy", "rpool/reddwarf/images/cloned@image", "rpool/theirs"},
	} {
		if _, err := h.Run(t.Context(), command.New("zfs", args...)); err != nil {
			t.Fatal(err)
		}
	}
	before := h.images(t)
	if _, err := im.Sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil || !slices.Equal(h.images(t), before) {
		t.Errorf("what is new was swept up: %q, %v", h.images(t), err)
	}
	if _, err := im.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	left := strings.Join(h.images(t), " ")
	for _, id := range []string{a.Dataset, "lower", "cloned", "foreign"} {
		if !strings.Contains(left, id) {
			t.Errorf("%s was swept up", id)
		}
	}
	if strings.Contains(left, "upper") {
		t.Error("what no image is made from was left")
	}
}

// TestRemoveBesidePulls removes an image again and again while others ask for
// it: each request gets an image that a container can be made from.
func TestRemoveBesidePulls(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	im := oci.New(s, config())
	base := files(t, "base", "1")
	refs := []string{r.push(t, "a", newImage(t, base, files(t, "a", "1"))), r.push(t, "b", newImage(t, base, files(t, "b", "1")))}
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			for i := range 10 {
				uid := fmt.Sprintf("u%d-%d", n, i)
				// A collection takes no image that was asked for a moment ago; here
				// that moment is from before the request on.
				image, err := im.Ensure(t.Context(), oci.Request{Ref: refs[(n+i)%2]})
				if err != nil {
					t.Errorf("Ensure: %v", err)
					return
				}
				_, err1 := s.EnsurePod(t.Context(), uid, 0)
				_, err2 := s.EnsureContainer(t.Context(), uid, "c", image.Dataset)
				if err := errors.Join(err1, err2, s.RemovePod(t.Context(), uid)); err != nil {
					t.Errorf("container of an image that was just given: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
		}
		known, err := im.Known()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range known {
			if _, err := im.Remove(t.Context(), k.ID, time.Now().Add(-time.Second)); err != nil && !errors.Is(err, storage.ErrInUse) {
				t.Errorf("Remove: %v", err)
			}
		}
		if _, err := im.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Errorf("Sweep: %v", err)
		}
	}
}

// TestSweepLeavesPulls has a pull that stands still between its layers: what it
// has unpacked is not swept up.
func TestSweepLeavesPulls(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "web", newImage(t, files(t, "a", "1"), files(t, "b", "1")))
	im := oci.New(s, config())
	arrived, goOn := make(chan struct{}), make(chan struct{})
	blobs := 0
	r.misbehave(func(_ http.ResponseWriter, q *http.Request) bool {
		if strings.Contains(q.URL.Path, "/blobs/") {
			if blobs++; blobs == 3 { // configuration, first layer, second
				close(arrived)
				<-goOn
			}
		}
		return false
	})
	failed := make(chan error, 1)
	go func() {
		_, err := im.Ensure(t.Context(), oci.Request{Ref: ref})
		failed <- err
	}()
	<-arrived
	if len(h.images(t)) == 0 {
		t.Fatal("the first layer is not here yet")
	}
	if _, err := im.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// TestInUseIsRemembered keeps when an image was last used across agents.
func TestInUseIsRemembered(t *testing.T) {
	h, s := newHost(t)
	im := oci.New(s, config())
	a, b := twoImages(t, im, newServer(t))
	now := time.Now().Add(time.Hour)
	if err := im.InUse(map[string]bool{a.ID: true}, now); err != nil {
		t.Fatal(err)
	}
	known, err := oci.New(h.store(), config()).Known()
	if err != nil || len(known) != 2 {
		t.Fatalf("Known = %+v, %v", known, err)
	}
	for _, k := range known {
		if want := map[string]time.Time{a.ID: now, b.ID: b.Pulled}[k.ID]; !k.LastUsed().Equal(want) {
			t.Errorf("image %s was last used at %s, want %s", k.Tags, k.LastUsed(), want)
		}
		if len(k.Tags) != 1 || len(k.Digests) != 1 || k.Size <= 0 || k.Dataset == "" {
			t.Errorf("Known has %+v", k)
		}
	}
}
