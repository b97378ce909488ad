package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit"
)

// identity is what a process runs as.
type identity struct {
	UID    int64
	GID    int64
	Groups []int64 // supplementary, and GID
	Home   string
}

// accounts are an image's passwd and group files. They are the image's word,
// which is why only numbers come out of them.
type accounts struct {
	users  []account
	groups []group
}

type account struct {
	name     string
	uid, gid int64
	home     string
}

type group struct {
	name    string
	gid     int64
	members []string
}

// maxAccounts bounds what is read of an image's passwd and group files.
const maxAccounts = 1 << 20

// readAccounts reads the files of the root that the caller is in. A file that
// is missing has no entries.
func readAccounts() (accounts, error) {
	var a accounts
	if err := readLines("/etc/passwd", a.addUser); err != nil {
		return a, err
	}
	return a, readLines("/etc/group", a.addGroup)
}

// addUser adds a line of passwd(5), if it has numbers where they belong.
func (a *accounts) addUser(f []string) {
	if len(f) < 4 {
		return
	}
	u := account{name: f[0], uid: number(f[2]), gid: number(f[3])}
	if len(f) > 5 {
		u.home = f[5]
	}
	if u.uid >= 0 && u.gid >= 0 {
		a.users = append(a.users, u)
	}
}

// addGroup adds a line of group(5).
func (a *accounts) addGroup(f []string) {
	if len(f) < 3 {
		return
	}
	g := group{name: f[0], gid: number(f[2])}
	if len(f) > 3 && f[3] != "" {
		g.members = strings.Split(f[3], ",")
	}
	if g.gid >= 0 {
		a.groups = append(a.groups, g)
	}
}

// readLines calls each with the fields of every line. The file is opened so
// that a FIFO in its place cannot stop us.
func readLines(path string, each func([]string)) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return eachLine(f, each)
}

func eachLine(r io.Reader, each func([]string)) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxAccounts))
	lines.Buffer(nil, maxAccounts)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			each(strings.Split(line, ":"))
		}
	}
	return lines.Err()
}

// number returns -1 for what is not a user or group id.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return -1
	}
	return n
}

// identify decides what a container runs as. Where the user is known to the
// image, its group memberships count too, as for a kubelet's Merge policy.
func (a accounts) identify(c podinit.Container) (identity, error) {
	user, grp, hasGroup := strings.Cut(c.User, ":")
	id := identity{Home: "/"}
	entry, known := account{}, false
	switch n := number(user); {
	case c.RunAsUser != nil:
		id.UID = *c.RunAsUser
		entry, known = a.byUID(id.UID)
	case user == "":
		entry, known = a.byUID(0)
	case n >= 0:
		id.UID = n
		entry, known = a.byUID(n)
	default:
		if entry, known = a.byName(user); !known {
			return id, fmt.Errorf("unable to find user %s: no matching entries in passwd file", user)
		}
		id.UID = entry.uid
	}
	if known {
		id.GID = entry.gid
		if !c.StrictGroups {
			id.Groups = a.memberships(entry.name)
		}
		if entry.home != "" {
			id.Home = entry.home
		}
	}
	if hasGroup && c.RunAsUser == nil {
		gid, err := a.gid(grp)
		if err != nil {
			return id, err
		}
		id.GID = gid
	}
	if c.RunAsGroup != nil {
		id.GID = *c.RunAsGroup
	}
	if c.RunAsNonRoot && id.UID == 0 {
		return id, errors.New("container has runAsNonRoot and image will run as root")
	}
	id.Groups = append(id.Groups, id.GID) // as a container runtime has it
	id.Groups = append(id.Groups, c.SupplementalGroups...)
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	return id, nil
}

func (a accounts) byUID(uid int64) (account, bool) {
	i := slices.IndexFunc(a.users, func(u account) bool { return u.uid == uid })
	if i < 0 {
		return account{}, false
	}
	return a.users[i], true
}

func (a accounts) byName(name string) (account, bool) {
	i := slices.IndexFunc(a.users, func(u account) bool { return u.name == name })
	if i < 0 {
		return account{}, false
	}
	return a.users[i], true
}

func (a accounts) gid(name string) (int64, error) {
	if n := number(name); n >= 0 {
		return n, nil
	}
	for _, g := range a.groups {
		if g.name == name {
			return g.gid, nil
		}
	}
	return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
}

func (a accounts) memberships(user string) []int64 {
	var ids []int64
	for _, g := range a.groups {
		if slices.Contains(g.members, user) {
			ids = append(ids, g.gid)
		}
	}
	return ids
}
