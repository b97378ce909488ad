package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/zones/command"
)

// The controller runs as the program that it is, with commands in its PATH that
// are this program under other names: they carry what they are told to the
// simulated host in the measuring process, through a socket.

const socketEnv = "KUBEPROXY_BENCH_SOCKET"

type request struct {
	Name  string
	Args  []string
	Stdin string
}

type reply struct {
	Stdout, Stderr string
	Exit           int
}

// beCommand is the whole program under the name of a host's command.
func beCommand(name string) int {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 127
	}
	c, err := net.Dial("unix", os.Getenv(socketEnv)) //nolint:noctx // it ends with the process
	if err != nil {
		return 127
	}
	defer c.Close()
	var r reply
	if json.NewEncoder(c).Encode(request{name, os.Args[1:], string(stdin)}) != nil || json.NewDecoder(c).Decode(&r) != nil {
		return 127
	}
	os.Stdout.WriteString(r.Stdout) //nolint:errcheck // the controller notices
	os.Stderr.WriteString(r.Stderr) //nolint:errcheck // as above
	return r.Exit
}

// commands are what the controller runs.
var commands = []string{"ipnat", "ipf", "route", "svcs", "ipadm"}

// relay makes a directory with the commands, and answers for them until ctx
// ends.
func relay(ctx context.Context, m *host.Model, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range commands {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			answer(ctx, m, c)
		}
	}()
	return nil
}

func answer(ctx context.Context, m *host.Model, c net.Conn) {
	defer c.Close()
	var q request
	if json.NewDecoder(c).Decode(&q) != nil {
		return
	}
	out, err := m.Run(ctx, command.Cmd{Name: q.Name, Args: q.Args, Stdin: q.Stdin})
	r := reply{Stdout: string(out)}
	var ce *command.Error
	if errors.As(err, &ce) {
		r = reply{ce.Stdout, ce.Stderr, ce.ExitCode}
	} else if err != nil {
		r = reply{Stderr: err.Error(), Exit: 127}
	}
	json.NewEncoder(c).Encode(r) //nolint:errcheck // the command fails
}
