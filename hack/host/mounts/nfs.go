package mounts

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// The exit codes of /usr/lib/fs/nfs/mount.
const (
	nfsRetry = 32
	nfsError = 33
)

// nfsWords are the options of optlist that stand alone, and nfsNumbers those
// that need a number.
var (
	nfsWords = []string{"quota", "noquota", "soft", "hard", "semisoft", "grpid", "intr", "nointr", "noac", "nocto", "llock",
		"posix", "noprint", "largefiles", "forcedirectio", "noforcedirectio", "xattr", "noxattr", "bg", "fg"}
	nfsNumbers = []string{"port", "rsize", "wsize", "timeo", "retrans", "actimeo", "acregmin", "acregmax", "acdirmin", "acdirmax", "retry", "vers"}
)

// nfsArgs is what set_args makes of the options.
type nfsArgs struct {
	Options
	words   []string // those that it knew
	vers    string
	noRetry bool
}

// mountNFS is /usr/lib/fs/nfs/mount.
func (m *Model) mountNFS(ctx context.Context, inv *program.Invocation, w wish, passed []option) int {
	for _, o := range passed {
		if !strings.ContainsRune("ormqO", rune(o.flag)) {
			inv.Errf("nfs mount: illegal option -- %c\nUsage: nfs mount [-r] [-o opts] [server:]path dir\n", o.flag)
			return nfsError
		}
	}
	server, dir, ok := splitSpecial(w.special)
	if !ok {
		inv.Errf("nfs mount: nfs file system; use [host:]path\n")
		return nfsError
	}
	args, code := setArgs(inv, w)
	if code != 0 {
		return code
	}
	source, err := m.cfg.Servers.Export(server, dir)
	if errors.Is(err, ErrSilent) {
		// By default it tries the older protocols, and again ten thousand times.
		if args.vers == "4" {
			inv.Errf("nfs mount: %s NFS service not available RPC: Timed out\n", server)
		} else {
			inv.Errf("nfs mount: %s: : RPC: Rpcbind failure - RPC: Timed out\n", server)
		}
		if args.noRetry {
			return nfsRetry
		}
		inv.Errf("nfs mount: retrying: %s\n", w.point)
		<-ctx.Done()
		return 1
	}
	switch {
	case errors.Is(err, ErrNoHost):
		inv.Errf("nfs mount: %s: Unknown host\n", server)
		return nfsError
	case errors.Is(err, fs.ErrNotExist):
		inv.Errf("nfs mount: %s: No such file or directory\n", w.special)
		return nfsError
	case err == nil:
		err = m.add(ctx, Entry{w.special, w.point, "nfs", shown(append(args.words, "xattr"), args.Options), m.cfg.Clock()},
			source, w.set['O'], args.Options)
	}
	if err != nil {
		inv.Errf("nfs mount: mount: %s: %s\n", w.point, errnoText(err))
		return nfsError
	}
	return 0
}

// splitSpecial takes [host:]path with the address of an IPv6 host in brackets.
// Lists of servers and URLs are not modelled.
func splitSpecial(special string) (server, dir string, ok bool) {
	if rest, bracket := strings.CutPrefix(special, "["); bracket {
		server, dir, ok = strings.Cut(rest, "]:")
	} else {
		server, dir, ok = strings.Cut(special, ":")
	}
	return server, dir, ok && server != "" && strings.HasPrefix(dir, "/") && !strings.Contains(special, ",")
}

// setArgs is set_args: what it does not know it warns of and leaves out.
func setArgs(inv *program.Invocation, w wish) (nfsArgs, int) {
	args := nfsArgs{Options: Options{ReadOnly: w.set['r']}}
	for _, word := range w.words {
		name, value, has := strings.Cut(word, "=")
		number := value != "" && value[0] >= '0' && value[0] <= '9'
		switch {
		case slices.Contains(nfsNumbers, name):
			if !number {
				inv.Errf("nfs mount: invalid option: \"%s\"\n", word)
				return args, nfsError
			}
			if name == "vers" {
				args.vers = value
			}
			args.noRetry = args.noRetry || name == "retry" && value == "0"
		case name == "proto" && has:
		case name == "sec" && slices.Contains([]string{"sys", "dh", "krb5", "krb5i", "krb5p", "none"}, value):
		case name == "sec":
			inv.Errf("nfs mount: can not get \"%s\" from /etc/nfssec.conf\n", value)
			return args, nfsError
		case name == "nolargefiles":
			inv.Errf("nfs mount: NFS can't support \"nolargefiles\"\n")
			return args, nfsError
		case slices.Contains(nfsWords, word):
		case generic[word] != nil:
			generic[word](&args.Options)
		default:
			if !w.set['q'] {
				inv.Errf("mount: %s on %s - WARNING unknown option \"%s\"\n", w.special, w.point, word)
			}
			continue
		}
		args.words = append(args.words, word)
	}
	return args, 0
}
