package provider

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"reddwarf.io/reddwarf/provider/objects"
)

// TestTokenNeverExpires lets a pod with a token of ten minutes, the shortest that
// the API server gives, run for a day on the agent's own keeping of tokens: what
// the pod can read is good at every moment, though the API server is away for some
// minutes now and then.
func TestTokenNeverExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		issued := 0
		client := fake.NewClientset()
		client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() != "token" {
				return false, nil, nil
			}
			// A token that was due for replacement just before has 20 s left after this.
			if time.Since(time.Now().Truncate(30*time.Minute)) < 100*time.Second {
				return true, nil, apierrors.NewServiceUnavailable("away")
			}
			issued++
			r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
			expires := time.Now().Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
			r.Status = authenticationv1.TokenRequestStatus{
				Token: fmt.Sprintf("%d %s", issued, expires.Format(time.RFC3339)), ExpirationTimestamp: metav1.NewTime(expires),
			}
			return true, r, nil
		})
		tokens := objects.NewTokens(client)
		settle(5 * time.Minute) // out of the first minutes, in which the API server is away
		pod := testPod(func(p *corev1.Pod) {
			p.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds = new(int64(600))
		})
		w.cluster.edit(func(c *fakeCluster) {
			c.token = func() (string, time.Time, error) {
				return tokens.Token(context.Background(), pod, "", 10*time.Minute)
			}
		})
		w.create(pod)
		settle(10 * time.Second)
		w.mustRun()
		for range 24 * 60 * 4 {
			settle(15 * time.Second)
			shown := w.shown("token", "token")
			_, until, _ := strings.Cut(shown, " ")
			expires, err := time.Parse(time.RFC3339, until)
			if err != nil {
				t.Fatalf("the pod reads %q", shown)
			}
			if !time.Now().Before(expires) {
				t.Fatalf("at %s the pod reads %q, which has expired", time.Now().Format(time.RFC3339), shown)
			}
		}
		if most := 24 * 60 / 7; issued < 24*60/10 || issued > most {
			t.Errorf("%d tokens in a day, want one in about eight minutes, at most %d", issued, most)
		}
	})
}

// TestSecretAccessRevoked takes the right to read a secret away: that ends in an
// event, the pod goes on with what it has, and sees what is new once it may again.
func TestSecretAccessRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		secret := func(word string) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "word"}, Data: map[string][]byte{"word": []byte(word)}}
		}
		w.cluster.edit(func(c *fakeCluster) { c.secrets = map[string]*corev1.Secret{"word": secret("first")} })
		changed := objects.Key{Kind: objects.Secret, Namespace: "default", Name: "word"}
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "word", VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: "word"}}})
		}))
		settle(time.Second)
		w.mustRun()
		w.cluster.edit(func(c *fakeCluster) {
			c.forbidden = map[string]error{"word": apierrors.NewForbidden(corev1.Resource("secrets"), "word", nil)}
		})
		w.p.ObjectChanged(changed)
		settle(time.Hour)
		w.mustRun()
		if !w.events.has(`FailedMount: MountVolume.SetUp failed for volume "word" : secrets "word" is forbidden`) {
			t.Errorf("events %v", w.events.reasons)
		}
		if got := w.shown("word", "word"); got != "first" {
			t.Errorf("the pod reads %q", got)
		}
		if n := w.status().ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("it was restarted %d times", n)
		}
		w.cluster.edit(func(c *fakeCluster) { c.forbidden, c.secrets["word"] = nil, secret("second") })
		settle(10 * time.Minute)
		if got := w.shown("word", "word"); got != "second" {
			t.Errorf("when it may be read again, the pod reads %q", got)
		}
	})
}
