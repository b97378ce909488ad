package images

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Named is an image or an index under a name such as "reddwarf/web:1", without
// a registry. Exactly one of Image and Index is set.
type Named struct {
	Name  string
	Image v1.Image
	Index v1.ImageIndex
}

// Options say how a registry behaves.
type Options struct {
	// User and Password are asked for by basic authentication, unless User is
	// empty.
	User, Password string
	// Log gets a line per request. nil means none.
	Log *log.Logger
}

// Handler returns a registry that holds images. It takes pushes as well.
func Handler(ctx context.Context, o Options, images ...Named) (http.Handler, error) {
	logger := o.Log
	if logger == nil {
		logger = log.New(io.Discard, "", 0)
	}
	store := registry.New(registry.Logger(logger))
	for _, n := range images {
		if err := push(ctx, store, n); err != nil {
			return nil, fmt.Errorf("registry: %s: %w", n.Name, err)
		}
	}
	if o.User == "" {
		return store, nil
	}
	return requireLogin(o, store), nil
}

// push stores n by the registry's own protocol, so that what is served is what
// any client would have pushed.
func push(ctx context.Context, store http.Handler, n Named) error {
	ref, err := name.ParseReference("registry.invalid/"+n.Name, name.StrictValidation)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithTransport(direct{store}), remote.WithContext(ctx)}
	switch {
	case n.Image != nil && n.Index == nil:
		return remote.Write(ref, n.Image, options...)
	case n.Index != nil && n.Image == nil:
		return remote.WriteIndex(ref, n.Index, options...)
	default:
		return fmt.Errorf("either an image or an index is needed")
	}
}

// direct is a transport without a network: it calls a handler.
type direct struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close() //nolint:errcheck // a transport has to close it, whatever happened
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func requireLogin(o Options, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		good := subtle.ConstantTimeCompare([]byte(user), []byte(o.User)) & subtle.ConstantTimeCompare([]byte(password), []byte(o.Password))
		if !ok || good != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="reddwarf test registry"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`) //nolint:errcheck // the client may be gone
			return
		}
		next.ServeHTTP(w, r)
	})
}
