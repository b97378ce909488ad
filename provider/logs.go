package provider

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/server"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Logs returns the log of a container's present attempt, or with o.Previous of
// the one before. The caller closes it.
func (p *Provider) Logs(ctx context.Context, namespace, pod, container string, o server.LogOptions) (io.ReadCloser, error) {
	w := p.named(namespace, pod)
	if w == nil {
		return nil, errNoPod(namespace, pod)
	}
	container, err := containerNamed(w.object(), container)
	if err != nil {
		return nil, err
	}
	attempt, err := w.logAttempt(container, o.Previous)
	if err != nil {
		return nil, err
	}
	options := logs.Options{
		Tail: o.Tail, Since: o.Since, Stream: logs.Stream(o.Stream), Timestamps: o.Timestamps, Follow: o.Follow,
	}
	if o.LimitBytes != nil {
		options.LimitBytes = *o.LimitBytes
	}
	ctx, cancel := context.WithCancel(ctx)
	r, out := io.Pipe()
	l := &logStream{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	ended := make(chan struct{})
	options.Ended = ended
	dir := w.logDir()
	go func() {
		defer close(l.done)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			w.awaitEnd(ctx, container, attempt)
			close(ended)
		}()
		err := logs.Read(ctx, dir, logs.Path(container, attempt), options, out)
		cancel()
		<-watched
		out.CloseWithError(err) //nolint:errcheck // it never fails
	}()
	return l, nil
}

// logDir is where the pod's logs are on the host.
func (w *worker) logDir() string { return filepath.Join(w.p.c.Storage.PodDir(w.uid), translate.LogDir) }

// logStream is a log that is being read. Closing it ends the reading.
type logStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close implements io.Closer. It returns when nothing of the reading is left.
func (l *logStream) Close() error {
	l.cancel()
	err := l.PipeReader.Close()
	<-l.done
	return err
}

// logAttempt returns which attempt's log is wanted: the newest that has run.
func (w *worker) logAttempt(name string, previous bool) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.st.Container(name)
	var ran []int // attempts, newest first
	if r != nil && (r.Phase == podinit.Running || r.Phase == podinit.Exited) {
		ran = append(ran, r.Attempt)
	}
	if r != nil && r.Last != nil {
		ran = append(ran, r.Last.Attempt)
	}
	switch {
	case previous && len(ran) < 2:
		return 0, errdefs.InvalidInputf("previous terminated container %q in pod %q not found", name, w.name)
	case previous:
		return ran[1], nil
	case len(ran) == 0:
		return 0, errdefs.InvalidInputf("container %q in pod %q is waiting to start: %s", name, w.name, w.waitingReasonLocked(name))
	}
	return ran[0], nil
}

func (w *worker) waitingReasonLocked(name string) string {
	if why, ok := w.waiting[name]; ok {
		return why.Reason
	}
	return translate.ReasonContainerCreating
}

// awaitEnd returns when an attempt of a container is over, or ctx is.
func (w *worker) awaitEnd(ctx context.Context, name string, attempt int) {
	for {
		w.mu.Lock()
		over, changed := w.erased || attemptOver(&w.st, name, attempt), w.changed
		w.mu.Unlock()
		if over {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func attemptOver(st *ledger.State, name string, attempt int) bool {
	r := st.Container(name)
	return r == nil || r.Attempt != attempt || r.Phase == podinit.Exited
}

// setLocked makes st the record and tells those who wait for a change of it.
func (w *worker) setLocked(st ledger.State) {
	w.st = st
	close(w.changed)
	w.changed = make(chan struct{})
}

// The part of a log that stands in for a termination message, as a kubelet
// takes it.
const (
	fallbackLines = 80
	fallbackBytes = 2048
)

// explain gives attempts that failed without a message the end of their log,
// where the pod wants that.
func (w *worker) explain(pod *corev1.Pod, before ledger.State, after *ledger.State) {
	for _, c := range translate.EveryContainer(pod) {
		was, is := before.Container(c.Name), after.Container(c.Name)
		if c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError || was == nil || is == nil ||
			was.Phase == podinit.Exited || is.Exit == nil || is.Exit.Code == 0 || is.Exit.Message != "" {
			continue
		}
		var out bytes.Buffer
		lines := int64(fallbackLines)
		err := logs.Read(context.Background(), w.logDir(), logs.Path(c.Name, is.Exit.Attempt), logs.Options{Tail: &lines}, &out)
		if err != nil {
			w.p.c.Log.Warnf("pod %s/%s: the log of %s cannot explain its end: %v", w.namespace, w.name, c.Name, err)
			continue
		}
		text := out.Bytes()
		if len(text) > fallbackBytes {
			text = text[len(text)-fallbackBytes:]
		}
		is.Exit.Message = strings.ToValidUTF8(string(text), "\uFFFD")
	}
}
