package storage

import (
	"context"
	"strings"
)

// Usage is the space one dataset takes, in bytes.
type Usage struct {
	Used      int64 // blocks that only this dataset and those below it hold
	Available int64 // what may still be written to it
	Quota     int64 // 0 means none
}

// PodUsage is the space of one pod.
type PodUsage struct {
	Usage                       // of all of the pod
	Own        int64            // of the zone path alone: logs, files written by the host
	Containers map[string]Usage // by container
	Volumes    map[string]Usage // by volume
}

// Usage returns what each of our pods takes, by UID, from one zfs command.
func (s *Store) Usage(ctx context.Context) (map[string]PodUsage, error) {
	out, err := s.zfs(ctx, "list", "-Hp", "-o", usageColumns, "-t", "filesystem", "-r", s.name+"/pods")
	if err != nil {
		return nil, err
	}
	return s.parseUsage(out)
}

// PodUsage returns what one pod takes. The error is ErrNotFound if it has no
// dataset.
func (s *Store) PodUsage(ctx context.Context, uid string) (PodUsage, error) {
	if err := checkWord("pod", uid); err != nil {
		return PodUsage{}, err
	}
	out, err := s.zfs(ctx, "list", "-Hp", "-o", usageColumns, "-t", "filesystem", "-r", s.podName(uid))
	if err != nil {
		return PodUsage{}, err
	}
	all, err := s.parseUsage(out)
	return all[uid], err
}

const usageColumns = "name," + uidProperty + ",used,available,quota,usedbydataset"

func (s *Store) parseUsage(out []byte) (map[string]PodUsage, error) {
	rows, err := parseRows(out, 6)
	if err != nil {
		return nil, err
	}
	pods := map[string]PodUsage{}
	for _, r := range rows {
		path, ok := strings.CutPrefix(r[0], s.name+"/pods/")
		uid, child, _ := strings.Cut(path, "/")
		if !ok || r[1] != uid {
			continue
		}
		var n [4]int64
		for i := range n {
			if n[i], err = parseSize(r[2+i]); err != nil {
				return nil, err
			}
		}
		u := Usage{Used: n[0], Available: n[1], Quota: n[2]}
		p := pods[uid] // a parent is listed before its children
		if p.Containers == nil {
			p.Containers, p.Volumes = map[string]Usage{}, map[string]Usage{}
		}
		switch {
		case child == "":
			p.Usage, p.Own = u, n[3]
		case strings.HasPrefix(child, "c-"), strings.HasPrefix(child, "e-"):
			container, _, _ := strings.Cut(child[2:], ".")
			u.Used += p.Containers[container].Used // of the images that it had before
			p.Containers[container] = u
		case strings.HasPrefix(child, "v-"):
			p.Volumes[child[2:]] = u
		}
		pods[uid] = p
	}
	return pods, nil
}

// Capacity is the space of the pool as file systems see it, in bytes.
type Capacity struct {
	Total     int64
	Available int64
}

// Capacity returns the space that the root dataset can have: what it holds
// and what is free.
func (s *Store) Capacity(ctx context.Context) (Capacity, error) {
	p, err := s.get(ctx, s.name, "used", "available")
	if err != nil {
		return Capacity{}, err
	}
	used, err := parseSize(p["used"].value)
	if err != nil {
		return Capacity{}, err
	}
	free, err := parseSize(p["available"].value)
	return Capacity{Total: used + free, Available: free}, err
}
