package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// LogOptions say which part of a log is wanted, and in which form.
type LogOptions struct {
	// Follow goes on with what is written later.
	Follow bool
	// Previous is the log of the attempt before the present one.
	Previous bool
	// Timestamps puts the time of each line, in RFC 3339 with nanoseconds,
	// and a space before it.
	Timestamps bool
	// Tail is the number of lines from the end to begin with, nil for all. 0
	// is none: with Follow, only what comes.
	Tail *int64
	// Since leaves out what is older. The zero time leaves out nothing.
	Since time.Time
	// LimitBytes ends the log after so many bytes, nil for no limit. It is at
	// least 1.
	LimitBytes *int64
	// Stream is "stdout" or "stderr", or empty for both.
	Stream string
}

// logError is a fault of the query, with its HTTP status.
type logError struct {
	status int
	error
}

// parseLogOptions reads the query of a request for logs as a kubelet does.
func parseLogOptions(query url.Values, now time.Time) (LogOptions, error) {
	o := LogOptions{
		Follow: parseBool(query, "follow"), Previous: parseBool(query, "previous"), Timestamps: parseBool(query, "timestamps"),
	}
	malformed := func(err error) error { return logError{http.StatusBadRequest, err} }
	invalid := func(format string, args ...any) error {
		return logError{http.StatusUnprocessableEntity, fmt.Errorf(format, args...)}
	}
	tail := "tailLines"
	if query.Has("tail") { // its old name; "all" is no limit
		tail = "tail"
	}
	if query.Get(tail) != "all" || tail == "tailLines" {
		var err error
		if o.Tail, err = parseInt(query, tail); err != nil {
			return o, malformed(err)
		}
	}
	limit, err := parseInt(query, "limitBytes")
	if err != nil {
		return o, malformed(err)
	}
	o.LimitBytes = limit
	seconds, err := parseInt(query, "sinceSeconds")
	if err != nil {
		return o, malformed(err)
	}
	if at := query.Get("sinceTime"); at != "" {
		if o.Since, err = time.Parse(time.RFC3339, at); err != nil {
			return o, malformed(fmt.Errorf("sinceTime: %w", err))
		}
	}
	switch {
	case o.Tail != nil && *o.Tail < 0:
		return o, invalid("%s: must not be negative", tail)
	case limit != nil && *limit < 1:
		return o, invalid("limitBytes: must be greater than 0")
	case seconds != nil && !o.Since.IsZero():
		return o, invalid("at most one of sinceTime and sinceSeconds may be given")
	case seconds != nil && (*seconds < 1 || *seconds > maxSeconds):
		return o, invalid("sinceSeconds: must be from 1 to %d", maxSeconds)
	}
	if seconds != nil {
		o.Since = now.Add(-time.Duration(*seconds) * time.Second)
	}
	switch stream := query.Get("stream"); stream {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		if o.Tail != nil {
			return o, invalid("tailLines and a stream can't be asked for together")
		}
		o.Stream = strings.ToLower(stream)
	default:
		return o, invalid("stream: %q is not one of All, Stdout, Stderr", stream)
	}
	return o, nil
}

// maxSeconds is more than any log is old, and fits a time.Duration.
const maxSeconds = 100 * 365 * 24 * 3600

// parseBool reads a flag as Kubernetes does: given means true, unless it says
// otherwise.
func parseBool(query url.Values, key string) bool {
	if !query.Has(key) {
		return false
	}
	v := query.Get(key)
	return v != "0" && !strings.EqualFold(v, "false")
}

func parseInt(query url.Values, key string) (*int64, error) {
	v := query.Get(key)
	if v == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return &n, nil
}

func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	options, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		status := http.StatusBadRequest
		if le, ok := errors.AsType[logError](err); ok {
			status = le.status
		}
		http.Error(w, err.Error(), status)
		return
	}
	t, err := s.find(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	ctx := r.Context()
	body, err := s.config.Pods.Logs(ctx, t.namespace, t.pod, t.container, options)
	if err != nil {
		writeError(w, r, err)
		return
	}
	defer body.Close()                                      //nolint:errcheck // only read
	stop := context.AfterFunc(ctx, func() { body.Close() }) //nolint:errcheck // wakes a blocked Read
	defer stop()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	flusher.Flush() //nolint:errcheck // the client learns at once that there is a log
	// A failure after the first byte can only be shown by cutting the response.
	if _, err := io.Copy(flushWriter{w, flusher}, body); err != nil && ctx.Err() == nil {
		panic(http.ErrAbortHandler)
	}
}

// flushWriter sends every write at once, for clients that follow a log.
type flushWriter struct {
	http.ResponseWriter
	flusher *http.ResponseController
}

// Write implements io.Writer.
func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.flusher.Flush()
}
