package provider

import (
	"context"
	"time"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// watcher follows the podinit of one boot of a zone. The worker that started
// it stops it.
type watcher struct {
	zone   int
	cancel context.CancelFunc
	done   chan struct{}
}

// The pauses between tries to reach podinit: short at first, because a zone
// counts as running some milliseconds before its process 1 listens.
const (
	firstRedial = 5 * time.Millisecond
	maxRedial   = 5 * time.Second
	doubtful    = time.Second // from here on the zone may well be gone
)

func startWatcher(ctx context.Context, w *worker, z zones.Zone) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	f := &watcher{zone: z.ID, cancel: cancel, done: make(chan struct{})}
	channel := w.p.c.Dial(z)
	go func() {
		defer close(f.done)
		f.follow(ctx, w, channel)
	}()
	return f
}

func (f *watcher) stop() {
	f.cancel()
	<-f.done
}

func (f *watcher) follow(ctx context.Context, w *worker, channel Podinit) {
	pause := firstRedial
	for {
		heard := false
		err := channel.Watch(ctx, func(s podinit.State) {
			pause, heard = firstRedial, true
			w.report(ctx, s)
		})
		if ctx.Err() != nil {
			return
		}
		if heard || pause >= doubtful {
			w.p.survey.doubt() // podinit ends with its zone
		}
		if pause >= maxRedial {
			w.p.c.Log.Warnf("pod %s/%s: podinit cannot be reached: %v", w.namespace, w.name, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, maxRedial)
	}
}

// report takes in what podinit says, unless it speaks of another pod.
func (w *worker) report(ctx context.Context, s podinit.State) {
	if s.PodUID != w.uid {
		w.p.c.Log.Errorf("pod %s/%s: its zone says it is pod %q; ignored", w.namespace, w.name, s.PodUID)
		return
	}
	w.mu.Lock()
	if ctx.Err() == nil {
		w.live = &s
	}
	w.mu.Unlock()
	w.poke()
}
