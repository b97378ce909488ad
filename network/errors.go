package network

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// What a caller may want to tell apart. Each is wrapped with the command and
// its own words.
var (
	// ErrNotFound means that the link, address or route does not exist.
	ErrNotFound = errors.New("no such object")
	// ErrExists means that an object of that name exists already.
	ErrExists = errors.New("object exists")
	// ErrBusy means that something uses the link: a zone that runs or is not
	// quite gone, an IP interface, an open capture. It is worth retrying.
	ErrBusy = errors.New("link busy")
	// ErrConflict means that an object of the wanted name exists but is
	// something else.
	ErrConflict = errors.New("the name is taken by something else")
	// ErrName means that a name cannot be a data link's.
	ErrName = errors.New("not a usable link name")
	// ErrUnreachable means that a route's gateway is no neighbour of this host.
	ErrUnreachable = errors.New("not a neighbour")
	// ErrNoNAT means that the host's packet filter is not there.
	ErrNoNAT = errors.New("ipnat is not available")
)

// reasons says what the last part of a message means. The first group is of
// dladm_status2str() in libdladm.c, the second of libipadm.c, the third of
// route.c in illumos.
var reasons = map[string]error{
	"object already exists": ErrExists,
	"object not found":      ErrNotFound,
	"link busy":             ErrBusy,

	"Address object already exists": ErrExists,
	"Interface already exists":      ErrExists,
	"Already exists":                ErrExists,
	"Object not found":              ErrNotFound,
	"Interface does not exist":      ErrNotFound,

	"entry exists":           ErrExists,
	"not in table":           ErrNotFound,
	"Network is unreachable": ErrUnreachable,
}

// unknownLink is what dladm(8) says of a link that does not exist. It says the
// same of a name that no link can have, so names are checked before.
var unknownLink = regexp.MustCompile(`^dladm: invalid link name '[^']*'$`)

// classify is the only place that reads what the programs say of a failure.
func classify(err error) error {
	var ce *command.Error
	if err == nil || !errors.As(err, &ce) || ce.ExitCode < 0 {
		return err
	}
	words := ce.Stderr
	if ce.Cmd.Name == "route" { // it complains on standard output
		words = ce.Stdout
	}
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		_, reason, _ := cutLast(line, ": ")
		kind := reasons[reason]
		if unknownLink.MatchString(line) {
			kind = ErrNotFound
		}
		if kind != nil {
			return fmt.Errorf("%w: %w", kind, err)
		}
	}
	return err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
