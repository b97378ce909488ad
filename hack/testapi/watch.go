package testapi

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// watcher is one watch that goes on.
type watcher struct {
	selector
	kind schema.GroupVersionKind

	mu    sync.Mutex
	queue []frame
	wake  chan struct{} // holds one
	ended chan struct{}
}

type frame struct {
	verb string
	o    runtime.Object
}

func (w *watcher) add(verb string, o runtime.Object) {
	w.mu.Lock()
	w.queue = append(w.queue, frame{verb, o})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) end() { close(w.ended) }

// take returns what is to be sent.
func (w *watcher) take() []frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// watch streams changes, after the whole list if the client asks for that.
// Watches from an older version than the present one are told to begin anew.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, kind schema.GroupVersionKind) {
	sel, err := selectorOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wt := &watcher{selector: sel, kind: kind, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	q := r.URL.Query()
	s.mu.Lock()
	from, _ := strconv.Atoi(q.Get("resourceVersion")) // "" and "0" are any
	initial := q.Get("sendInitialEvents") == "true"
	switch {
	case initial:
		for _, o := range s.chosen(kind, sel) {
			wt.add("ADDED", o)
		}
		wt.add("BOOKMARK", s.bookmark(kind))
	case from > 0 && from < s.version:
		wt.add("ERROR", &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone, Message: "too old resource version"})
	}
	s.watchers[wt] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, wt)
		s.mu.Unlock()
	}()

	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	out := protobuf.LengthDelimitedFramer.NewFrameWriter(w)
	for {
		for _, f := range wt.take() {
			if _, err := out.Write(encode(f)); err != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-wt.wake:
		case <-wt.ended:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// bookmark ends the list of a watch that began with one. s.mu is held.
func (s *Server) bookmark(kind schema.GroupVersionKind) runtime.Object {
	o, err := scheme.Scheme.New(kind)
	if err != nil {
		panic(err) // kinds is wrong
	}
	o.GetObjectKind().SetGroupVersionKind(kind)
	m := o.(metav1.Object)
	m.SetResourceVersion(strconv.Itoa(s.version))
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return o
}

func encode(f frame) []byte {
	var object, event bytes.Buffer
	if s, ok := f.o.(*metav1.Status); ok {
		s.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	}
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(f.o, &object); err != nil {
		panic(err) // an object that is no Kubernetes object
	}
	e := &metav1.WatchEvent{Type: f.verb, Object: runtime.RawExtension{Raw: object.Bytes()}}
	if err := protobuf.NewRawSerializer(scheme.Scheme, scheme.Scheme).Encode(e, &event); err != nil {
		panic(err)
	}
	return event.Bytes()
}
