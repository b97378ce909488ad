package translate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// File is one file of a volume that the host writes.
type File struct {
	Data []byte
	Mode uint32 // permission bits
	User *int64 // the owner; nil for root
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
		p.mode, p.user = mode(v.ConfigMap.DefaultMode), v.ConfigMap.DefaultUser
		err = p.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		p.mode, p.user = mode(v.Secret.DefaultMode), v.Secret.DefaultUser
		err = p.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		p.mode, p.user = mode(v.DownwardAPI.DefaultMode), v.DownwardAPI.DefaultUser
		err = p.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		p.mode, p.user = mode(v.Projected.DefaultMode), v.Projected.DefaultUser
		var errs []error // all of them, so that one look at the event is enough
		for _, s := range v.Projected.Sources {
			errs = append(errs, p.source(s))
		}
		err = utilerrors.NewAggregate(errs)
	default:
		err = errors.New("not a volume of files")
	}
	if err == nil {
		err = p.conflict()
	}
	if err != nil {
		return Volume{}, err
	}
	return p.out, nil
}

type projection struct {
	in     Input
	pod    *corev1.Pod
	tokens Tokens
	mode   uint32
	user   *int64
	out    Volume
}

func mode(m *int32) uint32 {
	if m == nil {
		return 0o644
	}
	return uint32(*m) & 0o777
}

// The longest names of files and paths below a volume, as a kubelet's.
const (
	maxFileName = 255
	maxFilePath = 4096
)

// add takes one file in. A later source wins over an earlier one, as on a
// kubelet. Names that begin with ".." are the volume's own.
func (p *projection) add(name string, data []byte, m *int32, user *int64) error {
	parts := strings.Split(name, "/")
	switch {
	case name == "" || path.Clean(name) == "." || path.IsAbs(name) || slices.Contains(parts, ".."):
		return fmt.Errorf("path %q is not inside the volume", name)
	case strings.HasPrefix(parts[0], ".."):
		return fmt.Errorf("path %q must not begin with \"..\"", name)
	case len(name) > maxFilePath || slices.ContainsFunc(parts, func(s string) bool { return len(s) > maxFileName }):
		return fmt.Errorf("path %.64q… is longer than a file system takes", name)
	}
	f := File{Data: data, Mode: p.mode, User: p.user}
	if m != nil {
		f.Mode = mode(m)
	}
	if user != nil {
		f.User = user
	}
	p.out.Files[path.Clean(name)] = f
	return nil
}

// conflict refuses a file that another one needs to be a directory.
func (p *projection) conflict() error {
	for name := range p.out.Files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := p.out.Files[dir]; ok {
				return fmt.Errorf("path %q is a file, and %q needs it to be a directory", dir, name)
			}
		}
	}
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
			if err := p.add(k, v, nil, nil); err != nil {
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
			return fmt.Errorf("%s %q: references non-existent key: %s", kind, name, item.Key)
		}
		if err := p.add(item.Path, v, item.Mode, item.User); err != nil {
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
		if err := p.add(item.Path, []byte(value), item.Mode, item.User); err != nil {
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
	f := File{Data: []byte(token), Mode: p.mode, User: oneUser(p.in.Pod)}
	for _, u := range []*int64{p.user, t.User} {
		if u != nil {
			f.User = u
		}
	}
	if f.User != nil || fsGroup(p.in.Pod) != nil {
		f.Mode = 0o600 // for its owner; the group is given its part where the file is written
	}
	if err := p.add(t.Path, f.Data, nil, nil); err != nil {
		return err
	}
	p.out.Files[path.Clean(t.Path)] = f
	return nil
}

func fsGroup(pod *corev1.Pod) *int64 {
	if s := pod.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// oneUser returns the user that every container of the pod is told to run as,
// nil if one is not told or they differ. Tokens are made theirs.
func oneUser(pod *corev1.Pod) *int64 {
	var all []*int64
	of := func(s *corev1.SecurityContext) {
		u := (*int64)(nil)
		if p := pod.Spec.SecurityContext; p != nil {
			u = p.RunAsUser
		}
		if s != nil && s.RunAsUser != nil {
			u = s.RunAsUser
		}
		all = append(all, u)
	}
	for _, c := range AllContainers(pod) {
		of(c.SecurityContext)
	}
	for i := range pod.Spec.EphemeralContainers {
		of(pod.Spec.EphemeralContainers[i].SecurityContext)
	}
	for _, u := range all {
		if u == nil || *u != *all[0] {
			return nil
		}
	}
	return all[0]
}
