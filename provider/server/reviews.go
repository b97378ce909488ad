package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

const (
	// reviewDeadline bounds one question to the API server, its repeats
	// included.
	reviewDeadline = 10 * time.Second

	// maxAnswers bounds the memory of answers about rights.
	maxAnswers = 8192
)

// tokenReviews asks the API server whose a token is. It implements
// authenticator.Token.
type tokenReviews struct {
	client authenticationclient.TokenReviewInterface
}

// AuthenticateToken names no audience, as a kubelet does: the API server then
// confirms only tokens that were made for itself.
func (t tokenReviews) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	answer, err := ask(ctx, func(ctx context.Context) (*authenticationv1.TokenReview, error) {
		return t.client.Create(ctx, review, metav1.CreateOptions{})
	})
	if err != nil {
		return nil, false, fmt.Errorf("review of a token: %w", err)
	}
	status := answer.Status
	if !status.Authenticated {
		if status.Error != "" {
			return nil, false, errors.New(status.Error)
		}
		return nil, false, nil
	}
	who := &user.DefaultInfo{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups}
	for key, values := range status.User.Extra {
		if who.Extra == nil {
			who.Extra = map[string][]string{}
		}
		who.Extra[key] = values
	}
	return &authenticator.Response{User: who}, true, nil
}

// access tells whether a right is granted. An error is no answer and grants
// nothing.
type access interface {
	allowed(ctx context.Context, right authorizer.Attributes) (bool, error)
}

// accessReviews asks the API server for rights, and remembers its answers.
type accessReviews struct {
	client  authorizationclient.SubjectAccessReviewInterface
	answers *cache.LRUExpireCache // of bool, by the review's specification
}

func newAccessReviews(client authorizationclient.SubjectAccessReviewInterface) *accessReviews {
	return &accessReviews{client, cache.NewLRUExpireCache(maxAnswers)}
}

func (a *accessReviews) allowed(ctx context.Context, right authorizer.Attributes) (bool, error) {
	who := right.GetUser()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(),
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: right.GetNamespace(), Verb: right.GetVerb(),
			Group: right.GetAPIGroup(), Version: right.GetAPIVersion(),
			Resource: right.GetResource(), Subresource: right.GetSubresource(), Name: right.GetName(),
		},
	}}
	for key, values := range who.GetExtra() {
		if review.Spec.Extra == nil {
			review.Spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		review.Spec.Extra[key] = values
	}
	// All that the API server decides by is in the key, so that an answer is
	// nobody else's. JSON orders the keys of maps.
	key, err := json.Marshal(review.Spec)
	if err != nil {
		return false, err
	}
	if known, ok := a.answers.Get(string(key)); ok {
		return known.(bool), nil //nolint:errcheck // nothing else is ever put in
	}
	answer, err := ask(ctx, func(ctx context.Context) (*authorizationv1.SubjectAccessReview, error) {
		return a.client.Create(ctx, review, metav1.CreateOptions{})
	})
	if err != nil {
		return false, fmt.Errorf("review of the rights of %q: %w", who.GetName(), err)
	}
	if answer.Status.Allowed && answer.Status.Denied {
		return false, fmt.Errorf("review of the rights of %q: both allowed and denied", who.GetName())
	}
	ttl := denyCacheTTL
	if answer.Status.Allowed {
		ttl = allowCacheTTL
	}
	a.answers.Add(string(key), answer.Status.Allowed, ttl)
	return answer.Status.Allowed, nil
}

// ask repeats a question that the API server could not answer, as a kubelet
// does: five times within about four seconds.
func ask[T any](ctx context.Context, question func(context.Context) (T, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewDeadline)
	defer cancel()
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
	var asked error // says more than that the time or the repeats are used up
	err = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		answer, asked = question(ctx)
		if asked == nil {
			return true, nil
		}
		if passes(asked) {
			return false, nil
		}
		return false, asked
	})
	if asked != nil {
		err = asked
	}
	return answer, err
}

// passes reports whether an error may be gone when the question is repeated.
func passes(err error) bool {
	if _, later := apierrors.SuggestsClientDelay(err); later {
		return true
	}
	return utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err) ||
		apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err)
}
