package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

// span is a stretch of time in which something ran.
type span struct {
	from, to time.Time
	what     string
}

// parts is where the time of one pod's start went. Together they are the time
// from created to running: every instant belongs to the first part that claims it.
type parts struct {
	placing  time.Duration // create request, scheduler, and the way of the binding to a watch
	commands time.Duration // a host command was at work, as the host's trace has it
	programs time.Duration // a host command was being started or ended: nothing but processes
	zone     time.Duration // the zone had booted and podinit had not yet started the container
	requests time.Duration // the agent waited for the API server's answer to what it needed
	agent    time.Duration // everything else
}

// whole is the time on the host's side, that is without placing.
func (p parts) whole() time.Duration {
	return p.commands + p.programs + p.zone + p.requests + p.agent
}

// split divides the start of a pod that was started alone.
func split(host *testbed.Host, s started) (parts, error) {
	trace, err := readTrace(host.TraceFile(), s.needs)
	if err != nil {
		return parts{}, err
	}
	log, err := readLog(host.AgentLog(), s)
	if err != nil {
		return parts{}, err
	}
	p := parts{placing: s.scheduled.Sub(s.created)}
	claims := []struct {
		spans []span
		part  *time.Duration
	}{
		{trace, &p.commands}, {log.commands, &p.programs}, {log.zone, &p.zone}, {log.requests, &p.requests},
		{[]span{{from: s.scheduled, to: s.running}}, &p.agent},
	}
	var taken []span
	var before time.Duration
	for _, c := range claims {
		taken = append(taken, c.spans...)
		all := covered(taken, s.scheduled, s.running)
		*c.part = all - before
		before = all
	}
	return p, nil
}

// needs reports whether the start of a pod, which was started alone, waits for a
// command of its host. Those that the agent runs for the node's status or for a
// pod that goes are not its, and what they overlap with may be the agent's.
func (s started) needs(command string) bool {
	return strings.Contains(command, s.uid) || strings.HasPrefix(command, "dladm create-vnic ") || command == "zoneadm list -cp"
}

func anyCommand(string) bool { return true }

// covered is how much of the time between from and to the spans cover.
func covered(spans []span, from, to time.Time) time.Duration {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var all time.Duration
	at := from
	for _, s := range spans {
		if s.from.After(at) {
			at = s.from
		}
		end := s.to
		if end.After(to) {
			end = to
		}
		if end.After(at) {
			all += end.Sub(at)
			at = end
		}
	}
	return all
}

func eachLine(file string, f func(line []byte) error) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil // what has no end yet is still being written
		}
		if err != nil {
			return err
		}
		if err := f(line); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
}

// readTrace returns when those commands were at work that are wanted, according
// to the host.
func readTrace(file string, wanted func(command string) bool) ([]span, error) {
	var spans []span
	err := eachLine(file, func(line []byte) error {
		var c struct {
			Time time.Time `json:"time"`
			MS   float64   `json:"ms"`
			Argv []string  `json:"argv"`
		}
		if err := json.Unmarshal(line, &c); err != nil {
			return err
		}
		if command := strings.Join(c.Argv, " "); wanted(command) {
			spans = append(spans, span{c.Time, c.Time.Add(milliseconds(c.MS)), "    " + command + " at work"})
		}
		return nil
	})
	return spans, err
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// waits are the agent's own notes of what it waited for while a pod started.
type waits struct {
	commands, requests, zone []span
	all                      []span
}

var field = regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*"|\S*)`)

// readLog reads the agent's log, which must be at level debug. A request to the
// API server counts only where the start waits for it: for a token while the
// zone's files are written, and for the status that says Running.
func readLog(file string, s started) (waits, error) {
	var w waits
	var booted, reported, began time.Time
	err := eachLine(file, func(line []byte) error {
		if !strings.Contains(string(line), "level=debug") {
			return nil
		}
		f := map[string]string{}
		for _, m := range field.FindAllStringSubmatch(string(line), -1) {
			value := m[2]
			if unquoted, err := strconv.Unquote(value); err == nil {
				value = unquoted
			}
			f[m[1]] = value
		}
		at, err := time.Parse(time.RFC3339Nano, f["time"])
		if err != nil || at.Before(s.scheduled) || at.After(s.running.Add(time.Second)) {
			return err
		}
		ms, _ := strconv.ParseFloat(f["ms"], 64) //nolint:errcheck // absent where nothing was waited for
		wait := span{at.Add(-milliseconds(ms)), at, strings.TrimSpace(f["msg"] + " " + f["method"] + " " + f["path"] + f["command"] + f["phase"])}
		w.all = append(w.all, wait)
		switch {
		case f["msg"] == "host command" && !s.needs(f["command"]):
		case f["msg"] == "host command":
			w.commands = append(w.commands, wait)
			if strings.HasSuffix(f["command"], " boot") {
				booted = at
			}
		case f["msg"] == "API request" && strings.HasSuffix(f["path"], "/token"),
			f["msg"] == "API request" && f["method"] == "PATCH" && !reported.IsZero() && wait.from.After(reported):
			w.requests = append(w.requests, wait)
		case f["msg"] == "podinit reports" && f["phase"] == "running" && reported.IsZero():
			reported = at
			began, err = time.Parse(time.RFC3339Nano, f["started"])
			return err
		}
		return nil
	})
	if err == nil && (booted.IsZero() || reported.IsZero()) {
		err = fmt.Errorf("%s: does not tell of a boot and of podinit's report; the agent must log at level debug", file)
	}
	w.zone = []span{{from: booted, to: began}}
	return w, err
}

// timeline prints in their order all things that the agent and the host told of
// while a pod started, by the milliseconds since it was placed.
func timeline(w io.Writer, host *testbed.Host, s started) error {
	trace, err := readTrace(host.TraceFile(), anyCommand)
	if err != nil {
		return err
	}
	log, err := readLog(host.AgentLog(), s)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(append(log.all, trace...), func(v span) bool { return v.to.Before(s.scheduled) || v.from.After(s.running) })
	all = append(all, span{s.running, s.running, "a watch sees that the pod runs"})
	slices.SortStableFunc(all, func(a, b span) int { return a.from.Compare(b.from) })
	for _, v := range all {
		since := func(t time.Time) float64 { return t.Sub(s.scheduled).Seconds() * 1000 }
		if _, err := fmt.Fprintf(w, "  %7.1f to %7.1f ms  %s\n", since(v.from), since(v.to), v.what); err != nil {
			return err
		}
	}
	return nil
}
