package oci

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestStalledPullEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		r, w := io.Pipe()
		p := &progress{stop: stop}
		go func() {
			for range 3 { // slow, but alive
				time.Sleep(stallTimeout - time.Second)
				_, _ = w.Write([]byte("x"))
			}
			<-ctx.Done()
			w.CloseWithError(context.Cause(ctx))
		}()
		start := time.Now()
		_, err := io.Copy(io.Discard, p.reader(r))
		if !errors.Is(err, errStalled) {
			t.Errorf("Copy = %v, want errStalled", err)
		}
		if got, want := time.Since(start), 3*(stallTimeout-time.Second)+stallTimeout; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
		if n := p.done.Load(); n != 3 {
			t.Errorf("%d bytes counted, want 3", n)
		}
	})
}

func TestKeyedLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l keyedLock
		unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lock of what is locked = %v", err)
		}
		unlock()
		if unlock, err = l.lock(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		unlock()
		if len(l.held) != 0 {
			t.Errorf("%d locks are still known", len(l.held))
		}
	})
}
