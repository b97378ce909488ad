package objects

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

// api is an API server with one ConfigMap, which refuses what the Node
// authorizer refuses: reading without a name.
type api struct {
	t *testing.T

	mu      sync.Mutex
	value   string
	watches []chan string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const list = "/api/v1/namespaces/ns/configmaps"
	q := r.URL.Query()
	switch {
	case r.URL.Path == list+"/conf":
		a.mu.Lock()
		defer a.mu.Unlock()
		a.write(w, a.object(a.value))
	case strings.HasPrefix(r.URL.Path, list+"/"):
		w.WriteHeader(http.StatusNotFound)
		a.write(w, apierrors.NewNotFound(corev1.Resource("configmaps"), "x").Status())
	case r.URL.Path != list || q.Get("fieldSelector") != "metadata.name=conf":
		a.t.Errorf("request that a node may not make: %s", r.URL)
		w.WriteHeader(http.StatusForbidden)
	case q.Get("watch") == "":
		a.mu.Lock()
		defer a.mu.Unlock()
		a.write(w, &corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.ConfigMap{*a.object(a.value)}})
	default:
		a.watch(w, r, q.Get("sendInitialEvents") == "true")
	}
}

func (a *api) watch(w http.ResponseWriter, r *http.Request, initial bool) {
	changes := make(chan string, 8)
	a.mu.Lock()
	a.watches = append(a.watches, changes)
	value := a.value
	a.mu.Unlock()
	event := func(kind string, o any) {
		a.write(w, map[string]any{"type": kind, "object": o})
		w.(http.Flusher).Flush()
	}
	if initial {
		event("ADDED", a.object(value))
		mark := a.object("")
		mark.Data = nil
		mark.Annotations = map[string]string{"k8s.io/initial-events-end": "true"}
		event("BOOKMARK", mark)
	} else {
		w.(http.Flusher).Flush()
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case v := <-changes:
			event("MODIFIED", a.object(v))
		}
	}
}

func (a *api) set(v string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = v
	for _, w := range a.watches {
		w <- v
	}
}

func (a *api) object(v string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "conf", UID: "u", ResourceVersion: "1" + v},
		Data:       map[string]string{"k": v},
	}
}

func (a *api) write(w http.ResponseWriter, o any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(o); err != nil {
		a.t.Log(err) // the client has gone
	}
}

func user(uid types.UID) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: uid},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{
			ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}},
		}}}}},
	}
}

func TestWatchesByNameOnly(t *testing.T) {
	a := &api{t: t, value: "1"}
	server := httptest.NewServer(a)
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan Key, 16)
	c := New(client, func(k Key) { changed <- k })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	c.Register(user("a"))
	c.Register(user("b"))

	want := Key{ConfigMap, "ns", "conf"}
	await := func() {
		t.Helper()
		select {
		case k := <-changed:
			if k != want {
				t.Fatalf("changed %v, want %v", k, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no change was reported")
		}
	}
	await()
	if o, err := c.ConfigMap(t.Context(), "ns", "conf"); err != nil || o.Data["k"] != "1" {
		t.Fatalf("ConfigMap = %v, %v", o, err)
	}
	a.set("2")
	await()
	if o, err := c.ConfigMap(t.Context(), "ns", "conf"); err != nil || o.Data["k"] != "2" {
		t.Fatalf("after the change: %v, %v", o, err)
	}
	if _, err := c.ConfigMap(t.Context(), "ns", "other"); !apierrors.IsNotFound(err) {
		t.Errorf("an object that is not there: %v, want NotFound", err)
	}

	c.Unregister("a")
	if c.entries[want] == nil {
		t.Error("the watch ended while a pod needs it")
	}
	c.Unregister("b")
	if len(c.entries) != 0 {
		t.Error("the watch did not end with its last pod")
	}
	cancel()
	<-done
}

func TestReferences(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	p.Spec.Volumes = []corev1.Volume{
		{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
		{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
		}}}},
	}
	p.Spec.InitContainers = []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"},
	}}}}}
	got := References(p)
	want := []Key{{ConfigMap, "ns", "kube-root-ca.crt"}, {Secret, "ns", "pull"}, {Secret, "ns", "s"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("References = %v, want %v", got, want)
	}
}

func TestTokenIsReplacedBeforeItExpires(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	client := fake.NewClientset()
	issued, fail := 0, false
	client.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if fail {
			return true, nil, errors.New("the API server is away")
		}
		issued++
		req := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest)
		if ref := req.Spec.BoundObjectRef; ref == nil || ref.Kind != "Pod" || ref.UID != "a" {
			t.Errorf("the token is not bound to the pod: %+v", ref)
		}
		life := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{
			Token: "t" + string(rune('0'+issued)), ExpirationTimestamp: metav1.NewTime(now.Add(life)),
		}}, nil
	})
	tokens := NewTokens(client)
	tokens.now = func() time.Time { return now }
	pod := user("a")
	token := func() (string, time.Time) {
		t.Helper()
		s, refresh, err := tokens.Token(t.Context(), pod, "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return s, refresh
	}

	first, refresh := token()
	if latest := now.Add(48 * time.Minute); first != "t1" || refresh.After(latest) || refresh.Before(latest.Add(-tokenJitter)) {
		t.Errorf("token %s is to be replaced at %v, want shortly before %v", first, refresh, latest)
	}
	now = now.Add(time.Minute)
	if s, _ := token(); s != "t1" {
		t.Errorf("replaced after a minute: %s", s)
	}
	now = now.Add(48 * time.Minute)
	fail = true
	if s, again := token(); s != "t1" || !again.Equal(now.Add(tokenRetry)) {
		t.Errorf("with the API server away: %s, again at %v", s, again)
	}
	fail = false
	if s, _ := token(); s != "t2" {
		t.Errorf("not replaced: %s", s)
	}
	fail = true
	now = now.Add(2 * time.Hour)
	if _, _, err := tokens.Token(t.Context(), pod, "", time.Hour); err == nil {
		t.Error("an expired token was given out")
	}
	tokens.Forget("a")
	if len(tokens.held) != 0 {
		t.Error("tokens of a pod that is gone are kept")
	}
}

// TestImmutableObjectsAreNotWatched ends the watch of an object that will never
// change, and still has it.
func TestImmutableObjectsAreNotWatched(t *testing.T) {
	yes := true
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "conf"}, Immutable: &yes, Data: map[string]string{"k": "v"},
	})
	changed := make(chan Key, 8)
	c := New(client, func(k Key) { changed <- k })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	c.Register(user("a"))
	<-changed
	c.mu.Lock()
	informer := c.entries[Key{ConfigMap, "ns", "conf"}].informer
	c.mu.Unlock()
	for !informer.IsStopped() {
		select {
		case <-t.Context().Done():
			t.Fatal("the watch goes on")
		case <-time.After(5 * time.Millisecond):
		}
	}
	o, err := c.ConfigMap(t.Context(), "ns", "conf")
	if err != nil || o.Data["k"] != "v" {
		t.Errorf("read %+v, %v", o, err)
	}
	c.Unregister("a")
	cancel()
	<-done
}
