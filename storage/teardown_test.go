package storage_test

import (
	"errors"
	"slices"
	"testing"
)

func TestTeardown(t *testing.T) {
	h, s := newHost(t)
	ctx := t.Context()
	image(t, s, "base", "")
	image(t, s, "top", "base")
	_, err1 := s.EnsurePod(ctx, uid, 0)
	_, err2 := s.EnsureContainer(ctx, uid, "web", "top")
	_, err3 := s.EnsureSpares(ctx, 1)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	h.run(t, "create", "rpool/reddwarf/pods/foreign")
	h.run(t, "create", "rpool/other")
	kept, err := s.Teardown(ctx)
	if err != nil || !slices.Equal(kept, []string{"rpool/reddwarf/pods/foreign"}) {
		t.Errorf("Teardown = %q, %v, want what is not ours", kept, err)
	}
	if got, want := h.names(t), []string{"", "/pods", "/pods/foreign"}; !slices.Equal(got, want) {
		t.Errorf("datasets %q, want %q", got, want)
	}
	h.run(t, "destroy", "rpool/reddwarf/pods/foreign")
	for range 2 {
		if kept, err := s.Teardown(ctx); err != nil || len(kept) > 0 {
			t.Errorf("Teardown = %q, %v", kept, err)
		}
	}
	h.run(t, "list", "rpool/other")
}
