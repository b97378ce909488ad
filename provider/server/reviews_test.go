package server

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// askedAccess is an API server's answers to SubjectAccessReviews.
type askedAccess struct {
	authorizationclient.SubjectAccessReviewInterface
	asked  []authorizationv1.SubjectAccessReviewSpec
	answer func(n int) (authorizationv1.SubjectAccessReviewStatus, error) // n counts from 1
}

func (a *askedAccess) Create(_ context.Context, r *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	a.asked = append(a.asked, r.Spec)
	status, err := a.answer(len(a.asked))
	if err != nil {
		return nil, err
	}
	return &authorizationv1.SubjectAccessReview{Status: status}, nil
}

func rightOf(who user.Info, verb string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: who, Verb: verb, APIVersion: "v1", Resource: "nodes", Subresource: "proxy", Name: "node-1", ResourceRequest: true,
	}
}

func TestRightsAreRemembered(t *testing.T) {
	ann := &user.DefaultInfo{Name: "ann", UID: "1", Groups: []string{"a", "b"}, Extra: map[string][]string{"k": {"v"}}}
	for _, tt := range []struct {
		allowed bool
		ttl     time.Duration
	}{{true, allowCacheTTL}, {false, denyCacheTTL}} {
		synctest.Test(t, func(t *testing.T) {
			api := &askedAccess{answer: func(int) (authorizationv1.SubjectAccessReviewStatus, error) {
				return authorizationv1.SubjectAccessReviewStatus{Allowed: tt.allowed}, nil
			}}
			a := newAccessReviews(api)
			ask := func(right authorizer.AttributesRecord) {
				t.Helper()
				if got, err := a.allowed(t.Context(), right); got != tt.allowed || err != nil {
					t.Errorf("allowed = %v, %v", got, err)
				}
			}
			asked := func(want int) {
				t.Helper()
				if len(api.asked) != want {
					t.Errorf("the API server was asked %d times, want %d", len(api.asked), want)
				}
			}
			ask(rightOf(ann, "get"))
			want := authorizationv1.SubjectAccessReviewSpec{
				User: "ann", UID: "1", Groups: []string{"a", "b"}, Extra: map[string]authorizationv1.ExtraValue{"k": {"v"}},
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: "nodes", Subresource: "proxy", Name: "node-1"},
			}
			if !reflect.DeepEqual(api.asked[0], want) {
				t.Errorf("asked %+v, want %+v", api.asked[0], want)
			}
			time.Sleep(tt.ttl - time.Second)
			ask(rightOf(ann, "get"))
			asked(1)
			// An answer is for nothing and nobody else.
			ask(rightOf(ann, "create"))
			asked(2)
			other := *ann
			other.Groups = []string{"a"}
			ask(rightOf(&other, "get"))
			asked(3)
			other = *ann
			other.Extra = nil
			ask(rightOf(&other, "get"))
			asked(4)
			time.Sleep(2 * time.Second)
			ask(rightOf(ann, "get"))
			asked(5)
		})
	}
}

func TestRightsInDoubt(t *testing.T) {
	resource := schema.GroupResource{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}
	for _, tt := range []struct {
		name   string
		answer func(n int) (authorizationv1.SubjectAccessReviewStatus, error)
		want   bool
		fails  bool
		asked  int
	}{
		{"no opinion", func(int) (s authorizationv1.SubjectAccessReviewStatus, err error) { return s, nil }, false, false, 1},
		{"denied", func(int) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Denied: true}, nil
		}, false, false, 1},
		{"both", func(int) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}, nil
		}, false, true, 1},
		{"heals", func(n int) (authorizationv1.SubjectAccessReviewStatus, error) {
			if n < 3 {
				return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewInternalError(errors.New("etcd has no leader"))
			}
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true}, nil
		}, true, false, 3},
		{"away", func(int) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewTooManyRequests("busy", 1)
		}, false, true, 5},
		{"may not ask", func(int) (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true}, apierrors.NewForbidden(resource, "", nil)
		}, false, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &askedAccess{answer: tt.answer}
				a := newAccessReviews(api)
				got, err := a.allowed(t.Context(), rightOf(&user.DefaultInfo{Name: "ann"}, "get"))
				if got != tt.want || (err != nil) != tt.fails || len(api.asked) != tt.asked {
					t.Errorf("allowed = %v, %v after %d questions; want %v, failure %v, %d", got, err, len(api.asked), tt.want, tt.fails, tt.asked)
				}
				if !tt.fails {
					return
				}
				// What is no answer is not remembered as one.
				before := len(api.asked)
				if got, err := a.allowed(t.Context(), rightOf(&user.DefaultInfo{Name: "ann"}, "get")); got || err == nil || len(api.asked) == before {
					t.Errorf("again: allowed = %v, %v", got, err)
				}
			})
		})
	}
}

// An API server that does not answer at all holds nobody for ever.
func TestReviewsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := ask(t.Context(), func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != reviewDeadline {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// askedTokens is an API server's answers to TokenReviews.
type askedTokens struct {
	authenticationclient.TokenReviewInterface
	asked int
	err   error
}

func (a *askedTokens) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	a.asked++
	if a.err != nil {
		return nil, a.err
	}
	answer := &authenticationv1.TokenReview{}
	if r.Spec.Token == "good" {
		answer.Status.Authenticated = true
		answer.Status.User = authenticationv1.UserInfo{
			Username: "ann", UID: "1", Groups: []string{"a"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}},
		}
	}
	return answer, nil
}

func TestTokensAreRemembered(t *testing.T) {
	for _, tt := range []struct {
		token string
		want  user.Info
	}{
		{"good", &user.DefaultInfo{Name: "ann", UID: "1", Groups: []string{"a"}, Extra: map[string][]string{"k": {"v"}}}},
		{"bad", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			api := &askedTokens{}
			tokens := bearertoken.New(cache.New(tokenReviews{api}, false, tokenCacheTTL, tokenCacheTTL))
			check := func(asked int) {
				t.Helper()
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("Authorization", "Bearer "+tt.token)
				got, ok, _ := tokens.AuthenticateRequest(r)
				if ok != (tt.want != nil) || ok && !reflect.DeepEqual(got.User, tt.want) {
					t.Errorf("%s: %+v, %v", tt.token, got, ok)
				}
				if api.asked != asked {
					t.Errorf("%s: the API server was asked %d times, want %d", tt.token, api.asked, asked)
				}
			}
			check(1)
			time.Sleep(tokenCacheTTL - time.Second)
			check(1)
			time.Sleep(2 * time.Second)
			check(2)
		})
	}
}

// No token is good, and none is bad for longer, because the API server is away.
func TestTokensWithoutReviews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &askedTokens{err: apierrors.NewServiceUnavailable("starting")}
		tokens := cache.New(tokenReviews{api}, false, tokenCacheTTL, tokenCacheTTL)
		if _, ok, err := tokens.AuthenticateToken(t.Context(), "good"); ok || err == nil {
			t.Errorf("ok %v, error %v", ok, err)
		}
		api.err = nil
		if _, ok, err := tokens.AuthenticateToken(t.Context(), "good"); !ok || err != nil {
			t.Errorf("after it came back: ok %v, error %v", ok, err)
		}
	})
}

// The client CA may be replaced while the server runs.
func TestClientCAIsReplaced(t *testing.T) {
	old, successor := newAuthority(t), newAuthority(t)
	var now atomic.Pointer[authority]
	now.Store(old)
	h := startWith(t, func() (x509.VerifyOptions, bool) {
		a := now.Load()
		if a == nil {
			return x509.VerifyOptions{}, false
		}
		return x509.VerifyOptions{Roots: a.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, true
	})
	for _, tt := range []struct {
		now             *authority
		old, successive int
	}{{old, 200, 401}, {successor, 401, 200}, {nil, 401, 401}} {
		now.Store(tt.now)
		for a, want := range map[*authority]int{old: tt.old, successor: tt.successive} {
			c := h.client(t, a.issue(t, "admin", 9, x509.ExtKeyUsageClientAuth))
			if status, _ := get(t, c, h.url+"/pods"); status != want {
				t.Errorf("status %d, want %d", status, want)
			}
		}
	}
}
