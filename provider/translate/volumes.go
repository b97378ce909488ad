package translate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// File is one file of a volume that the host writes.
type File struct {
	Data []byte
	Mode uint32 // permission bits
}

// Tokens gives tokens of a pod's service account.
type Tokens interface {
	// Token returns a token bound to the pod, and when it is to be replaced.
	Token(pod *corev1.Pod, audience string, lifetime time.Duration) (token string, refresh time.Time, err error)
}

// Volume is the content of one volume.
type Volume struct {
	Files map[string]File // by path relative to the volume

	// Refresh is when the content should be made again, whatever happens; the
	// zero time if nothing in it runs out.
	Refresh time.Time
}

// HostWritten reports whether the content of v comes from the host.
func HostWritten(v corev1.Volume) bool {
	return v.Projected != nil || v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil
}

// VolumeFiles returns the content of a volume for which HostWritten holds.
func VolumeFiles(in Input, v corev1.Volume, tokens Tokens) (Volume, error) {
	p := projection{in: in, pod: withAddresses(in), tokens: tokens, out: Volume{Files: map[string]File{}}}
	var err error
	switch {
	case v.ConfigMap != nil:
		p.mode = mode(v.ConfigMap.DefaultMode)
		err = p.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		p.mode = mode(v.Secret.DefaultMode)
		err = p.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		p.mode = mode(v.DownwardAPI.DefaultMode)
		err = p.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		p.mode = mode(v.Projected.DefaultMode)
		for _, s := range v.Projected.Sources {
			if err = p.source(s); err != nil {
				break
			}
		}
	default:
		err = errors.New("not a volume of files")
	}
	if err != nil {
		return Volume{}, fmt.Errorf("volume %q: %w", v.Name, err)
	}
	return p.out, nil
}

type projection struct {
	in     Input
	pod    *corev1.Pod
	tokens Tokens
	mode   uint32
	out    Volume
}

func mode(m *int32) uint32 {
	if m == nil {
		return 0o644
	}
	return uint32(*m) & 0o777
}

func (p *projection) add(name string, data []byte, m *int32) error {
	if name == "" || path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.HasPrefix(name, "..") {
		return fmt.Errorf("path %q is not inside the volume", name)
	}
	f := File{Data: data, Mode: p.mode}
	if m != nil {
		f.Mode = mode(m)
	}
	p.out.Files[path.Clean(name)] = f
	return nil
}

func (p *projection) source(s corev1.VolumeProjection) error {
	switch {
	case s.ConfigMap != nil:
		return p.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.Secret != nil:
		return p.secret(s.Secret.Name, s.Secret.Items, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return p.downward(s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		return p.token(s.ServiceAccountToken)
	}
	return errors.New("projected source that this node does not know")
}

func (p *projection) configMap(name string, items []corev1.KeyToPath, optional *bool) error {
	o, err := p.in.Objects.ConfigMap(p.pod.Namespace, name)
	if err != nil {
		return unlessOptional(optional, err)
	}
	data := map[string][]byte{}
	for k, v := range o.Data {
		data[k] = []byte(v)
	}
	for k, v := range o.BinaryData {
		data[k] = v
	}
	return p.keys("configmap", name, data, items, optional)
}

func (p *projection) secret(name string, items []corev1.KeyToPath, optional *bool) error {
	o, err := p.in.Objects.Secret(p.pod.Namespace, name)
	if err != nil {
		return unlessOptional(optional, err)
	}
	return p.keys("secret", name, o.Data, items, optional)
}

func (p *projection) keys(kind, name string, data map[string][]byte, items []corev1.KeyToPath, optional *bool) error {
	if len(items) == 0 {
		for k, v := range data {
			if err := p.add(k, v, nil); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if isTrue(optional) {
				continue
			}
			return fmt.Errorf("%s %q has no key %q", kind, name, item.Key)
		}
		if err := p.add(item.Path, v, item.Mode); err != nil {
			return err
		}
	}
	return nil
}

func (p *projection) downward(items []corev1.DownwardAPIVolumeFile) error {
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = Field(p.pod, p.in.Node, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			c := findContainer(p.pod, item.ResourceFieldRef.ContainerName)
			if c == nil {
				return fmt.Errorf("container %s not found", item.ResourceFieldRef.ContainerName)
			}
			value, err = ResourceField(c, p.in.Node, item.ResourceFieldRef)
		default:
			err = errors.New("downward API item without a field")
		}
		if err != nil {
			return err
		}
		if err := p.add(item.Path, []byte(value), item.Mode); err != nil {
			return err
		}
	}
	return nil
}

// defaultTokenLifetime is what the API defines for tokens that name none.
const defaultTokenLifetime = time.Hour

func (p *projection) token(t *corev1.ServiceAccountTokenProjection) error {
	if p.tokens == nil {
		return errors.New("no service account tokens on this node")
	}
	lifetime := defaultTokenLifetime
	if t.ExpirationSeconds != nil {
		lifetime = time.Duration(*t.ExpirationSeconds) * time.Second
	}
	token, refresh, err := p.tokens.Token(p.in.Pod, t.Audience, lifetime)
	if err != nil {
		return fmt.Errorf("service account token: %w", err)
	}
	if p.out.Refresh.IsZero() || (!refresh.IsZero() && refresh.Before(p.out.Refresh)) {
		p.out.Refresh = refresh
	}
	return p.add(t.Path, []byte(token), nil)
}
