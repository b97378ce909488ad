package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
)

// refreshEvery is how often volumes of cluster objects are looked at again, as
// often as a kubelet looks.
const refreshEvery = time.Minute

// refreshPause is the least time between two looks: a token that is always due
// must not keep the agent busy.
const refreshPause = 10 * time.Second

// dataLink is the link that every file of a volume is reached through. It is
// what makes a change of several files one change.
const dataLink = "..data"

// writeVolumes brings every volume that the host writes up to date and decides
// when to do so again.
func (w *worker) writeVolumes(ctx context.Context, zonepath *os.Root, in translate.Input) error {
	w.refreshAt = time.Time{}
	for _, v := range in.Pod.Spec.Volumes {
		if !translate.HostWritten(v) {
			continue
		}
		content, err := translate.VolumeFiles(in, v, tokens{ctx, w.p.c.Cluster})
		if err != nil {
			return &fault{"", "FailedMount", err}
		}
		dir, err := zonepath.OpenRoot(path.Join(translate.VolumesDir, v.Name))
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		err = writeVolume(dir, content.Files, fsGroup(in.Pod))
		if cerr := dir.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		next := time.Now().Add(refreshEvery + rand.N(refreshEvery/2))
		if !content.Refresh.IsZero() && content.Refresh.Before(next) {
			next = content.Refresh
		}
		if soon := time.Now().Add(refreshPause); next.Before(soon) {
			next = soon
		}
		if w.refreshAt.IsZero() || next.Before(w.refreshAt) {
			w.refreshAt = next
		}
	}
	return nil
}

// refreshVolumes writes the volumes of a running zone again.
func (w *worker) refreshVolumes(ctx context.Context) error {
	in, err := w.input(ctx)
	if err != nil {
		return err
	}
	zonepath, err := os.OpenRoot(w.p.c.Storage.PodDir(w.uid))
	if err != nil {
		return fmt.Errorf("zone path: %w", err)
	}
	defer zonepath.Close() //nolint:errcheck // only a handle
	return w.writeVolumes(ctx, zonepath, in)
}

func fsGroup(pod *corev1.Pod) *int64 {
	if s := pod.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// writeVolume makes files the content of the volume dir, at once: they are
// written to a new directory, and one rename of a link changes from the old to
// the new.
func writeVolume(dir *os.Root, files map[string]translate.File, group *int64) error {
	old, err := dir.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != "" && sameFiles(dir, old, files) {
		return nil
	}
	fresh := ".." + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := dir.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		if err := writeInto(dir, path.Join(fresh, name), f, group); err != nil {
			return err
		}
	}
	const swap = "..data.new"
	if err := dir.RemoveAll(swap); err != nil {
		return err
	}
	if err := dir.Symlink(fresh, swap); err != nil {
		return err
	}
	if err := dir.Rename(swap, dataLink); err != nil {
		return err
	}
	return tidyVolume(dir, fresh, files)
}

func writeInto(dir *os.Root, name string, f translate.File, group *int64) error {
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(f.Mode)
	if group != nil {
		mode |= 0o040
	}
	if err := replaceFile(dir, name, f.Data, mode); err != nil {
		return err
	}
	if group != nil {
		return dir.Chown(name, -1, int(*group))
	}
	return nil
}

// tidyVolume makes the links that lead to the files, and removes what is left
// of earlier contents.
func tidyVolume(dir *os.Root, fresh string, files map[string]translate.File) error {
	wanted := map[string]bool{}
	for name := range files {
		wanted[topOf(name)] = true
	}
	for name := range wanted {
		target := path.Join(dataLink, name)
		if have, err := dir.Readlink(name); err == nil && have == target {
			continue
		}
		if err := dir.RemoveAll(name); err != nil {
			return err
		}
		if err := dir.Symlink(target, name); err != nil {
			return err
		}
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := d.Readdirnames(-1)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for _, name := range entries {
		if name == dataLink || name == fresh || wanted[name] {
			continue
		}
		if err := dir.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

// topOf returns the first element of a relative path.
func topOf(name string) string {
	for i := range len(name) {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return name
}

func sameFiles(dir *os.Root, sub string, files map[string]translate.File) bool {
	count := 0
	err := fs.WalkDir(dir.FS(), sub, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			count++
		}
		return err
	})
	if err != nil || count != len(files) {
		return false
	}
	for name, f := range files {
		have, err := dir.ReadFile(path.Join(sub, name))
		if err != nil || !bytes.Equal(have, f.Data) {
			return false
		}
	}
	return true
}

// tokens are the cluster's for the length of one step.
type tokens struct {
	ctx     context.Context //nolint:containedctx // lives no longer than the step
	cluster Cluster
}

// Token implements translate.Tokens.
func (t tokens) Token(pod *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	return t.cluster.Token(t.ctx, pod, audience, lifetime)
}
