package storage_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/command"
)

const uid = "5e3c2a6e-0a4d-4a8e-9c55-0f4f5f9b7a11"

func TestSetupIsRepeatable(t *testing.T) {
	h, s := newHost(t)
	if err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/images", "/pods", "/spares"} {
		fi, err := os.Stat(h.root + d)
		if err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want mode 0700", d, fi, err)
		}
	}
	want := []string{"", "/images", "/pods", "/spares"}
	if got := h.names(t); !slices.Equal(got, want) {
		t.Errorf("datasets %q, want %q", got, want)
	}
}

func TestSetupRefusesWhatIsNotOurs(t *testing.T) {
	h, s := newHost(t)
	h.run(t, "inherit", "io.reddwarf:root", "rpool/reddwarf")
	if err := s.Setup(t.Context()); !errors.Is(err, storage.ErrForeign) {
		t.Errorf("Setup = %v, want ErrForeign", err)
	}
}

func TestPodLife(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	h.reset()

	path, err := s.EnsurePod(ctx, uid, 1<<30)
	if err != nil || path != h.root+"/pods/"+uid {
		t.Fatalf("EnsurePod = %q, %v", path, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("zone path: %v, %v, want mode 0700", fi, err)
	}
	if d, err := s.EnsureContainer(ctx, uid, "web", "img"); err != nil || d != "rpool/reddwarf/pods/"+uid+"/c-web" {
		t.Fatalf("EnsureContainer = %q, %v", d, err)
	}
	if d, err := s.EnsureVolume(ctx, uid, "cache", 1<<20); err != nil || d != "rpool/reddwarf/pods/"+uid+"/v-cache" {
		t.Fatalf("EnsureVolume = %q, %v", d, err)
	}
	// The start of a pod waits for these.
	if n := len(h.commands()); n != 4 {
		t.Errorf("%d commands for a pod with one container and one volume, want 4: %q", n, h.commands())
	}

	// All of it again changes nothing.
	before := h.names(t)
	for range 2 {
		_, err1 := s.EnsurePod(ctx, uid, 1<<30)
		_, err2 := s.EnsureContainer(ctx, uid, "web", "img")
		_, err3 := s.EnsureVolume(ctx, uid, "cache", 1<<20)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
	}
	if after := h.names(t); !slices.Equal(before, after) {
		t.Errorf("datasets %q, want %q", after, before)
	}
	if err := s.ResetContainer(ctx, uid, "web"); err != nil {
		t.Error(err)
	}
	pods, err := s.Pods(ctx)
	if err != nil || len(pods) != 1 || pods[0].UID != uid || pods[0].Created.IsZero() {
		t.Errorf("Pods = %v, %v", pods, err)
	}
	for range 2 {
		if err := s.RemovePod(ctx, uid); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"", "/images", "/images/img", "/images/img@image", "/pods", "/spares"}
	if got := h.names(t); !slices.Equal(got, want) {
		t.Errorf("datasets %q, want %q", got, want)
	}
}

func TestPodProperties(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	_, err1 := s.EnsurePod(ctx, uid, 0)
	_, err2 := s.EnsurePod(ctx, uid, 5<<20) // a changed limit is applied
	_, err3 := s.EnsureContainer(ctx, uid, "web", "img")
	_, err4 := s.EnsureVolume(ctx, uid, "v", 1<<20)
	_, err5 := s.EnsureVolume(ctx, uid, "v", 2<<20)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	pod := "rpool/reddwarf/pods/" + uid
	for _, tt := range []struct{ dataset, property, want string }{
		{pod, "io.reddwarf:uid", uid},
		{pod, "quota", "5242880"},
		{pod, "devices", "off"},
		{pod, "mountpoint", h.root + "/pods/" + uid},
		{pod + "/c-web", "mountpoint", "legacy"},
		{pod + "/c-web", "origin", "rpool/reddwarf/images/img@image"},
		{pod + "/c-web", "devices", "off"},
		{pod + "/c-web", "readonly", "off"},
		{pod + "/v-v", "mountpoint", "legacy"},
		{pod + "/v-v", "quota", "2097152"},
		{"rpool/reddwarf/images/img", "readonly", "on"},
	} {
		if got := strings.TrimSpace(h.run(t, "get", "-Hp", "-o", "value", tt.property, tt.dataset)); got != tt.want {
			t.Errorf("%s of %s is %q, want %q", tt.property, tt.dataset, got, tt.want)
		}
	}
}

// TestContainerWithoutSnapshot is the crash between the two commands that make
// a container.
func TestContainerWithoutSnapshot(t *testing.T) {
	h, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	h.fail = failOn("zfs snapshot", "killed")
	if _, err := s.EnsureContainer(ctx, uid, "web", "img"); err == nil {
		t.Fatal("EnsureContainer succeeded without its snapshot")
	}
	h.reset()
	if _, err := s.EnsureContainer(ctx, uid, "web", "img"); err != nil {
		t.Fatal(err)
	}
	if err := s.ResetContainer(ctx, uid, "web"); err != nil {
		t.Error(err)
	}
}

func TestContainerOfAnotherImage(t *testing.T) {
	_, s := newHost(t)
	image(t, s, "old", "")
	image(t, s, "new", "")
	ctx := t.Context()
	_, err1 := s.EnsurePod(ctx, uid, 0)
	_, err2 := s.EnsureContainer(ctx, uid, "web", "old")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureContainer(ctx, uid, "web", "new"); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("EnsureContainer = %v, want ErrConflict", err)
	}
	if err := s.RemoveContainer(ctx, uid, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureContainer(ctx, uid, "web", "new"); err != nil {
		t.Error(err)
	}
}

func TestNothingForeignIsTouched(t *testing.T) {
	h, s := newHost(t)
	ctx := t.Context()
	h.run(t, "create", "rpool/reddwarf/pods/mine")
	h.run(t, "create", "rpool/reddwarf/images/mine")
	h.run(t, "create", "-o", "io.reddwarf:uid="+uid, "rpool/reddwarf/pods/renamed")
	before := h.names(t)
	_, errs := s.EnsurePod(ctx, "mine", 0)
	for what, err := range map[string]error{
		"EnsurePod":                  errs,
		"RemovePod":                  s.RemovePod(ctx, "mine"),
		"RemovePod of a renamed one": s.RemovePod(ctx, "renamed"),
		"RemoveContainer":            s.RemoveContainer(ctx, "mine", "x"),
		"RemoveImage":                s.RemoveImage(ctx, "mine"),
		"MakeImage":                  s.MakeImage(ctx, "mine", "", func(context.Context, string) error { return nil }),
	} {
		if !errors.Is(err, storage.ErrForeign) {
			t.Errorf("%s = %v, want ErrForeign", what, err)
		}
	}
	if after := h.names(t); !slices.Equal(before, after) {
		t.Errorf("datasets %q, want %q", after, before)
	}
	if pods, err := s.Pods(ctx); err != nil || len(pods) != 0 {
		t.Errorf("Pods = %v, %v, want none", pods, err)
	}
	if images, err := s.Images(ctx); err != nil || len(images) != 0 {
		t.Errorf("Images = %v, %v, want none", images, err)
	}
}

func TestNames(t *testing.T) {
	_, s := newHost(t)
	ctx := t.Context()
	for _, bad := range []string{"", "a/b", "..", "a..b", "-r", "a b", "a@b", "a%", "a\nb", ".a", strings.Repeat("x", 200)} {
		_, err1 := s.EnsurePod(ctx, bad, 0)
		_, err2 := s.EnsureContainer(ctx, "u", bad, "i")
		_, err3 := s.EnsureContainer(ctx, "u", "c", bad)
		_, err4 := s.EnsureVolume(ctx, "u", bad, 0)
		_, err5 := s.HasImage(ctx, bad)
		_, err6 := s.PodUsage(ctx, bad)
		for i, err := range []error{err1, err2, err3, err4, err5, err6, s.RemovePod(ctx, bad), s.RemoveImage(ctx, bad), s.ResetContainer(ctx, "u", bad)} {
			if !errors.Is(err, storage.ErrName) {
				t.Errorf("name %q: call %d = %v, want ErrName", bad, i+1, err)
			}
		}
	}
}

func TestRemovePodRetriesWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHost(t)
		if _, err := s.EnsurePod(t.Context(), uid, 0); err != nil {
			t.Fatal(err)
		}
		tries := 0
		h.fail = func(cmd string) error {
			if !strings.HasPrefix(cmd, "zfs destroy") {
				return nil
			}
			if tries++; tries > 2 {
				return nil
			}
			return failure(cmd, "cannot unmount '"+h.root+"/pods/"+uid+"': Device busy\n")
		}
		if err := s.RemovePod(t.Context(), uid); err != nil || tries != 3 {
			t.Errorf("RemovePod = %v after %d tries", err, tries)
		}
	})
}

func TestRemovePodGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHost(t)
		if _, err := s.EnsurePod(t.Context(), uid, 0); err != nil {
			t.Fatal(err)
		}
		h.fail = failOn("zfs destroy", "cannot destroy 'x': dataset is busy\n")
		if err := s.RemovePod(t.Context(), uid); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("RemovePod = %v, want ErrBusy", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.RemovePod(ctx, uid); !errors.Is(err, context.Canceled) {
			t.Errorf("RemovePod = %v, want context.Canceled", err)
		}
	})
}

func TestUsage(t *testing.T) {
	_, s := newHost(t)
	image(t, s, "img", "")
	ctx := t.Context()
	_, err1 := s.EnsurePod(ctx, uid, 1<<30)
	_, err2 := s.EnsureContainer(ctx, uid, "web", "img")
	_, err3 := s.EnsureVolume(ctx, uid, "v", 1<<20)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	u, err := s.PodUsage(ctx, uid)
	if err != nil || u.Quota != 1<<30 || u.Volumes["v"].Quota != 1<<20 {
		t.Errorf("PodUsage = %+v, %v", u, err)
	}
	if _, ok := u.Containers["web"]; !ok {
		t.Errorf("PodUsage = %+v, lacks the container", u)
	}
	if _, err := s.PodUsage(ctx, "gone"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("PodUsage of an absent pod = %v, want ErrNotFound", err)
	}
	all, err := s.Usage(ctx)
	if err != nil || len(all) != 1 || all[uid].Quota != 1<<30 {
		t.Errorf("Usage = %+v, %v", all, err)
	}
	c, err := s.Capacity(ctx)
	if err != nil || c.Total < c.Available || c.Available <= 0 {
		t.Errorf("Capacity = %+v, %v", c, err)
	}
}

func failure(cmd, stderr string) error {
	return &command.Error{Cmd: command.New("zfs", cmd), ExitCode: 1, Stderr: stderr, Err: errors.New("exit status 1")}
}

// failOn fails every command that begins with prefix.
func failOn(prefix, stderr string) func(string) error {
	return func(cmd string) error {
		if strings.HasPrefix(cmd, prefix) {
			return failure(cmd, stderr)
		}
		return nil
	}
}

// TestImageVolume shows an image for as long as a pod lives.
func TestImageVolume(t *testing.T) {
	h, s := newHost(t)
	ctx := t.Context()
	image(t, s, "img", "")
	image(t, s, "other", "")
	if _, err := s.EnsurePod(ctx, uid, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d, err := s.EnsureImageVolume(ctx, uid, "model", "img"); err != nil || d != "rpool/reddwarf/pods/"+uid+"/i-model" {
			t.Fatalf("EnsureImageVolume = %q, %v", d, err)
		}
	}
	if _, err := s.EnsureImageVolume(ctx, uid, "model", "other"); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("of another image: %v", err)
	}
	if _, err := s.EnsureImageVolume(ctx, uid, "more", "gone"); !errors.Is(err, storage.ErrNoImage) {
		t.Errorf("of no image: %v", err)
	}
	if err := s.RemoveImage(ctx, "img"); !errors.Is(err, storage.ErrInUse) {
		t.Errorf("the image is removed under the volume: %v", err)
	}
	if err := s.RemovePod(ctx, uid); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(ctx, "img"); err != nil {
		t.Errorf("after the pod is gone: %v", err)
	}
	if names := h.names(t); slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, uid) }) {
		t.Errorf("left: %q", names)
	}
}
