//go:build linux

// Package wire is how a command of the simulated host reaches the host's
// supervisor: over a unix socket, with the caller's three standard files passed
// along. Whoever goes away takes the command with it: the supervisor sees the
// end of the connection and ends the command as if it had been killed.
//
// The calling side starts for every host command, so this package imports
// little.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Socket is the supervisor's socket in the host's own file system.
const Socket = "/run/simhost/supervisor.sock"

// ZoneSocket is another one of it, in what zones of the reddwarf brand have of
// the host's file system.
const ZoneSocket = "/usr/lib/simhost/supervisor.sock"

// Kind is what a request asks for.
type Kind string

// The requests.
const (
	Run    Kind = "run"    // a host command: Argv, Dir, three files
	Down   Kind = "down"   // shut the host down
	Reboot Kind = "reboot" // power-cycle it
	Fault  Kind = "fault"  // add the fault in Body, a host.Fault
	Clear  Kind = "clear"  // remove all faults
	Faults Kind = "faults" // list them
)

// Request is one message to the supervisor.
type Request struct {
	Kind     Kind
	Argv     []string        `json:",omitempty"`
	Dir      string          `json:",omitempty"`
	Terminal bool            `json:",omitempty"` // standard input is one
	Body     json.RawMessage `json:",omitempty"`
}

// Reply ends a request.
type Reply struct {
	Exit   int
	Launch []string `json:",omitempty"` // a program that the caller starts now
	Text   string   // for people
	Error  string
}

// maxMessage bounds a message. Linux refuses longer argument lists.
const maxMessage = 4 << 20

// Call sends r with files to the supervisor at socket and waits for the reply.
func Call(socket string, r Request, files ...*os.File) (Reply, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return Reply{}, fmt.Errorf("the host does not answer: %w", err)
	}
	defer c.Close() //nolint:errcheck // everything was read
	if err := send(c, r, files); err != nil {
		return Reply{}, fmt.Errorf("the host does not listen: %w", err)
	}
	var reply Reply
	if err := receiveInto(c, &reply); err != nil {
		return Reply{}, fmt.Errorf("the host went down: %w", err)
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

// Answer sends a reply.
func Answer(c *net.UnixConn, r Reply) error { return send(c, r, nil) }

func send(c *net.UnixConn, message any, files []*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	data := binary.BigEndian.AppendUint32(nil, uint32(len(body))) //nolint:gosec // bounded by the kernel's limit on arguments
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = syscall.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(data, oob, nil); err != nil {
		return err
	}
	_, err = c.Write(body)
	return err
}

// Receive reads a request and the files that came with it, which the caller
// closes.
func Receive(c *net.UnixConn) (Request, []*os.File, error) {
	var r Request
	var size [4]byte
	oob := make([]byte, syscall.CmsgSpace(3*4))
	n, oobn, _, _, err := c.ReadMsgUnix(size[:], oob)
	if err != nil {
		return r, nil, err
	}
	files, err := passedFiles(oob[:oobn])
	if err != nil {
		return r, nil, err
	}
	if _, err = io.ReadFull(c, size[n:]); err == nil {
		err = readBody(c, size, &r)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return r, nil, err
	}
	return r, files, nil
}

func passedFiles(oob []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func receiveInto(c *net.UnixConn, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	return readBody(c, size, v)
}

func readBody(r io.Reader, size [4]byte, v any) error {
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return fmt.Errorf("message of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// Gone returns when the other end of c has gone, or at the latest at the
// deadline that someone sets on c. Nothing may be sent any more.
func Gone(c *net.UnixConn) {
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// StopWaiting makes Gone return.
func StopWaiting(c *net.UnixConn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }
