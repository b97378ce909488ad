package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// newRoutes returns what the API does. There are no other paths.
func (s *Server) newRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serveLogs)
	for _, method := range []string{"GET", "POST"} { // a WebSocket begins with GET
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", s.serveExec)
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", s.serveExec)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", s.serveAttach)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", s.serveAttach)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", s.servePortForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.servePortForward)
	}
	mux.HandleFunc("GET /pods", s.servePods)
	mux.HandleFunc("GET /pods/{$}", s.servePods)
	mux.HandleFunc("GET /runningpods", s.serveRunningPods)
	mux.HandleFunc("GET /runningpods/{$}", s.serveRunningPods)
	mux.HandleFunc("GET /stats/summary", s.serveStats)
	mux.HandleFunc("GET /stats/summary/{$}", s.serveStats)
	mux.HandleFunc("GET /metrics/resource", s.serveResourceMetrics)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	if s.config.Metrics != nil {
		mux.Handle("GET /metrics", s.config.Metrics)
	}
	if s.config.Configz != nil {
		mux.HandleFunc("GET /configz", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, s.config.Configz()) })
	}
	return mux
}

func (s *Server) servePods(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, podList(s.config.Pods.Pods(), func(*corev1.Pod) bool { return true }))
}

func (s *Server) serveRunningPods(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, podList(s.config.Pods.Pods(), func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }))
}

func podList(pods []*corev1.Pod, want func(*corev1.Pod) bool) corev1.PodList {
	list := corev1.PodList{
		TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
		Items:    []corev1.Pod{},
	}
	for _, p := range pods {
		if want(p) {
			list.Items = append(list.Items, *p)
		}
	}
	return list
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if s.config.Healthy != nil {
		if err := s.config.Healthy(r.Context()); err != nil {
			http.Error(w, "unhealthy: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprint(w, "ok") //nolint:errcheck // the client may be gone
}

// target is what a request is about.
type target struct {
	namespace, pod, container string
	uid                       types.UID
}

// find returns what r names, if this node has it. The container is only looked
// up for paths that have one.
func (s *Server) find(r *http.Request) (target, error) {
	t := target{
		namespace: r.PathValue("namespace"), pod: r.PathValue("pod"), container: r.PathValue("container"),
		uid: types.UID(r.PathValue("uid")),
	}
	for _, p := range s.config.Pods.Pods() {
		if p.Namespace != t.namespace || p.Name != t.pod || t.uid != "" && p.UID != t.uid {
			continue
		}
		if t.container != "" && !hasContainer(p, t.container) {
			return t, errdefs.NotFoundf("container %q not found in pod %q", t.container, t.pod)
		}
		t.uid = p.UID
		return t, nil
	}
	return t, errdefs.NotFoundf("pod %q does not exist", t.pod)
}

func hasContainer(p *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range list {
			if c.Name == name {
				return true
			}
		}
	}
	for _, c := range p.Spec.EphemeralContainers {
		if c.Name == name {
			return true
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, r *http.Request, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(data) //nolint:errcheck // the client may be gone
}

// writeError answers with the status of err, and its text, which kubectl shows.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	switch {
	case errdefs.IsNotFound(err):
		status = http.StatusNotFound
	case errdefs.IsInvalidInput(err):
		status = http.StatusBadRequest
	default:
		vklog.G(r.Context()).WithError(err).Warnf("kubelet API: %s %s", r.Method, r.URL.Path)
	}
	http.Error(w, err.Error(), status)
}
