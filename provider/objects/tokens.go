package objects

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// maxTokenAge is when a token is replaced however long it lives.
	maxTokenAge = 24 * time.Hour
	// tokenRetry is the longest time after which a replacement that failed is
	// tried again. It shrinks with the time that the token has left.
	tokenRetry = 30 * time.Second
	// tokenJitter spreads the replacements of many pods.
	tokenJitter = 10 * time.Second
)

// Tokens asks the API server for service-account tokens bound to pods, and
// keeps each until it is to be replaced: after four fifths of its life, or a day.
type Tokens struct {
	client kubernetes.Interface
	now    func() time.Time

	mu   sync.Mutex
	held map[tokenKey]heldToken
}

type tokenKey struct {
	pod      types.UID
	audience string
	lifetime time.Duration
}

type heldToken struct {
	token   string
	expires time.Time
	refresh time.Time
}

// NewTokens returns an empty Tokens.
func NewTokens(client kubernetes.Interface) *Tokens {
	return &Tokens{client: client, now: time.Now, held: map[tokenKey]heldToken{}}
}

// Token returns a token for pod's service account and when to ask again. An
// empty audience is the API server's own. While a token that is still good
// cannot be replaced, it is returned with an early time to ask again.
func (t *Tokens) Token(ctx context.Context, pod *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	key := tokenKey{pod.UID, audience, lifetime}
	t.mu.Lock()
	have, ok := t.held[key]
	t.mu.Unlock()
	now := t.now()
	if ok && now.Before(have.refresh) {
		return have.token, have.refresh, nil
	}
	fresh, err := t.request(ctx, pod, audience, lifetime)
	if err != nil {
		if ok && now.Before(have.expires) {
			left := have.expires.Sub(now)
			return have.token, now.Add(min(tokenRetry, max(left/4, time.Second))), nil
		}
		return "", time.Time{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[key] = fresh
	return fresh.token, fresh.refresh, nil
}

// Forget drops the tokens of a pod that is gone.
func (t *Tokens) Forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.held {
		if k.pod == pod {
			delete(t.held, k)
		}
	}
}

func (t *Tokens) request(ctx context.Context, pod *corev1.Pod, audience string, lifetime time.Duration) (heldToken, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	seconds := int64(lifetime / time.Second)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	began := t.now()
	got, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, req, metav1.CreateOptions{})
	if err != nil {
		return heldToken{}, fmt.Errorf("request a token of service account %q: %w", account, err)
	}
	// The API server may give another life than was asked for.
	expires := got.Status.ExpirationTimestamp.Time
	age := min(expires.Sub(began)*4/5, maxTokenAge) - rand.N(tokenJitter)
	return heldToken{token: got.Status.Token, expires: expires, refresh: began.Add(max(age, 0))}, nil
}
