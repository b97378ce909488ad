//go:build linux

// Command host makes simulated illumos hosts on Linux. See `host help`.
//
// Called by the name of a command of illumos, it is that command on the host
// it runs on.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/lab"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/machine"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/wire"
	"reddwarf.io/reddwarf/hack/host/linux/sandbox"
)

func main() {
	sandbox.Main()
	code, err := dispatch(os.Args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "host: %v\n", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// dispatch does what this process was executed for, by its name.
func dispatch(args []string) (int, error) {
	switch name := filepath.Base(args[0]); name {
	case spaces.ChildName:
		return 126, spaces.ChildMain(args[1:])
	case userns.ChildName:
		return 126, userns.ChildMain(args[1:])
	case lab.ProbeName:
		return 0, lab.ProbeMain()
	case lab.InitName:
		return lab.InitMain()
	case lab.WatchdogName:
		return 0, lab.WatchdogMain(args[1], args[2], args[3] == "true")
	case machine.InitName:
		return machine.InitMain()
	case machine.SupervisorName:
		return 0, machine.SupervisorMain()
	case "host":
		return run(args[1:])
	default:
		return wire.Main(append([]string{name}, args[1:]...)), nil
	}
}
