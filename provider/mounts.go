package provider

import (
	"context"
	"fmt"
	"time"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage/mounts"
)

// mountVolumes mounts what the pod's volumes show of the host and of servers.
// What a claim is bound to is asked for at every try: a node may not watch it.
func (w *worker) mountVolumes(ctx context.Context) error {
	sources, err := translate.Sources(w.object(), w.p.labelled(), reader{ctx, w.p.c.Cluster})
	if err != nil {
		return &fault{"", "FailedMount", err}
	}
	shown := map[string]translate.Shown{}
	for _, s := range sources {
		got, err := w.show(ctx, s)
		if err != nil {
			return &fault{"", "FailedMount", fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", s.Name, err)}
		}
		shown[s.Volume] = translate.Shown{Point: got.Point, Dir: got.Dir, ReadOnly: s.ReadOnly, Group: s.Group}
	}
	w.shown, w.have.mounts = shown, true
	return nil
}

func (w *worker) show(ctx context.Context, s translate.Source) (mounts.Shown, error) {
	if s.Root != "" {
		return w.p.c.Mounts.ShowPath(ctx, w.uid, s.Volume, mounts.Path{
			Root: s.Root, Name: s.Path, Kind: mounts.Kind(s.Type), ReadOnly: s.ReadOnly, Fixed: s.Fixed, Exclusive: s.Exclusive,
		})
	}
	return w.p.c.Mounts.ShowExport(ctx, w.uid, s.Volume, mounts.Export{
		Server: s.Server, Path: s.Export, Options: s.Options, ReadOnly: s.ReadOnly, Exclusive: s.Exclusive,
	})
}

// sweepMounts takes away what is mounted for pods that are gone, and exports
// that no pod came to show.
func (o orphans) sweepMounts(ctx context.Context, present map[string]bool) {
	uids, err := o.p.c.Mounts.Owners()
	if err != nil {
		o.p.c.Log.Warnf("mounts cannot be searched for orphans: %v", err)
		return
	}
	for _, uid := range uids {
		name := "mounts of " + uid
		if present[uid] || o.p.worker(uid) != nil || o.p.c.Lister.Has(uid) {
			continue
		}
		present[name] = true
		if !o.old(name) {
			continue
		}
		o.p.c.Log.Infof("the mounts of pod %s are removed: there is no such pod", uid)
		if err := o.p.c.Mounts.Hide(ctx, uid); err != nil {
			o.p.c.Log.Warnf("the mounts of pod %s: %v", uid, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := o.p.c.Mounts.ReleaseExports(ctx); err != nil {
		o.p.c.Log.Warnf("NFS exports that no pod shows: %v", err)
	}
}
