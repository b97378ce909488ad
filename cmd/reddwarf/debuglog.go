package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/transport"

	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/podinit"
)

// At --log-level debug the agent tells of everything that it waits for: host
// commands, requests to the API server, and what podinit reports. The record
// is written when the waiting is over and says in ms how long it took.

// logTime is precise enough to order what happens while a pod starts.
const logTime = "2006-01-02T15:04:05.000000Z07:00"

// debug tells whether all that is to be logged.
func (a *agent) debug() bool { return a.log.Logger.IsLevelEnabled(logrus.DebugLevel) }

// wrapTransport returns nil where requests are not to be logged.
func (a *agent) wrapTransport() transport.WrapperFunc {
	if !a.debug() {
		return nil
	}
	return func(rt http.RoundTripper) http.RoundTripper { return loggedTransport{rt, a.log} }
}

func logWait(log *logrus.Entry, began time.Time, what string, fields logrus.Fields) {
	now := time.Now()
	log.WithTime(now).WithFields(fields).WithField("ms", float64(now.Sub(began).Microseconds())/1000).Debug(what)
}

// loggedHost logs the commands of a host.
type loggedHost struct {
	command.Host
	log *logrus.Entry
}

// Run runs cmd. Its standard input is not logged: it may be secret.
func (h loggedHost) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	began := time.Now()
	out, err := h.Host.Run(ctx, cmd)
	logWait(h.log, began, "host command", logrus.Fields{"command": cmd.String(), "failed": err != nil})
	return out, err
}

// Stream runs cmd, which lasts as long as its conversation.
func (h loggedHost) Stream(ctx context.Context, cmd command.Cmd, stdin io.Reader, stdout io.Writer) error {
	began := time.Now()
	err := h.Host.Stream(ctx, cmd, stdin, stdout)
	logWait(h.log, began, "host stream", logrus.Fields{"command": cmd.String(), "failed": err != nil})
	return err
}

// loggedTransport logs requests until their answer begins.
type loggedTransport struct {
	http.RoundTripper
	log *logrus.Entry
}

// RoundTrip sends r. Bodies and headers are not logged: they may be secret.
func (t loggedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	answer, err := t.RoundTripper.RoundTrip(r)
	code := 0
	if err == nil {
		code = answer.StatusCode
	}
	logWait(t.log, began, "API request", logrus.Fields{"method": r.Method, "path": r.URL.Path, "code": code})
	return answer, err
}

// loggedPodinit logs what podinit reports.
type loggedPodinit struct {
	provider.Podinit
	log *logrus.Entry
}

// Watch passes every report on.
func (p loggedPodinit) Watch(ctx context.Context, report func(podinit.State)) error {
	return p.Podinit.Watch(ctx, func(s podinit.State) {
		for _, c := range s.Containers {
			p.log.WithFields(logrus.Fields{
				"pod": s.PodUID, "container": c.Name, "attempt": c.Attempt, "phase": c.Phase, "started": c.StartedAt.Format(logTime),
			}).Debug("podinit reports")
		}
		report(s)
	})
}
