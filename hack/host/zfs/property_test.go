package zfs

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
)

// ledger is a backend that keeps the books: which objects there are and what
// they are charged to. It fails on anything that does not fit.
type ledger struct {
	memory
	objects map[uint64]map[uint64]bool // object → groups
	limits  map[uint64]uint64
	mounts  map[string]uint64
}

func newLedger() *ledger {
	return &ledger{objects: map[uint64]map[uint64]bool{}, limits: map[uint64]uint64{}, mounts: map[string]uint64{}}
}

func (l *ledger) add(id uint64, groups []uint64) error {
	if l.objects[id] != nil {
		return fmt.Errorf("object %d is there already", id)
	}
	l.objects[id] = map[uint64]bool{}
	for _, g := range groups {
		if l.limits[g] == 0 {
			return fmt.Errorf("group %d has no limit", g)
		}
		l.objects[id][g] = true
	}
	return nil
}

func (l *ledger) need(ids ...uint64) error {
	for _, id := range ids {
		if l.objects[id] == nil {
			return fmt.Errorf("object %d is not there", id)
		}
	}
	return nil
}

func (l *ledger) Create(_ context.Context, id uint64, groups []uint64) error {
	return l.add(id, groups)
}

func (l *ledger) Snapshot(_ context.Context, id, snap uint64, groups []uint64) error {
	if err := l.need(id); err != nil {
		return err
	}
	return l.add(snap, groups)
}

func (l *ledger) Clone(ctx context.Context, snap, id uint64, groups []uint64) error {
	return l.Snapshot(ctx, snap, id, groups)
}

func (l *ledger) Destroy(_ context.Context, id uint64) error {
	err := l.need(id)
	delete(l.objects, id)
	return err
}

func (l *ledger) Rollback(_ context.Context, id, snap uint64) error { return l.need(id, snap) }

func (l *ledger) Mount(_ context.Context, id uint64, dir string, _ MountOptions, _ bool) error {
	if l.mounts[dir] != 0 {
		return fmt.Errorf("%s is mounted already", dir)
	}
	l.mounts[dir] = id
	return l.need(id)
}

func (l *ledger) Unmount(_ context.Context, id uint64, dir string, _ bool) error {
	if l.mounts[dir] != id {
		return fmt.Errorf("%s does not show %d", dir, id)
	}
	delete(l.mounts, dir)
	return nil
}

func (l *ledger) SetQuota(_ context.Context, group, limit uint64, members []uint64) error {
	if err := l.need(members...); err != nil {
		return err
	}
	known := l.limits[group] != 0
	l.limits[group] = limit
	for _, id := range members {
		switch {
		case limit == 0:
			delete(l.objects[id], group)
		case known && !l.objects[id][group]:
			return fmt.Errorf("object %d was not charged to %d", id, group)
		default:
			l.objects[id][group] = true
		}
	}
	return nil
}

func (l *ledger) Regroup(_ context.Context, id uint64, from, to []uint64) error {
	if err := l.need(id); err != nil {
		return err
	}
	for _, g := range from {
		delete(l.objects[id], g)
	}
	for _, g := range to {
		l.objects[id][g] = true
	}
	return nil
}

// check compares the model with the books and with itself.
func check(m *Model, l *ledger) error {
	if got, want := slices.Sorted(maps.Keys(l.objects)), slices.Sorted(maps.Keys(m.byID)); !slices.Equal(got, want) {
		return fmt.Errorf("backend holds %v, model %v", got, want)
	}
	mounted := map[string]uint64{}
	for id, n := range m.byID {
		if m.byName[n.Name] != n {
			return fmt.Errorf("%s is not found by its name", n.Name)
		}
		if up := parent(n.Name); !n.Snapshot && up != "" && m.byName[up] == nil {
			return fmt.Errorf("%s has no parent", n.Name)
		}
		if n.Snapshot && m.byName[filesystem(n.Name)] == nil {
			return fmt.Errorf("%s has no file system", n.Name)
		}
		if n.Origin != 0 && m.byID[n.Origin] == nil {
			return fmt.Errorf("%s has lost its origin", n.Name)
		}
		if n.Mounted != "" {
			mounted[n.Mounted] = id
		}
		groups := map[uint64]bool{}
		for _, g := range m.groups(n.Name) {
			groups[g] = true
		}
		if !maps.Equal(groups, l.objects[id]) {
			return fmt.Errorf("%s is charged to %v, want %v", n.Name, l.objects[id], groups)
		}
	}
	if !maps.Equal(mounted, l.mounts) {
		return fmt.Errorf("backend shows %v, model %v", l.mounts, mounted)
	}
	if len(m.byName) != len(m.byID) {
		return fmt.Errorf("%d names for %d datasets", len(m.byName), len(m.byID))
	}
	return nil
}

// randomLine is a command over few names, so that commands meet.
func randomLine(r *rand.Rand) string {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	fs := func() string { return pick("rpool/a", "rpool/a/b", "rpool/a/b/c", "rpool/d", "rpool/d/e", "rpool/f") }
	snap := func() string { return fs() + "@" + pick("1", "2", "3") }
	switch r.IntN(16) {
	case 0, 1:
		return "zfs create " + pick("", "-p ", "-o quota=1G ", "-o mountpoint=legacy ", "-o canmount=noauto ") + fs()
	case 2, 3:
		return "zfs snapshot " + pick("", "-r ") + snap()
	case 4, 5:
		return "zfs clone " + pick("", "-p ", "-o quota=1G ") + snap() + " " + fs()
	case 6:
		return "zfs destroy " + pick("", "-r ", "-R ", "-f ") + fs()
	case 7:
		return "zfs destroy " + pick("", "-r ", "-R ", "-d ") + pick(snap(), fs()+"@1%3")
	case 8:
		return "zfs rename " + pick("", "-p ") + fs() + " " + fs()
	case 9:
		return "zfs rename " + pick("", "-r ") + snap() + " " + pick("@1", "@2", "@4")
	case 10:
		return "zfs promote " + fs()
	case 11:
		return "zfs rollback " + pick("", "-r ", "-R ") + snap()
	case 12:
		return "zfs " + pick("hold", "release") + pick(" ", " -r ") + "tag " + snap()
	case 13:
		return "zfs " + pick("mount", "unmount") + " " + pick(fs(), fs(), "-a")
	case 14:
		return "zfs inherit " + pick("mountpoint", "zoned", "readonly") + " " + fs()
	}
	return "zfs set " + pick("quota=1G", "quota=none", "mountpoint=legacy", "mountpoint=/m", "mountpoint=none", "canmount=off",
		"canmount=on", "zoned=on", "readonly=on") + " " + fs()
}

func TestRandomTrees(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := newLedger()
		m := New(Config{Backend: l, Clock: fixed})
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var script []string
		for range 150 {
			line := randomLine(r)
			got := do(t, m, line)
			script = append(script, line+"\n"+got.String())
			if strings.Contains(got.err, "simulated host") {
				t.Fatalf("seed %d: the backend complains:\n%s", seed, strings.Join(script, ""))
			}
			if err := check(m, l); err != nil {
				t.Fatalf("seed %d: %v after:\n%s", seed, err, strings.Join(script, ""))
			}
		}
	}
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "10G", "1.5m", ".5K", "512", "1KB", "1BB", "18446744073709551615", "16E", "1e5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, why := parseNumber(s)
		if why != "" && n != 0 {
			t.Errorf("%q: %d and %s", s, n, why)
		}
		if why == "" && (s == "" || strings.ContainsAny(s, " -+eE") && !strings.HasSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "E")) {
			t.Errorf("%q was read as %d", s, n)
		}
		if nice := niceNumber(n); len(nice) > 5 {
			t.Errorf("%d is printed as %q", n, nice)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"rpool/a", "rpool/a@b", "a//b", "a/", "@", "a@b@c", "a@b/c", "a#b", "a%b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkName(s, typeFilesystem, true) == "" && (strings.ContainsAny(s, "@#%\n\t\"'\\") || strings.Contains(s, "//") || s == "") {
			t.Errorf("%q is a file system's name", s)
		}
		if checkName(s, typeSnapshot, true) == "" && strings.Count(s, "@") != 1 {
			t.Errorf("%q is a snapshot's name", s)
		}
	})
}

// No arguments make a command panic, or fail without saying why.
func FuzzCommands(f *testing.F) {
	f.Add("create\x00-o\x00quota=1G\x00rpool/x")
	f.Add("get\x00-Hpo\x00value\x00all\x00rpool")
	f.Add("list\x00-t\x00all\x00-d\x001\x00-S\x00used")
	f.Add("destroy\x00-rnv\x00rpool/a@1%2,3")
	f.Add("receive\x00-F\x00rpool/x")
	f.Fuzz(func(t *testing.T, words string) {
		m := newModel(t)
		ok(t, m, "zfs create rpool/a")
		ok(t, m, "zfs snapshot rpool/a@1")
		for _, name := range []string{"zfs", "zpool"} {
			var out, errs bytes.Buffer
			inv := &program.Invocation{
				Argv:  append([]string{name}, strings.Split(words, "\x00")...),
				Stdin: strings.NewReader(words), Stdout: &out, Stderr: &errs, Files: noFiles{},
			}
			if code := m.Commands()[name](t.Context(), inv); code != 0 && errs.Len() == 0 {
				t.Errorf("%q: exit %d without a word", inv.Argv, code)
			}
		}
	})
}
