package zfs

import "context"

// space is what the backend says of the pool, read once for a command.
type space struct {
	charged map[uint64]uint64
	size    uint64

	// Indexes, for pools of thousands of datasets.
	children  map[string][]*node // by the name above
	snapshots map[string]uint64  // bytes of a file system's snapshots
	used      map[uint64]uint64  // what used has found
}

// measure reads the space that objects take. Where the backend does not know,
// everything is empty.
func (m *Model) measure(ctx context.Context) (space, error) {
	charged, err := m.backend.Usage(ctx)
	if err != nil {
		return space{}, err
	}
	size, err := m.backend.Capacity(ctx)
	if err != nil {
		return space{}, err
	}
	if size == 0 {
		size = m.cfg.Size
	}
	s := space{charged, size, map[string][]*node{}, map[string]uint64{}, map[uint64]uint64{}}
	for _, n := range m.byID {
		if n.Snapshot {
			s.snapshots[filesystem(n.Name)] += charged[n.ID]
		} else {
			up := parent(n.Name)
			s.children[up] = append(s.children[up], n)
		}
	}
	return s, nil
}

// spaceProperty returns one of the properties of sizes.
func (m *Model) spaceProperty(n *node, name string, s space) (uint64, bool) {
	if n.Snapshot {
		switch name {
		case "used", "written":
			return s.charged[n.ID], true
		case "referenced", "logicalreferenced":
			return n.Referenced, true
		}
		return 0, false
	}
	switch name {
	case "used", "logicalused":
		return m.used(n, s), true
	case "available":
		return m.available(n, s), true
	case "referenced", "logicalreferenced":
		return n.Base + s.charged[n.ID], true
	case "usedbydataset", "written":
		return s.charged[n.ID], true
	case "usedbysnapshots":
		return s.snapshots[n.Name], true
	case "usedbychildren":
		return m.usedByChildren(n, s), true
	case "usedbyrefreservation":
		return m.refReserved(n, s), true
	}
	return 0, false
}

// usedByChildren counts a child's reservation where it has not used it up.
func (m *Model) usedByChildren(n *node, s space) (sum uint64) {
	for _, c := range s.children[n.Name] {
		sum += max(m.used(c, s), m.amount(c, "reservation"))
	}
	return sum
}

// refReserved is the part of refreservation that is not used yet.
func (m *Model) refReserved(n *node, s space) uint64 {
	if r := m.amount(n, "refreservation"); r > s.charged[n.ID] {
		return r - s.charged[n.ID]
	}
	return 0
}

// used is dsl_dir's: everything that would come back if n were destroyed.
func (m *Model) used(n *node, s space) uint64 {
	if known, ok := s.used[n.ID]; ok {
		return known
	}
	sum := s.charged[n.ID] + s.snapshots[n.Name] + m.usedByChildren(n, s) + m.refReserved(n, s)
	s.used[n.ID] = sum
	return sum
}

// available is dsl_dir_space_available: the least of what the quotas above
// leave and what is free in the pool.
func (m *Model) available(n *node, s space) uint64 {
	free := s.size
	used := m.used(n, s)
	up := m.byName[parent(n.Name)]
	if up != nil {
		free = m.available(up, s)
		if r := m.amount(n, "reservation"); r > used {
			free += r - used
		}
	} else {
		free -= min(free, used)
	}
	if q := m.amount(n, "quota"); q != 0 {
		free = min(free, q-min(q, used))
	}
	if q := m.amount(n, "refquota"); q != 0 {
		own := n.Base + s.charged[n.ID]
		free = min(free, q-min(q, own))
	}
	return free
}

// groups are the quota groups to which a dataset of a name is charged: the
// file systems above it, and itself, that have a quota.
func (m *Model) groups(name string) []uint64 {
	var ids []uint64
	for at := filesystem(name); at != ""; at = parent(at) {
		if n := m.byName[at]; n != nil && m.amount(n, "quota") != 0 {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// members are the objects charged to a file system's quota.
func (m *Model) members(n *node) []uint64 {
	var ids []uint64
	for _, c := range m.tree(n) {
		ids = append(ids, c.ID)
		for _, s := range m.snapshots(c) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
