package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"reddwarf.io/reddwarf/network/ipam"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
)

const testUID = "0b7f1f8e-6f5c-4b8e-9a53-0d0f6a1c2b3d"

func testNode() translate.Node {
	return translate.Node{
		Name: "host1", HostIPs: []netip.Addr{netip.MustParseAddr("198.51.100.11")},
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, ClusterDomain: "cluster.local",
		Brands: []string{"lx"}, Podinit: map[string]string{"lx": "/opt/reddwarf/lib/podinit-linux"},
	}
}

func testPod(edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: testUID, ResourceVersion: "1", Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: "host1", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "web", Image: "web:1"}},
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
			}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

// fakeAPI is the API server's pods: it checks UIDs, keeps deleted pods until
// their grace is 0, and applies patches as the real one.
type fakeAPI struct {
	mu       sync.Mutex
	pods     map[string]*corev1.Pod
	version  int
	down     error
	statuses []corev1.PodStatus // every status that was written
}

type fakePods struct {
	corev1client.PodInterface // what is not implemented panics
	api                       *fakeAPI
	namespace                 string
}

var podResource = schema.GroupResource{Resource: "pods"}

func (a *fakeAPI) Pods(namespace string) corev1client.PodInterface {
	return fakePods{api: a, namespace: namespace}
}

func (a *fakeAPI) put(p *corev1.Pod) *corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.putLocked(p)
}

func (a *fakeAPI) putLocked(p *corev1.Pod) *corev1.Pod {
	a.version++
	p = p.DeepCopy()
	p.ResourceVersion = strconv.Itoa(a.version)
	a.pods[p.Namespace+"/"+p.Name] = p
	return p.DeepCopy()
}

func (a *fakeAPI) get(namespace, name string) (*corev1.Pod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.getLocked(namespace, name)
}

func (a *fakeAPI) getLocked(namespace, name string) (*corev1.Pod, error) {
	if a.down != nil {
		return nil, a.down
	}
	p, ok := a.pods[namespace+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(podResource, name)
	}
	return p.DeepCopy(), nil
}

// Get answers as the Node authorizer does: a pod that it does not know of this
// node is forbidden, not missing.
func (f fakePods) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Pod, error) {
	p, err := f.api.get(f.namespace, name)
	if apierrors.IsNotFound(err) {
		err = apierrors.NewForbidden(podResource, name, errors.New("no relationship found between node and this object"))
	}
	return p, err
}

// List takes only what a node may list: its own pods.
func (f fakePods) List(_ context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	selector, err := fields.ParseSelector(o.FieldSelector)
	if err != nil {
		return nil, err
	}
	if _, own := selector.RequiresExactMatch("spec.nodeName"); !own {
		return nil, apierrors.NewForbidden(podResource, "", errors.New("can only list pods with a spec.nodeName field selector"))
	}
	name, ok := selector.RequiresExactMatch("metadata.name")
	if !ok {
		return nil, fmt.Errorf("list by %q", o.FieldSelector)
	}
	p, err := f.api.get(f.namespace, name)
	if apierrors.IsNotFound(err) {
		return &corev1.PodList{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &corev1.PodList{Items: []corev1.Pod{*p}}, nil
}

func (f fakePods) Patch(_ context.Context, name string, _ types.PatchType, data []byte, _ metav1.PatchOptions, sub ...string) (*corev1.Pod, error) {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	have, err := f.api.getLocked(f.namespace, name)
	if err != nil {
		return nil, err
	}
	if len(sub) != 1 || sub[0] != "status" {
		return nil, fmt.Errorf("patch of %v", sub)
	}
	var meta struct{ Metadata struct{ UID types.UID } }
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, err
	}
	if meta.Metadata.UID != have.UID {
		return nil, apierrors.NewConflict(podResource, name, fmt.Errorf("uid %q", meta.Metadata.UID))
	}
	before, err := json.Marshal(have)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, data, corev1.Pod{})
	if err != nil {
		return nil, err
	}
	var p corev1.Pod
	if err := json.Unmarshal(after, &p); err != nil {
		return nil, err
	}
	f.api.statuses = append(f.api.statuses, p.Status)
	return f.api.putLocked(&p), nil
}

func (f fakePods) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	have, err := f.api.getLocked(f.namespace, name)
	if err != nil {
		return err
	}
	if o.Preconditions != nil && o.Preconditions.UID != nil && *o.Preconditions.UID != have.UID {
		return apierrors.NewConflict(podResource, name, fmt.Errorf("uid"))
	}
	if o.GracePeriodSeconds != nil && *o.GracePeriodSeconds == 0 {
		delete(f.api.pods, f.namespace+"/"+name)
		return nil
	}
	now := metav1.Now()
	have.DeletionTimestamp, have.DeletionGracePeriodSeconds = &now, o.GracePeriodSeconds
	f.api.putLocked(have)
	return nil
}

// Pod, Has and Synced make the API its own cache.
func (a *fakeAPI) Pod(namespace, name string) (*corev1.Pod, error) { return a.get(namespace, name) }

func (a *fakeAPI) Has(uid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if string(p.UID) == uid {
			return true
		}
	}
	return false
}

func (a *fakeAPI) Synced() bool { return true }

type apiLister struct{ *fakeAPI }

// fakeCluster is what pods refer to. It outlives agents.
type fakeCluster struct {
	mu      sync.Mutex
	maps    map[string]*corev1.ConfigMap // by name
	secrets map[string]*corev1.Secret
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	token   func() (string, time.Time, error) // nil for one that is always good

	forbidden map[string]error // secrets that the node may not read
}

func (c *fakeCluster) Register(*corev1.Pod) {}
func (c *fakeCluster) Unregister(types.UID) {}

func (c *fakeCluster) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.maps[name]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (c *fakeCluster) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.forbidden[name]; err != nil {
		return nil, err
	}
	if o, ok := c.secrets[name]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (c *fakeCluster) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.claims[name]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumeclaims"}, name)
}

func (c *fakeCluster) PersistentVolume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.volumes[name]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, name)
}

func (c *fakeCluster) Services(string) ([]*corev1.Service, error) { return nil, nil }

func (c *fakeCluster) Token(context.Context, *corev1.Pod, string, time.Duration) (string, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != nil {
		return c.token()
	}
	return "token-text", time.Now().Add(time.Hour), nil
}

// edit changes what the cluster has.
func (c *fakeCluster) edit(f func(*fakeCluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

// fakeEvents collects reasons.
type fakeEvents struct {
	mu      sync.Mutex
	reasons []string
}

func (e *fakeEvents) Event(o apiObject, kind, reason, message string) {
	e.Eventf(o, kind, reason, "%s", message)
}

func (e *fakeEvents) Eventf(_ apiObject, _, reason, format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasons = append(e.reasons, reason+": "+fmt.Sprintf(format, args...))
}

func (e *fakeEvents) AnnotatedEventf(o apiObject, _ map[string]string, kind, reason, format string, args ...any) {
	e.Eventf(o, kind, reason, format, args...)
}

type testLog struct{ t *testing.T }

func (l testLog) Infof(f string, a ...any)  { l.t.Logf("info: "+f, a...) }
func (l testLog) Warnf(f string, a ...any)  { l.t.Logf("warn: "+f, a...) }
func (l testLog) Errorf(f string, a ...any) { l.t.Logf("error: "+f, a...) }

// world is a host, an API server, and one agent after another.
type world struct {
	capacity corev1.ResourceList // of the node, from the next agent on; nil for testNode's

	// relieve removes what nobody needs, from the next agent on.
	relieve func(context.Context) error

	pressures []corev1.NodeConditionType

	// domain finds out the cluster's domain, from the next agent on; nil for testNode's.
	domain func(context.Context) (string, error)

	t       *testing.T
	host    *fakeHost
	api     *fakeAPI
	cluster *fakeCluster
	events  *fakeEvents
	data    string
	pool    *ipam.Pool

	p    *Provider
	kill context.CancelFunc
	done chan struct{}
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, host: newFakeHost(t), data: t.TempDir(), events: &fakeEvents{},
		api: &fakeAPI{pods: map[string]*corev1.Pod{}}, cluster: &fakeCluster{},
	}
	w.startAgent()
	t.Cleanup(w.killAgent)
	return w
}

// startAgent runs a new agent on the host and the records that are there.
func (w *world) startAgent() {
	w.t.Helper()
	store, err := ledger.Open(filepath.Join(w.data, "pods"))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.pool, err = ipam.New(netip.MustParsePrefix("10.244.1.0/24")); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := session{w.host, ctx}
	node := testNode()
	if w.capacity != nil {
		node.Capacity = w.capacity
	}
	if w.domain != nil {
		node.ClusterDomain = ""
	}
	w.p, err = New(Config{
		Node: node, Ledger: store, Zones: s, Host: machineSession{s}, Dial: s.dial, Storage: storageSession{s}, Mounts: s, Images: s, Links: s,
		Ports: s, Addresses: []Addresses{w.pool}, Slots: ipam.NewSlots(100), Cluster: w.cluster,
		Pods: w.api, Lister: apiLister{w.api}, Events: w.events, Log: testLog{w.t},
		ClusterDomain: w.domain, RelieveSpace: w.relieve,
		Pressures: func() []corev1.NodeConditionType { return w.pressures },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.kill, w.done = cancel, make(chan struct{})
	p, done := w.p, w.done
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
}

// relist tells a new provider of the pods that the API server has and it does
// not know, as virtual-kubelet does at its start.
func (w *world) relist() {
	w.t.Helper()
	w.api.mu.Lock()
	pods := slices.Collect(maps.Values(w.api.pods))
	w.api.mu.Unlock()
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || finished(pod.Status.Phase) {
			continue
		}
		if _, err := w.p.GetPod(w.t.Context(), pod.Namespace, pod.Name); err == nil {
			continue
		}
		if err := w.p.CreatePod(w.t.Context(), pod.DeepCopy()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// killAgent ends the agent where it stands.
func (w *world) killAgent() {
	w.kill()
	<-w.done
}

// create puts a pod into the API server and tells the provider, as
// virtual-kubelet does.
func (w *world) create(pod *corev1.Pod) *corev1.Pod {
	w.t.Helper()
	pod = w.api.put(pod)
	if err := w.p.CreatePod(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
	return pod
}

// delete is kubectl delete, and what virtual-kubelet makes of it.
func (w *world) delete(pod *corev1.Pod, graceSeconds int64) {
	w.t.Helper()
	err := w.api.Pods(pod.Namespace).Delete(w.t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &graceSeconds})
	if graceSeconds == 0 {
		w.t.Fatal("a deletion without grace is not seen by the provider first")
	}
	if err != nil {
		w.t.Fatal(err)
	}
	going, err := w.api.get(pod.Namespace, pod.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.p.DeletePod(w.t.Context(), going); err != nil {
		w.t.Fatal(err)
	}
}

// settle lets fake time pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// status is what the API server has.
func (w *world) status() corev1.PodStatus {
	w.t.Helper()
	p, err := w.api.get("default", "web")
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Status
}

// mustBeGone checks that nothing of any pod is left.
func (w *world) mustBeGone() {
	w.t.Helper()
	if left := w.host.leftovers(); len(left) > 0 {
		w.t.Errorf("left on the host: %v", left)
	}
	if len(w.pool.Owners()) > 0 {
		w.t.Errorf("addresses still taken: %v", w.pool.Owners())
	}
	if _, err := w.api.get("default", "web"); !apierrors.IsNotFound(err) {
		w.t.Errorf("the API server still has the pod: %v", err)
	}
	store, err := ledger.Open(filepath.Join(w.data, "pods"))
	if err != nil {
		w.t.Fatal(err)
	}
	if records, corrupt, _ := store.Load(); len(records)+len(corrupt) > 0 {
		w.t.Errorf("records left: %v %v", records, corrupt)
	}
	if w.p != nil {
		w.mustBeForgotten()
	}
}

// mustBeForgotten checks that the agent keeps nothing of pods that are gone.
func (w *world) mustBeForgotten() {
	w.t.Helper()
	w.p.mu.Lock()
	workers := len(w.p.workers)
	w.p.mu.Unlock()
	w.p.status.mu.Lock()
	defer w.p.status.mu.Unlock()
	if answers := len(w.p.status.sent); workers > 0 || answers > 0 {
		w.t.Errorf("the agent still has %d workers and %d answers of the API server", workers, answers)
	}
}

// mustBeRecorded checks that the host has nothing of a pod without a record.
func (w *world) mustBeRecorded() {
	w.t.Helper()
	w.checkRecord(len(w.host.leftovers()) > 0)
}

func (w *world) checkRecord(onHost bool) {
	w.t.Helper()
	store, err := ledger.Open(filepath.Join(w.data, "pods"))
	if err != nil {
		w.t.Fatal(err)
	}
	records, corrupt, err := store.Load()
	if err != nil || len(corrupt) > 0 || onHost && (len(records) != 1 || records[0].State.Slot == 0 || len(records[0].State.Containers) == 0) {
		w.t.Errorf("on the host: %v; in the ledger: %v, %v, %v", onHost, records, corrupt, err)
	}
}

func (w *world) mustRun() {
	w.t.Helper()
	s := w.status()
	if s.Phase != corev1.PodRunning || len(s.ContainerStatuses) == 0 || !s.ContainerStatuses[0].Ready {
		w.t.Fatalf("pod does not run: phase %s, %+v\nevents %v", s.Phase, s.ContainerStatuses, w.events.reasons)
	}
}

type apiObject = runtime.Object

// storageSession is the session's storage, whose Pods would clash with others.
type storageSession struct{ session }
