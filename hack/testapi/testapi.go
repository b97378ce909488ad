// Package testapi is an API server of one evening: it keeps objects in memory,
// lists and watches them as kube-apiserver does, in protobuf and with streamed
// lists, and takes events. Tests and measurements of programs that only read use
// it where a whole cluster would add nothing but time; it refuses everything
// else.
package testapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

// kinds are what the server has, by path.
var kinds = map[string]schema.GroupVersionKind{
	"/api/v1/services": corev1.SchemeGroupVersion.WithKind("Service"),
	"/api/v1/nodes":    corev1.SchemeGroupVersion.WithKind("Node"),
	"/apis/discovery.k8s.io/v1/endpointslices": {Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
	"/apis/networking.k8s.io/v1/servicecidrs":  {Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDR"},
}

// Object is what the server keeps.
type Object interface {
	metav1.Object
	runtime.Object
}

// Server is a running server. Close ends it.
type Server struct {
	URL string

	http *httptest.Server

	mu       sync.Mutex
	version  int
	away     bool
	objects  map[schema.GroupVersionKind]map[string]Object
	watchers map[*watcher]bool
	events   []eventsv1.Event
	refused  []string
}

// New starts a server on a free port of the loopback.
func New(objects ...Object) *Server {
	s := &Server{version: 1, objects: map[schema.GroupVersionKind]map[string]Object{}, watchers: map[*watcher]bool{}}
	for _, o := range objects {
		s.Set(o)
	}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	return s
}

// Close ends the server and all connections.
func (s *Server) Close() {
	s.Away(true)
	s.http.Close()
}

// Away makes the server one that cannot be reached, or brings it back.
func (s *Server) Away(away bool) {
	s.mu.Lock()
	s.away = away
	if away {
		for w := range s.watchers {
			w.end()
		}
		clear(s.watchers)
	}
	s.mu.Unlock()
	if away {
		s.http.CloseClientConnections()
	}
}

// Set adds an object or replaces it.
func (s *Server) Set(o Object) { s.change(o, false) }

// Delete removes an object.
func (s *Server) Delete(o Object) { s.change(o, true) }

func (s *Server) change(o Object, remove bool) {
	known, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		panic(err) // a test's mistake
	}
	o = o.DeepCopyObject().(Object)
	o.GetObjectKind().SetGroupVersionKind(known[0])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	key := o.GetNamespace() + "/" + o.GetName()
	if s.objects[known[0]] == nil {
		s.objects[known[0]] = map[string]Object{}
	}
	verb := "ADDED"
	switch _, there := s.objects[known[0]][key]; {
	case remove:
		verb = "DELETED"
		delete(s.objects[known[0]], key)
	case there:
		verb = "MODIFIED"
		s.objects[known[0]][key] = o
	default:
		s.objects[known[0]][key] = o
	}
	for w := range s.watchers {
		if w.kind == known[0] && w.wants(o) {
			w.add(verb, o)
		}
	}
}

// Events returns the events that programs have written.
func (s *Server) Events() []eventsv1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Refused returns the requests that the server did not know.
func (s *Server) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	kind, known := kinds[r.URL.Path]
	switch {
	case away:
		panic(http.ErrAbortHandler)
	case known && r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		s.watch(w, r, kind)
	case known && r.Method == http.MethodGet:
		s.list(w, r, kind)
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/apis/events.k8s.io/v1/namespaces/") && strings.HasSuffix(r.URL.Path, "/events"):
		s.event(w, r)
	default:
		s.mu.Lock()
		s.refused = append(s.refused, r.Method+" "+r.URL.String())
		s.mu.Unlock()
		http.NotFound(w, r)
	}
}

func (s *Server) event(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var e eventsv1.Event
	body, err := readAll(r)
	if err == nil {
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, &e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.events = append(s.events, e)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	e.SetGroupVersionKind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	json.NewEncoder(w).Encode(e) //nolint:errcheck // the client notices
}

// selector is what of a request chooses objects.
type selector struct {
	label labels.Selector
	field fields.Selector
}

func selectorOf(r *http.Request) (selector, error) {
	label, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return selector{}, err
	}
	field, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	return selector{label, field}, err
}

func (sel selector) wants(o Object) bool {
	return sel.label.Matches(labels.Set(o.GetLabels())) && sel.field.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()})
}

// chosen returns the objects of a kind in a steady order. s.mu is held.
func (s *Server) chosen(kind schema.GroupVersionKind, sel selector) []runtime.Object {
	var out []runtime.Object
	for _, key := range slices.Sorted(maps.Keys(s.objects[kind])) {
		if o := s.objects[kind][key]; sel.wants(o) {
			out = append(out, o)
		}
	}
	return out
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, kind schema.GroupVersionKind) {
	sel, err := selectorOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list, err := scheme.Scheme.New(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err != nil {
		panic(err) // kinds is wrong
	}
	s.mu.Lock()
	err = meta.SetList(list, s.chosen(kind, sel))
	list.(metav1.ListInterface).SetResourceVersion(strconv.Itoa(s.version))
	s.mu.Unlock()
	if err != nil {
		panic(err)
	}
	list.GetObjectKind().SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(list, w) //nolint:errcheck // the client notices
}

func readAll(r *http.Request) ([]byte, error) {
	const enough = 1 << 20
	body := make([]byte, 0, 4096)
	for {
		if len(body) > enough {
			return nil, fmt.Errorf("more than %d bytes", enough)
		}
		part := make([]byte, 4096)
		n, err := r.Body.Read(part)
		body = append(body, part[:n]...)
		if err != nil {
			return body, nil //nolint:nilerr // the end, or what the decoder will complain of
		}
	}
}
