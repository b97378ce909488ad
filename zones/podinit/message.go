package podinit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Op names an operation of the channel.
type Op string

// The operations.
const (
	OpState    Op = "state"    // reply carries the State
	OpUsage    Op = "usage"    // reply carries the usage of what runs
	OpWatch    Op = "watch"    // State frames until either side ends
	OpStart    Op = "start"    // Start is set
	OpSignal   Op = "signal"   // Container and Signal are set
	OpKill     Op = "kill"     // Container is set
	OpExec     Op = "exec"     // Exec is set; streams, then Exit
	OpAttach   Op = "attach"   // Container is set; streams, then End
	OpRead     Op = "read"     // Volume and Path are set; reply carries Data
	OpForward  Op = "forward"  // Port is set; Data both ways
	OpShutdown Op = "shutdown" // every container is killed, then podinit ends
)

// Request is the first frame of every connection.
type Request struct {
	Version   int          `json:"version"`
	Op        Op           `json:"op"`
	Container string       `json:"container,omitempty"`
	Signal    string       `json:"signal,omitempty"`
	Port      uint16       `json:"port,omitempty"`
	Volume    string       `json:"volume,omitempty"`
	Path      string       `json:"path,omitempty"` // below Volume, resolved inside the zone
	Start     *Container   `json:"start,omitempty"`
	Exec      *ExecRequest `json:"exec,omitempty"`
	Stdin     bool         `json:"stdin,omitempty"` // exec and attach: Stdin frames will come
}

// ExecRequest is a further process in a running container. It runs as the
// container's user, with its environment, directory and privileges.
type ExecRequest struct {
	Container string   `json:"container"`
	Args      []string `json:"args"`
	Env       []string `json:"env,omitempty"` // KEY=VALUE, after the container's own
	TTY       bool     `json:"tty,omitempty"`
}

// Size is a terminal's size in characters.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// ExitStatus is how a process ended. Code is 128+Signal for a death by signal.
type ExitStatus struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// Reply is podinit's answer to a Request.
type Reply struct {
	Version int              `json:"version"`
	State   *State           `json:"state,omitempty"`
	Data    []byte           `json:"data,omitempty"`
	Usage   []ContainerUsage `json:"usage,omitempty"`
	Error   *Error           `json:"error,omitempty"`
}

// Reason classes an Error.
type Reason string

// The reasons.
const (
	ReasonRequest    Reason = "request"     // the request makes no sense: a bug or another version
	ReasonNotFound   Reason = "not-found"   // no container of that name, or nothing listens
	ReasonNotRunning Reason = "not-running" // the container does not run now
	ReasonConfig     Reason = "config"      // the container cannot be made ready yet; the same attempt may be started again
	ReasonStart      Reason = "start"       // the program could not be started; Code says how
	ReasonInternal   Reason = "internal"    // podinit's own failure
)

// Error is what podinit answers instead of doing what it was asked.
type Error struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`

	// Code is, for ReasonStart, the exit code a shell would give: 127 where
	// the program was not found, 126 where it could not be run.
	Code int `json:"code,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return "podinit: " + e.Message }

// Is makes errors.Is(err, ErrNotFound) and ErrNotRunning work.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Reason == ReasonNotFound
	case ErrNotRunning:
		return e.Reason == ReasonNotRunning
	}
	return false
}

// What podinit's refusals are for errors.Is. For more, use errors.As with *Error.
var (
	ErrNotFound   = errors.New("podinit: not found")
	ErrNotRunning = errors.New("podinit: container is not running")
)

// ErrProtocol means that the zone's side does not speak the protocol, or its
// answer is not to be believed. It is worth no retry on the same connection.
var ErrProtocol = errors.New("podinit: protocol error")

// strict decodes one JSON value and refuses fields that it does not know: an
// order that is half understood, such as a security setting, is not followed.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// ParseRequest decodes and checks a Request.
func ParseRequest(data []byte) (Request, error) {
	var r Request
	if err := strict(data, &r); err != nil {
		return Request{}, fmt.Errorf("podinit: request: %w", err)
	}
	if r.Version != Version {
		return Request{}, fmt.Errorf("podinit: request: version %d, not %d", r.Version, Version)
	}
	if err := r.check(); err != nil {
		return Request{}, fmt.Errorf("podinit: request %s: %w", r.Op, err)
	}
	return r, nil
}

func (r Request) check() error {
	switch r.Op {
	case OpState, OpUsage, OpWatch, OpShutdown:
		return nil
	case OpStart:
		if r.Start == nil {
			return errors.New("no container")
		}
		return r.Start.Validate()
	case OpSignal:
		if _, err := ParseSignal(r.Signal); err != nil {
			return err
		}
		return checkName(r.Container)
	case OpKill, OpAttach:
		return checkName(r.Container)
	case OpExec:
		if r.Exec == nil || len(r.Exec.Args) == 0 {
			return errors.New("no program")
		}
		if err := checkStrings(r.Exec.Args, r.Exec.Env); err != nil {
			return err
		}
		return checkName(r.Exec.Container)
	case OpRead:
		if r.Path == "" || len(r.Path) > maxPath || strings.ContainsRune(r.Path, 0) {
			return fmt.Errorf("path %.64q", r.Path)
		}
		return checkName(r.Volume)
	case OpForward:
		if r.Port == 0 {
			return errors.New("no port")
		}
		return nil
	}
	return errors.New("unknown operation")
}
