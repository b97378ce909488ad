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
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

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
// when to do so again. A volume that cannot be made keeps what it has, and does
// not keep the others from being made: its error comes last and is tried again
// soon.
func (w *worker) writeVolumes(ctx context.Context, zonepath *os.Root, in translate.Input) error {
	w.refreshAt = time.Time{}
	var errs []error
	for _, v := range in.Pod.Spec.Volumes {
		if !translate.HostWritten(v) {
			continue
		}
		next, err := w.writeOne(ctx, zonepath, in, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			next = time.Now().Add(refreshPause)
		}
		if w.refreshAt.IsZero() || next.Before(w.refreshAt) {
			w.refreshAt = next
		}
	}
	if len(errs) > 0 {
		return &fault{"", "FailedMount", utilerrors.NewAggregate(errs)}
	}
	return nil
}

// writeOne brings one volume up to date and returns when to do so again.
func (w *worker) writeOne(ctx context.Context, zonepath *os.Root, in translate.Input, v corev1.Volume) (time.Time, error) {
	content, err := translate.VolumeFiles(in, v, tokens{ctx, w.p.c.Cluster})
	if err != nil {
		return time.Time{}, err
	}
	dir, err := zonepath.OpenRoot(path.Join(translate.VolumesDir, v.Name))
	if err != nil {
		return time.Time{}, err
	}
	err = writeVolume(dir, content.Files, fsGroup(in.Pod))
	if err = errors.Join(err, dir.Close()); err != nil {
		return time.Time{}, err
	}
	next := time.Now().Add(refreshEvery + rand.N(refreshEvery/2))
	if !content.Refresh.IsZero() && content.Refresh.Before(next) {
		next = content.Refresh
	}
	if soon := time.Now().Add(refreshPause); next.Before(soon) {
		next = soon
	}
	return next, nil
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
		if err := writeInto(dir, path.Join(fresh, name), f); err != nil {
			return err
		}
	}
	if group != nil {
		if err := giveToGroup(dir, fresh, int(*group)); err != nil {
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

func writeInto(dir *os.Root, name string, f translate.File) error {
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := replaceFile(dir, name, f.Data, fs.FileMode(f.Mode)); err != nil {
		return err
	}
	if f.User != nil {
		return dir.Chown(name, int(*f.User), -1)
	}
	return nil
}

// What a group gets in a volume that it cannot write to, as from a kubelet.
const (
	groupFile = fs.FileMode(0o440)
	groupDir  = fs.FileMode(0o550) | fs.ModeSetgid
)

// giveToGroup makes group the group of a volume's root and of all that is below
// its directory fresh, which nobody sees yet.
func giveToGroup(dir *os.Root, fresh string, group int) error {
	give := func(name string, e fs.DirEntry) error {
		if err := dir.Chown(name, -1, group); err != nil {
			return err
		}
		info, err := dir.Lstat(name) // changing the group has taken bits away
		if err != nil {
			return err
		}
		mode := info.Mode() | groupFile
		if e.IsDir() {
			mode |= groupDir
		}
		return dir.Chmod(name, mode)
	}
	err := fs.WalkDir(dir.FS(), fresh, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return give(name, e)
	})
	if err != nil {
		return err
	}
	root, err := dir.Stat(".")
	if err != nil {
		return err
	}
	return give(".", fs.FileInfoToDirEntry(root))
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
