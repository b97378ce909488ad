//go:build linux

package sandbox

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"reddwarf.io/reddwarf/hack/host/zones"
)

func TestOwnGroups(t *testing.T) {
	for _, tt := range []struct {
		name, cgroup, mounts string
		want                 map[string]string
	}{
		{
			name: "version 1", cgroup: "4:memory:/process/7\n1:cpu,cpuacct:/\n0::/\n",
			mounts: "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n31 24 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup memory rw,memory\n",
			want:   map[string]string{"cpu": "/sys/fs/cgroup/cpu", "cpuacct": "/sys/fs/cgroup/cpu", "memory": "/sys/fs/cgroup/memory/process/7"},
		},
		{
			name: "version 2", cgroup: "0::/user.slice/a.scope\n", mounts: "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			want: map[string]string{"": "/sys/fs/cgroup/user.slice/a.scope"},
		},
		{
			name: "a part is mounted", cgroup: "0::/docker/x/y\n", mounts: "30 24 0:26 /docker/x /cg rw - cgroup2 cgroup2 rw\n",
			want: map[string]string{"": "/cg/y"},
		},
		{
			name: "not our part", cgroup: "0::/a\n", mounts: "30 24 0:26 /b /cg rw - cgroup2 cgroup2 rw\n", want: map[string]string{},
		},
		{name: "none", cgroup: "0::/\n", mounts: "1 0 8:1 / / rw - ext4 /dev/sda rw\nshort\n", want: map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cgroup, mounts := filepath.Join(dir, "cgroup"), filepath.Join(dir, "mountinfo")
			for name, text := range map[string]string{cgroup: tt.cgroup, mounts: tt.mounts} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ownGroups(cgroup, mounts)
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// Version 2 is not everywhere, so its files are played here.
func TestUnifiedLimits(t *testing.T) {
	parent := t.TempDir()
	if err := os.WriteFile(filepath.Join(parent, "cgroup.controllers"), []byte("cpu io memory pids\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{parent, filepath.Join(parent, "zones")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := &groups{parents: make(map[string]string)}
	g.useUnified(parent, "zones")
	z, err := g.zone("zone1")
	if err != nil || !z.v2() || len(z.dirs()) != 1 {
		t.Fatalf("%+v, %v", z, err)
	}
	dir := z.dirs()[0]
	for _, f := range []string{"cpu.max", "cpu.weight", "memory.max", "pids.max"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		caps zones.Caps
		want map[string]string
	}{
		{
			zones.Caps{CPU: 150, CPUShares: 20, Physical: 64 << 20, Swap: 32 << 20, MaxLWPs: 500, MaxProcesses: 20},
			map[string]string{"cpu.max": "150000 100000", "cpu.weight": "20", "memory.max": "33554432", "pids.max": "200"},
		},
		{zones.Caps{}, map[string]string{"cpu.max": "max 100000", "cpu.weight": "100", "memory.max": "max", "pids.max": "max"}},
	} {
		if err := z.limit(tt.caps); err != nil {
			t.Fatal(err)
		}
		for f, want := range tt.want {
			if got, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(got) != want {
				t.Errorf("%+v: %s = %q, %v; want %q", tt.caps, f, got, err, want)
			}
		}
	}
}
