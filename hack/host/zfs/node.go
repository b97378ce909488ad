package zfs

import (
	"cmp"
	"slices"
	"strings"
)

// node is a file system or a snapshot.
type node struct {
	ID       uint64 `json:"id"`
	Name     string `json:"name"`
	Snapshot bool   `json:"snapshot,omitempty"`
	GUID     uint64 `json:"guid"`
	TXG      uint64 `json:"txg"`
	Created  int64  `json:"created"` // seconds since 1970

	// Props are the properties set here, by their full names and in the form
	// that is printed; Received are those that came in a stream.
	Props map[string]string `json:"props"`

	Origin uint64 `json:"origin,omitempty"` // of a clone: the snapshot
	Base   uint64 `json:"base,omitempty"`   // bytes of it that are not charged here

	// Of a snapshot.
	Referenced uint64           `json:"referenced,omitempty"` // bytes, when it was made
	Holds      map[string]int64 `json:"holds,omitempty"`      // tag → since
	Deferred   bool             `json:"deferred,omitempty"`   // destroyed with the last hold and clone

	Mounted string `json:"mounted,omitempty"` // where, if it is

	temporary map[string]string // options given to mount -o
}

// kind returns the name of the node's type.
func (n *node) kind() string {
	if n.Snapshot {
		return "snapshot"
	}
	return "filesystem"
}

// filesystem returns the name without a snapshot's part.
func filesystem(name string) string {
	fs, _, _ := strings.Cut(name, "@")
	return fs
}

// parent returns the name above, and "" for a pool.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

// below says whether name is that of a descendant of a file system.
func below(name, ancestor string) bool {
	return strings.HasPrefix(name, ancestor+"/")
}

func (m *Model) insert(n *node) {
	m.byName[n.Name] = n
	m.byID[n.ID] = n
}

func (m *Model) remove(n *node) {
	delete(m.byName, n.Name)
	delete(m.byID, n.ID)
}

// filesystems returns every file system by name.
func (m *Model) filesystems() []*node {
	var all []*node
	for _, n := range m.byID {
		if !n.Snapshot {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, byName)
	return all
}

// children returns the file systems directly below one, by name.
func (m *Model) children(n *node) []*node {
	var all []*node
	for name, c := range m.byName {
		if !c.Snapshot && parent(name) == n.Name {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, byName)
	return all
}

// tree returns a file system and all below it, by name, so parents first.
func (m *Model) tree(n *node) []*node {
	all := []*node{n}
	for name, c := range m.byName {
		if !c.Snapshot && below(name, n.Name) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, byName)
	return all
}

// snapshots returns those of one file system, oldest first.
func (m *Model) snapshots(fs *node) []*node {
	var all []*node
	for name, s := range m.byName {
		if s.Snapshot && filesystem(name) == fs.Name {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return cmp.Compare(a.TXG, b.TXG) })
	return all
}

// clones returns the file systems made from a snapshot, by name.
func (m *Model) clones(snap *node) []*node {
	var all []*node
	for _, n := range m.byID {
		if n.Origin == snap.ID {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, byName)
	return all
}

// dependents returns everything that must go before n goes, itself excluded,
// in the order in which libzfs' zfs_iter_dependents finds it: children before
// snapshots, clones before the snapshot they were made from.
func (m *Model) dependents(n *node) []*node {
	var out []*node
	seen := map[uint64]bool{}
	var visit func(*node, bool)
	visit = func(n *node, first bool) {
		if seen[n.ID] {
			return
		}
		seen[n.ID] = true
		if n.Snapshot {
			for _, c := range m.clones(n) {
				visit(c, false)
			}
		} else {
			for _, c := range m.children(n) {
				visit(c, false)
			}
			for _, s := range m.snapshots(n) {
				visit(s, false)
			}
		}
		if !first {
			out = append(out, n)
		}
	}
	visit(n, true)
	return out
}

// byName orders as zfs list does: a file system before its snapshots, and
// those by age.
func byName(a, b *node) int {
	af, as, aSnap := strings.Cut(a.Name, "@")
	bf, bs, bSnap := strings.Cut(b.Name, "@")
	if c := cmp.Compare(af, bf); c != 0 {
		return c
	}
	switch {
	case !aSnap && bSnap:
		return -1
	case aSnap && !bSnap:
		return 1
	}
	if c := cmp.Compare(a.TXG, b.TXG); c != 0 {
		return c
	}
	return cmp.Compare(as, bs)
}
