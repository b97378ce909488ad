package server

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
)

// How long the API server's answers hold, as for a kubelet.
const (
	tokenCacheTTL = 2 * time.Minute
	allowCacheTTL = 5 * time.Minute
	denyCacheTTL  = 30 * time.Second
)

// Auth decides who a caller is and what it may do.
type Auth struct {
	authenticator authenticator.Request
	authorizer    access
}

// NewAuth returns an Auth that knows callers by a client certificate that
// verifies with what clientCA returns at that moment, or by a token that the
// API server confirms, and asks the API server what they may do. client needs
// the right to create TokenReviews and SubjectAccessReviews, which nodes have.
//
// It puts together by hand what a kubelet takes from apiserver's
// authenticatorfactory and authorizerfactory: these bring CEL, gRPC and an
// exporter of OpenTelemetry, which cost each node megabytes, for conditions and
// egress proxies that a node does not have.
func NewAuth(client kubernetes.Interface, clientCA x509.VerifyOptionFunc) (*Auth, error) {
	if client == nil || clientCA == nil {
		return nil, errors.New("kubelet API: a client and a client CA are needed")
	}
	tokens := cache.New(tokenReviews{client.AuthenticationV1().TokenReviews()}, false, tokenCacheTTL, tokenCacheTTL)
	return &Auth{
		// There is no anonymous access: who is not known by one of these is
		// not known.
		authenticator: group.NewAuthenticatedGroupAdder(union.New(
			x509.NewDynamic(clientCA, x509.CommonNameUserConversion),
			bearertoken.New(tokens),
			websocket.NewProtocolAuthenticator(tokens),
		)),
		authorizer: newAccessReviews(client.AuthorizationV1().SubjectAccessReviews()),
	}, nil
}

func (a *Auth) complete() bool {
	return a != nil && a.authenticator != nil && a.authorizer != nil
}

// guard lets a request through if its caller is known and one of the rights that
// allow it is granted.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		who, ok, err := s.config.Auth.authenticator.AuthenticateRequest(r)
		if err != nil {
			vklog.G(ctx).WithError(err).Debug("kubelet API: caller not authenticated")
		}
		if err != nil || !ok {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		// The right is decided by the path, so there may be only one way to
		// read it: nothing escaped, nothing to clean up, no redirect.
		if r.URL.RawPath != "" || path.Clean(r.URL.Path) != strings.TrimSuffix(r.URL.Path, "/") && r.URL.Path != "/" {
			http.Error(w, "path is not clean", http.StatusBadRequest)
			return
		}
		rights := attributes(s.config.NodeName, who.User, r.Method, r.URL.Path)
		if len(rights) == 0 {
			w.Header().Set("Allow", "GET, POST")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		for _, right := range rights {
			allowed, err := s.config.Auth.authorizer.allowed(ctx, right)
			if err != nil {
				vklog.G(ctx).WithError(err).Error("kubelet API: authorization")
				http.Error(w, "authorization error", http.StatusInternalServerError)
				return
			}
			if allowed {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, forbidden(rights), http.StatusForbidden)
	})
}

func forbidden(rights []authorizer.AttributesRecord) string {
	var subresources []string
	for _, r := range rights {
		subresources = append(subresources, r.Subresource)
	}
	return fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)",
		rights[0].User.GetName(), rights[0].Verb, subresources)
}

// fine has the paths that have a narrow right besides nodes/proxy, and coarse
// those that have a right of their own instead of it.
var (
	fine = []struct{ path, subresource string }{
		{"/pods", "pods"}, {"/runningpods", "pods"}, {"/healthz", "healthz"}, {"/configz", "configz"},
	}
	coarse = []struct{ path, subresource string }{
		{"/stats", "stats"}, {"/metrics", "metrics"}, {"/logs", "log"}, {"/checkpoint", "checkpoint"},
		{"/statusz", "statusz"}, {"/flagz", "configz"},
	}
)

// attributes returns the rights on the node of which the caller needs one, as a
// kubelet asks for them, and none for a method that nothing here has.
//
// There is one difference: a command is run, a process attached to and a port
// forwarded only with the right to create. A kubelet asks for get when the
// request is a GET, as WebSocket requests are, so that a right to read metrics
// through nodes/proxy is one to run commands.
func attributes(node string, who user.Info, method, requestPath string) []authorizer.AttributesRecord {
	verb, ok := map[string]string{http.MethodGet: "get", http.MethodPost: "create"}[method]
	if !ok {
		return nil
	}
	for _, streams := range []string{"/exec", "/attach", "/portForward"} {
		if below(requestPath, streams) {
			verb = "create"
		}
	}
	var subresources []string
	for _, f := range fine {
		if below(requestPath, f.path) {
			subresources = append(subresources, f.subresource)
		}
	}
	own := "proxy"
	for _, c := range coarse {
		if below(requestPath, c.path) {
			own = c.subresource
		}
	}
	var rights []authorizer.AttributesRecord
	for _, sub := range append(subresources, own) {
		rights = append(rights, authorizer.AttributesRecord{
			User: who, Verb: verb, APIVersion: "v1", Resource: "nodes", Subresource: sub, Name: node,
			ResourceRequest: true, Path: requestPath,
		})
	}
	return rights
}

// below says whether p is dir or something in it.
func below(p, dir string) bool {
	rest, ok := strings.CutPrefix(p, dir)
	return ok && (rest == "" || rest[0] == '/')
}
