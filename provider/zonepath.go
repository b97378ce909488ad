package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// rootDirs are the directories of a pod zone's root. Mount points must be
// there before zoneadm makes the zone ready.
var rootDirs = []string{
	"bin", "c", "dev", "e", "etc", "lib", "native", "proc", "reddwarf/logs", "reddwarf/run", "reddwarf/spec",
	"sbin", "system/contract", "system/object", "tmp", "usr/bin", "usr/lib", "usr/sbin", "v", "var/run", "var/tmp",
}

// rootLinks lead every name under which zlogin(1) looks for a shell, and the
// name under which the agent calls it, to process 1's own program.
var rootLinks = map[string]string{
	"bin/sh": "../sbin/init", "bin/su": "../sbin/init",
	"sbin/podinit": "init", "sbin/sh": "init", "sbin/su": "init",
	"usr/bin/sh": "../../sbin/init", "usr/bin/su": "../../sbin/init",
	"usr/sbin/sh": "../../sbin/init",
}

// rootFiles are the files of a pod zone's root. The program is mounted over
// sbin/init, so it must exist.
var rootFiles = map[string]rootFile{
	"sbin/init":  {"", 0o755},
	"etc/mnttab": {"", 0o444}, // a mount point that is no directory
	"etc/passwd": {"root:x:0:0:root:/:/bin/sh\n", 0o644},
	"etc/group":  {"root:x:0:\n", 0o644},
}

type rootFile struct {
	text string
	mode fs.FileMode
}

// writeFiles makes everything below the zone path that the zone finds when it
// boots. It runs only while the zone does not: the root is then the agent's
// alone, but what a former boot wrote is still resolved below it only.
func (w *worker) writeFiles(ctx context.Context) error {
	in, err := w.input(ctx)
	if err != nil {
		return err
	}
	if in.Node, err = w.p.withDomain(ctx, in.Node); err != nil {
		return err
	}
	for _, m := range translate.MissingReferences(in.Pod, in.Objects) {
		w.event(m.Container, corev1.EventTypeWarning, m.Reason(), "%s", m.Message())
	}
	spec, err := translate.Spec(in, w.attempts(), w.dueAtBoot())
	if err != nil {
		return configFault("", err)
	}
	zonepath, err := os.OpenRoot(w.datasets.ZonePath)
	if err != nil {
		return fmt.Errorf("zone path: %w", err)
	}
	defer zonepath.Close() //nolint:errcheck // only a handle
	if !w.have.root {
		if err := w.writeRoot(zonepath, in); err != nil {
			return fmt.Errorf("zone root: %w", err)
		}
	}
	if err := makeEmptyDirs(zonepath, in); err != nil {
		return fmt.Errorf("emptyDir: %w", err)
	}
	if err := w.writeSpec(zonepath, in, spec); err != nil {
		return fmt.Errorf("zone spec: %w", err)
	}
	if err := w.writeVolumes(ctx, zonepath, in); err != nil {
		return err
	}
	if err := w.linkLogs(); err != nil {
		return err
	}
	w.autostart = map[string]int{}
	for _, c := range spec.Containers {
		if c.Start {
			w.autostart[c.Name] = c.Attempt
		}
	}
	w.have.files = true
	return nil
}

// attempts returns the decided attempt of each container.
func (w *worker) attempts() func(string) int {
	w.mu.Lock()
	st := w.st.Clone()
	w.mu.Unlock()
	return func(name string) int {
		if r := st.Container(name); r != nil {
			return r.Attempt
		}
		return 0
	}
}

// dueAtBoot tells which containers podinit starts by itself: those that are
// due and whose turn it is.
func (w *worker) dueAtBoot() func(string) bool {
	w.mu.Lock()
	st, pod := w.st.Clone(), w.pod
	w.mu.Unlock()
	now := time.Now()
	due := map[string]bool{}
	for _, r := range turn(pod, &st, func(string) bool { return false }) {
		due[r.Name] = r.Phase != podinit.Exited && !r.NotBefore.After(now)
	}
	return func(name string) bool { return due[name] }
}

func (w *worker) writeRoot(zonepath *os.Root, in translate.Input) error {
	dirs := []string{translate.SpecDir, translate.RunDir, translate.LogDir, translate.VolumesDir, "root"}
	zone := in.Brand != translate.BrandHost // a host pod's root holds its containers' roots and nothing else
	if zone {
		for _, d := range rootDirs {
			dirs = append(dirs, path.Join("root", d))
		}
	}
	for _, c := range translate.AllContainers(in.Pod) {
		dirs = append(dirs, path.Join("root", podinit.ContainerDir, c.Name), path.Join(translate.LogDir, c.Name))
	}
	files := maps.Clone(rootFiles)
	for _, v := range in.Pod.Spec.Volumes {
		point := path.Join(podinit.VolumeDir, v.Name)
		if translate.HasSource(v) && !in.Shown[v.Name].Dir {
			files[point[1:]] = rootFile{"", 0o644}
			continue
		}
		dirs = append(dirs, path.Join("root", point))
		if translate.HostWritten(v) {
			dirs = append(dirs, path.Join(translate.VolumesDir, v.Name))
		}
	}
	for _, d := range dirs {
		if err := zonepath.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if !zone {
		return nil
	}
	if err := zonepath.Chmod("root/tmp", 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for name, f := range files {
		if err := replaceFile(zonepath, path.Join("root", name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for name, target := range rootLinks {
		name = path.Join("root", name)
		if have, err := zonepath.Readlink(name); err == nil && have == target {
			continue
		}
		if err := zonepath.RemoveAll(name); err != nil {
			return err
		}
		if err := zonepath.Symlink(target, name); err != nil {
			return err
		}
	}
	return nil
}

// makeEmptyDirs makes the emptyDirs that are plain directories. What is in one
// is the zone's: one that is there is left alone.
func makeEmptyDirs(zonepath *os.Root, in translate.Input) error {
	if err := zonepath.MkdirAll(translate.EmptyDir, 0o755); err != nil {
		return err
	}
	for _, v := range in.Pod.Spec.Volumes {
		if !translate.HasDirectory(v) {
			continue
		}
		// Made aside first, so that one that is there is complete.
		name, temp := path.Join(translate.EmptyDir, v.Name), path.Join(translate.EmptyDir, "."+v.Name)
		if _, err := zonepath.Lstat(name); err == nil {
			continue
		}
		if err := zonepath.MkdirAll(temp, 0o777); err != nil {
			return err
		}
		if err := zonepath.Chmod(temp, translate.EmptyDirMode(v)); err != nil {
			return err
		}
		if err := zonepath.Rename(temp, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) writeSpec(zonepath *os.Root, in translate.Input, spec podinit.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	files, notes, err := translate.SpecFiles(in)
	if err != nil {
		return err
	}
	for _, n := range notes {
		w.event(nil, corev1.EventTypeWarning, n.Reason, "%s", n.Message)
	}
	files[podinit.SpecFile] = data
	for name, data := range files {
		if err := replaceFile(zonepath, path.Join(translate.SpecDir, name), data, 0o644); err != nil {
			return err
		}
	}
	// A state of an earlier boot must not be taken for one of this.
	err = zonepath.Remove(path.Join(translate.RunDir, podinit.StateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// replaceFile puts a file in place by a rename, so that nobody sees half of it
// and a link in its place is replaced, not followed. A file that has the
// content already is left alone.
func replaceFile(root *os.Root, name string, data []byte, mode fs.FileMode) error {
	if same(root, name, data, mode) {
		return nil
	}
	temp := path.Join(path.Dir(name), "."+path.Base(name)+".new")
	if err := root.RemoveAll(temp); err != nil {
		return err
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return root.Rename(temp, name)
}

func same(root *os.Root, name string, data []byte, mode fs.FileMode) bool {
	info, err := root.Lstat(name)
	if err != nil || info.Mode() != mode || info.Size() != int64(len(data)) {
		return false
	}
	have, err := root.ReadFile(name)
	return err == nil && bytes.Equal(have, data)
}

// logLink is where log shippers look for the pod's logs.
func (w *worker) logLink() string {
	return filepath.Join(w.p.c.LogLinks, w.namespace+"_"+w.name+"_"+w.uid)
}

// linkLogs is what makes the logs of a pod easy to find on the host. The name
// of a pod may be too long for it, which costs the link and nothing else.
func (w *worker) linkLogs() error {
	if w.p.c.LogLinks == "" {
		return nil
	}
	target := filepath.Join(w.datasets.ZonePath, translate.LogDir)
	if have, err := os.Readlink(w.logLink()); err == nil && have == target {
		return nil
	}
	if err := os.MkdirAll(w.p.c.LogLinks, 0o755); err != nil {
		return fmt.Errorf("log link: %w", err)
	}
	if err := os.Symlink(target, w.logLink()); err != nil {
		w.p.c.Log.Warnf("pod %s/%s: its logs are in %s only: %v", w.namespace, w.name, target, err)
	}
	return nil
}

func (w *worker) unlinkLogs() {
	if w.p.c.LogLinks == "" {
		return
	}
	if err := os.Remove(w.logLink()); err != nil && !errors.Is(err, fs.ErrNotExist) && len(filepath.Base(w.logLink())) < 256 {
		w.p.c.Log.Warnf("pod %s/%s: %v", w.namespace, w.name, err)
	}
}
