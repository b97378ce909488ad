package oci

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Mirror is a registry that is asked before another one. It must have the
// images under the same repository names.
//
// A mirror is trusted as far as the registry it stands for: it says which
// image a tag is. An image that is named by digest needs no such trust.
type Mirror struct {
	// Registry is the registry as image names have it, such as "docker.io".
	Registry string

	// Host is the mirror, HOST[:PORT]. It is spoken to with TLS unless it is
	// listed as insecure too, and gets only credentials that are for itself.
	Host string
}

// ParseMirror reads REGISTRY=HOST[:PORT].
func ParseMirror(s string) (Mirror, error) {
	of, host, ok := strings.Cut(s, "=")
	if !ok {
		return Mirror{}, fmt.Errorf("mirror %q: want REGISTRY=HOST[:PORT]", s)
	}
	m := Mirror{Registry: of, Host: host}
	for _, part := range []string{of, host} {
		if part == "" || strings.ContainsAny(part, "/@ ") {
			return Mirror{}, fmt.Errorf("mirror %q: %q is not HOST[:PORT]", s, part)
		}
		if _, err := name.NewRegistry(part); err != nil {
			return Mirror{}, fmt.Errorf("mirror %q: %w", s, err)
		}
	}
	if m.registry() == m.host() {
		return Mirror{}, fmt.Errorf("mirror %q: a registry cannot be a mirror of itself", s)
	}
	return m, nil
}

// registry is the registry as references name it: docker.io has another name
// there.
func (m Mirror) registry() string { return canonical(m.Registry) }

func (m Mirror) host() string { return canonical(m.Host) }

func canonical(registry string) string {
	r, err := name.NewRegistry(registry)
	if err != nil {
		return registry // no reference has it, and none can be made of it
	}
	return r.RegistryStr()
}

// sources returns where ref may be pulled from, in the order to try: the
// mirrors of its registry and the registry itself.
func (im *Images) sources(ref name.Reference) ([]name.Reference, error) {
	var all []name.Reference
	for _, m := range im.c.Mirrors {
		if m.registry() != ref.Context().RegistryStr() {
			continue
		}
		separator := ":"
		if _, ok := ref.(name.Digest); ok {
			separator = "@"
		}
		at, err := im.parseRef(m.Host + "/" + ref.Context().RepositoryStr() + separator + ref.Identifier())
		if err != nil {
			return nil, fmt.Errorf("mirror of %s: %w", m.Registry, err)
		}
		all = append(all, at)
	}
	return append(all, ref), nil
}

// pullFrom resolves and unpacks an image from the first source that has it.
// Whatever is wrong with a mirror is no reason to give up, but the registry
// itself has the last word about the kind of the fault.
func (im *Images) pullFrom(ctx context.Context, stop context.CancelCauseFunc, sources []name.Reference, q Request) (*resolved, error) {
	var failed []string
	for _, from := range sources[:len(sources)-1] {
		r, err := im.pullOne(ctx, stop, from, q)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		failed = append(failed, fmt.Sprintf("mirror %s: %v", from.Context().RegistryStr(), err))
	}
	r, err := im.pullOne(ctx, stop, sources[len(sources)-1], q)
	if err == nil || len(failed) == 0 {
		return r, err
	}
	return nil, fmt.Errorf("%w (%s)", err, strings.Join(failed, "; "))
}

// pullOne leaves the image's datasets claimed, unless it fails.
func (im *Images) pullOne(ctx context.Context, stop context.CancelCauseFunc, from name.Reference, q Request) (*resolved, error) {
	r, err := im.resolve(ctx, from, q)
	if err != nil {
		return nil, err
	}
	if r.release, err = im.claims.claim(ctx, append([]string{r.dataset()}, r.chains...)...); err != nil {
		return nil, err
	}
	if err := im.unpack(ctx, stop, r, q); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}
