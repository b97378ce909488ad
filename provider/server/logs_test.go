package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
)

func TestParseLogOptions(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n := func(i int64) *int64 { return &i }
	for _, tt := range []struct {
		query  string
		want   LogOptions
		status int // of the error; 0 means none
	}{
		{"", LogOptions{}, 0},
		{"follow=true&previous=1&timestamps", LogOptions{Follow: true, Previous: true, Timestamps: true}, 0},
		{"follow=false&previous=0&timestamps=FALSE", LogOptions{}, 0},
		{"tailLines=0", LogOptions{Tail: n(0)}, 0},
		{"tailLines=", LogOptions{}, 0},
		{"tailLines=10", LogOptions{Tail: n(10)}, 0},
		{"tailLines=-1", LogOptions{}, 422},
		{"tailLines=x", LogOptions{}, 400},
		{"tailLines=all", LogOptions{}, 400},
		{"tail=5", LogOptions{Tail: n(5)}, 0},
		{"tail=all", LogOptions{}, 0},
		{"limitBytes=1", LogOptions{LimitBytes: n(1)}, 0},
		{"limitBytes=0", LogOptions{}, 422},
		{"limitBytes=99999999999999999999", LogOptions{}, 400},
		{"sinceSeconds=60", LogOptions{Since: now.Add(-time.Minute)}, 0},
		{"sinceSeconds=0", LogOptions{}, 422},
		{"sinceSeconds=9223372036854775807", LogOptions{}, 422},
		{"sinceTime=2026-01-01T00:00:00%2B01:00", LogOptions{Since: time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC)}, 0},
		{"sinceTime=yesterday", LogOptions{}, 400},
		{"sinceTime=2026-01-01T00:00:00Z&sinceSeconds=5", LogOptions{}, 422},
		{"stream=All&tailLines=1", LogOptions{Tail: n(1)}, 0},
		{"stream=Stdout", LogOptions{Stream: "stdout"}, 0},
		{"stream=Stderr", LogOptions{Stream: "stderr"}, 0},
		{"stream=stdout", LogOptions{}, 422},
		{"stream=Stdout&tailLines=1", LogOptions{}, 422},
	} {
		query, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseLogOptions(query, now)
		if tt.status != 0 {
			if le, ok := errors.AsType[logError](err); !ok || le.status != tt.status {
				t.Errorf("%q: %v, want status %d", tt.query, err, tt.status)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.query, err)
			continue
		}
		if !got.Since.Equal(tt.want.Since) {
			t.Errorf("%q: since %v, want %v", tt.query, got.Since, tt.want.Since)
		}
		got.Since, tt.want.Since = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, want %+v", tt.query, got, tt.want)
		}
	}
}

func FuzzParseLogOptions(f *testing.F) {
	f.Add("tailLines=0&follow=true&sinceTime=2026-01-01T00:00:00Z")
	f.Add("stream=Stdout&limitBytes=5&sinceSeconds=9")
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			t.Skip()
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		o, err := parseLogOptions(query, now)
		if err != nil {
			if le, ok := errors.AsType[logError](err); !ok || le.status != 400 && le.status != 422 {
				t.Errorf("%q: %v is no client's fault", raw, err)
			}
			return
		}
		if o.Tail != nil && *o.Tail < 0 || o.LimitBytes != nil && *o.LimitBytes < 1 || query.Has("sinceSeconds") && o.Since.After(now) && !query.Has("sinceTime") {
			t.Errorf("%q: %+v", raw, o)
		}
		if o.Stream != "" && o.Stream != "stdout" && o.Stream != "stderr" {
			t.Errorf("%q: stream %q", raw, o.Stream)
		}
	})
}

func TestLogErrors(t *testing.T) {
	h := start(t)
	c := h.admin(t)
	var fail error
	h.pods.logs = func(context.Context, LogOptions) (io.ReadCloser, error) { return nil, fail }
	for _, tt := range []struct {
		err    error
		status int
	}{
		{errdefs.NotFound("gone"), http.StatusNotFound},
		{errdefs.InvalidInput("container is waiting to start"), http.StatusBadRequest},
		{errors.New("disk"), http.StatusInternalServerError},
	} {
		fail = tt.err
		status, body := get(t, c, h.url+"/containerLogs/ns/web/setup")
		if status != tt.status || body != tt.err.Error()+"\n" {
			t.Errorf("%v: %d %q", tt.err, status, body)
		}
	}
	if status, _ := get(t, c, h.url+"/containerLogs/ns/web/c?tailLines=-1"); status != http.StatusUnprocessableEntity {
		t.Errorf("bad query: %d", status)
	}
}

// blocking is a log that gives what is sent to it and blocks until it is closed.
type blocking struct {
	*io.PipeReader
	closed chan struct{}
}

func (b blocking) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return b.PipeReader.Close()
}

func TestLogsFollow(t *testing.T) {
	h := start(t)
	r, w := io.Pipe()
	log := blocking{r, make(chan struct{})}
	options := make(chan LogOptions, 1)
	h.pods.logs = func(_ context.Context, o LogOptions) (io.ReadCloser, error) {
		options <- o
		return log, nil
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/containerLogs/ns/web/c?follow=true&tailLines=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.admin(t).Do(req) // returns before there is a line
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if o := <-options; !o.Follow || o.Tail == nil || *o.Tail != 0 {
		t.Errorf("options %+v", o)
	}
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one\n", "two\n"} { // each arrives before the next is written
		if _, err := io.WriteString(w, want); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	leave() // the client goes away while the log is silent
	<-log.closed
}

// A log that breaks must not look as if it had ended.
func TestLogsBreak(t *testing.T) {
	h := start(t)
	r, w := io.Pipe()
	h.pods.logs = func(context.Context, LogOptions) (io.ReadCloser, error) { return r, nil }
	go func() {
		io.WriteString(w, "half\n")               //nolint:errcheck // the reader decides
		w.CloseWithError(errors.New("disk gone")) //nolint:errcheck // it returns nil always
	}()
	resp, err := h.admin(t).Get(h.url + "/containerLogs/ns/web/c")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the response ended as if the log was complete")
	}
}
