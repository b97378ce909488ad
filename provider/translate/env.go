package translate

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Objects are the ConfigMaps and Secrets that pods refer to. An object that
// does not exist is an API NotFound error.
type Objects interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
}

// Services are the Services whose addresses a container finds in its
// environment.
type Services interface {
	// Services returns those of namespace.
	Services(namespace string) ([]*corev1.Service, error)
}

// ConfigError means that a container cannot be configured until the cluster
// changes: an object or key that is missing, a value that cannot be resolved.
type ConfigError struct {
	Container string
	Err       error
}

// Error returns the cause's message, as users know it from a kubelet.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

// Var is one environment variable.
type Var struct{ Name, Value string }

// Environment returns the variables of one container as the pod defines them,
// in a stable order and without those of the image. pod.Status must carry the
// addresses that status.podIP and its kin refer to.
func Environment(pod *corev1.Pod, c *corev1.Container, node Node, objects Objects, services Services, files Files) ([]Var, error) {
	e := environment{pod: pod, container: c, node: node, objects: objects, files: files, index: map[string]int{}}
	vars, err := e.resolve(services)
	if err != nil {
		return nil, &ConfigError{Container: c.Name, Err: err}
	}
	return vars, nil
}

type environment struct {
	pod       *corev1.Pod
	container *corev1.Container
	node      Node
	objects   Objects
	files     Files // nil while there are none
	vars      []Var
	index     map[string]int // of vars, by name
}

func (e *environment) set(name, value string) {
	if i, ok := e.index[name]; ok {
		e.vars[i].Value = value
		return
	}
	e.index[name] = len(e.vars)
	e.vars = append(e.vars, Var{name, value})
}

func (e *environment) resolve(services Services) ([]Var, error) {
	service, err := serviceEnvironment(e.pod, services)
	if err != nil {
		return nil, err
	}
	for _, from := range e.container.EnvFrom {
		if err := e.addFrom(from); err != nil {
			return nil, err
		}
	}
	lookup := func(name string) (string, bool) {
		if i, ok := e.index[name]; ok {
			return e.vars[i].Value, true
		}
		v, ok := service[name]
		return v, ok
	}
	for _, v := range e.container.Env {
		if v.ValueFrom == nil {
			e.set(v.Name, Expand(v.Value, lookup))
			continue
		}
		value, ok, err := e.from(v)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	names := make([]string, 0, len(service))
	for name := range service {
		if _, ok := e.index[name]; !ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		e.set(name, service[name])
	}
	return e.vars, nil
}

// addFrom adds every key of one object. Keys that cannot be names of variables
// are left out, as a kubelet does.
func (e *environment) addFrom(from corev1.EnvFromSource) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		o, err := e.objects.ConfigMap(e.pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			return unlessOptional(from.ConfigMapRef.Optional, err)
		}
		for k, v := range o.Data {
			data[k] = v
		}
	case from.SecretRef != nil:
		o, err := e.objects.Secret(e.pod.Namespace, from.SecretRef.Name)
		if err != nil {
			return unlessOptional(from.SecretRef.Optional, err)
		}
		for k, v := range o.Data {
			data[k] = string(v)
		}
	}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		name := from.Prefix + k
		if len(validation.IsRelaxedEnvVarName(name)) == 0 {
			e.set(name, data[k])
		}
	}
	return nil
}

// from resolves one valueFrom; false means that the variable is not set.
func (e *environment) from(v corev1.EnvVar) (string, bool, error) {
	s := v.ValueFrom
	switch {
	case s.FieldRef != nil:
		value, err := Field(e.pod, e.node, s.FieldRef.FieldPath)
		return value, err == nil, err
	case s.ResourceFieldRef != nil:
		c := e.container
		if n := s.ResourceFieldRef.ContainerName; n != "" && n != c.Name {
			if c = findContainer(e.pod, n); c == nil {
				return "", false, fmt.Errorf("container %s not found", n)
			}
		}
		value, err := ResourceField(c, e.node, s.ResourceFieldRef)
		return value, err == nil, err
	case s.ConfigMapKeyRef != nil:
		return e.configMapKey(s.ConfigMapKeyRef)
	case s.SecretKeyRef != nil:
		return e.secretKey(s.SecretKeyRef)
	case s.FileKeyRef != nil:
		return e.fileKey(s.FileKeyRef)
	}
	return "", false, fmt.Errorf("env %s: valueFrom has no source that this node knows", v.Name)
}

func (e *environment) configMapKey(ref *corev1.ConfigMapKeySelector) (string, bool, error) {
	o, err := e.objects.ConfigMap(e.pod.Namespace, ref.Name)
	if err != nil {
		return "", false, unlessOptional(ref.Optional, err)
	}
	value, ok := o.Data[ref.Key]
	if !ok && !isTrue(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", ref.Key, e.pod.Namespace, ref.Name)
	}
	return value, ok, nil
}

func (e *environment) secretKey(ref *corev1.SecretKeySelector) (string, bool, error) {
	o, err := e.objects.Secret(e.pod.Namespace, ref.Name)
	if err != nil {
		return "", false, unlessOptional(ref.Optional, err)
	}
	value, ok := o.Data[ref.Key]
	if !ok && !isTrue(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %s in Secret %s/%s", ref.Key, e.pod.Namespace, ref.Name)
	}
	return string(value), ok, nil
}

// unlessOptional forgives only that an optional object does not exist: that it
// could not be read says nothing about it.
func unlessOptional(optional *bool, err error) error {
	if isTrue(optional) && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func isTrue(p *bool) bool { return p != nil && *p }

// serviceEnvironment returns the variables for the Services of the pod's
// namespace (unless it wants none) and for the API server's own.
func serviceEnvironment(pod *corev1.Pod, services Services) (map[string]string, error) {
	out := map[string]string{}
	if services == nil {
		return out, nil
	}
	master, err := services.Services(corev1.NamespaceDefault)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	for _, s := range master {
		if s.Name == "kubernetes" {
			addService(out, s)
		}
	}
	if pod.Spec.EnableServiceLinks != nil && !*pod.Spec.EnableServiceLinks {
		return out, nil
	}
	own, err := services.Services(pod.Namespace)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	for _, s := range own {
		addService(out, s)
	}
	return out, nil
}

func addService(out map[string]string, s *corev1.Service) {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	name := envName(s.Name)
	ip := s.Spec.ClusterIP
	out[name+"_SERVICE_HOST"] = ip
	out[name+"_SERVICE_PORT"] = fmt.Sprint(s.Spec.Ports[0].Port)
	host := ip
	if strings.Contains(ip, ":") {
		host = "[" + ip + "]"
	}
	for i, p := range s.Spec.Ports {
		if p.Name != "" {
			out[name+"_SERVICE_PORT_"+envName(p.Name)] = fmt.Sprint(p.Port)
		}
		proto := string(p.Protocol)
		if proto == "" {
			proto = string(corev1.ProtocolTCP)
		}
		url := fmt.Sprintf("%s://%s:%d", strings.ToLower(proto), host, p.Port)
		if i == 0 {
			out[name+"_PORT"] = url
		}
		prefix := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, strings.ToUpper(proto))
		out[prefix] = url
		out[prefix+"_PROTO"] = strings.ToLower(proto)
		out[prefix+"_PORT"] = fmt.Sprint(p.Port)
		out[prefix+"_ADDR"] = ip
	}
}

func envName(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
}

// defaultPath is what a container without a PATH gets from container runtimes.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// mergeEnv lays the pod's variables over those of the image.
func mergeEnv(image []string, hostname string, tty bool, vars []Var) []string {
	e := environment{index: map[string]int{}}
	e.set("PATH", defaultPath)
	e.set("HOSTNAME", hostname)
	if tty {
		e.set("TERM", "xterm")
	}
	for _, kv := range image {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			e.set(name, value)
		}
	}
	for _, v := range vars {
		e.set(v.Name, v.Value)
	}
	out := make([]string, len(e.vars))
	for i, v := range e.vars {
		out[i] = v.Name + "=" + v.Value
	}
	return slices.Clip(out)
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
