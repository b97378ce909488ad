package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"reddwarf.io/reddwarf/hack/testbed"
)

const (
	rotation         = "rotation" // test, host and pod
	rotationAudience = "https://rotation.example.org"
	rotationLife     = 600 // seconds, the shortest that the API server gives
)

// aging is the host of a pod whose token gets old while other tests run: they end the
// agent of the host that they share, and a new agent asks for new tokens at once.
var aging struct {
	host  *testbed.Host
	agent string // its process
}

// selected reports whether the test is among those that were asked for.
func selected(test string) bool {
	flag.Parse()
	pattern, _, _ := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	ok, err := regexp.MatchString(pattern, test)
	return ok || err != nil
}

// startAging makes a pod that reads its token for as long as it runs. It writes
// every content that differs from the one before, with the time and the number of
// readings. Nobody else's pods get to its host.
func startAging(ctx context.Context) error {
	h, err := bed.AddHost(ctx, rotation, testbed.HostOptions{})
	if err != nil {
		return err
	}
	aging.host = h
	if aging.agent, err = h.AgentPID(ctx); err != nil {
		return err
	}
	if _, err := bed.Kubectl(ctx, "taint", "node", rotation, "e2e=rotation:NoSchedule"); err != nil {
		return err
	}
	script := `
n=0; last=none
while :; do
  for i in 1 2 3 4 5; do
    now=; read -r now </tokens/token; n=$((n+1))
    if [ "$now" != "$last" ]; then last=$now; echo "token $(date +%s) $n $now"; fi
  done 2>&1
  sleep 0.2
done`
	_, err = bed.KubectlIn(ctx, `apiVersion: v1
kind: Pod
metadata: {name: `+rotation+`}
spec:
  nodeName: `+rotation+`
  terminationGracePeriodSeconds: 1
  volumes:
  - name: tokens
    projected:
      sources: [{serviceAccountToken: {path: token, audience: "`+rotationAudience+`", expirationSeconds: `+fmt.Sprint(rotationLife)+`}}]
  containers:
  - name: main
    image: `+busyboxImage+`
    command: ["sh", "-c", `+fmt.Sprintf("%q", script)+`]
    volumeMounts: [{name: tokens, mountPath: /tokens}]
`, "create", "-f", "-")
	return err
}

// reading is a token as the container found it.
type reading struct {
	at    int64 // seconds
	count int   // of readings until then
	token string

	Audience   []string `json:"aud"`
	Issued     int64    `json:"iat"`
	Expires    int64    `json:"exp"`
	Subject    string   `json:"sub"`
	Kubernetes struct {
		Pod struct{ Name, UID string }
	} `json:"kubernetes.io"`
}

// parseReading refuses all but a whole token.
func parseReading(line string) (reading, error) {
	var r reading
	if _, err := fmt.Sscanf(line, "token %d %d %s", &r.at, &r.count, &r.token); err != nil {
		return r, fmt.Errorf("the container read %q: %w", line, err)
	}
	parts := strings.Split(r.token, ".")
	if len(parts) != 3 {
		return r, fmt.Errorf("the container read %q, which has %d parts", r.token, len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("the container read %q: %w", r.token, err)
	}
	return r, nil
}

// readings waits until the container has read that many tokens.
func readings(t *testing.T, count int, most time.Duration) []reading {
	t.Helper()
	var all []reading
	eventually(t, most, fmt.Sprintf("%d tokens in the container", count), func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "logs", rotation)
		if err != nil {
			return err
		}
		all = nil
		for line := range strings.Lines(out) {
			r, err := parseReading(line)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		if len(all) < count {
			return fmt.Errorf("it has read %d", len(all))
		}
		return nil
	})
	return all
}

// review asks the API server about a token.
func review(t *testing.T, token, audience string) authenticationv1.TokenReviewStatus {
	t.Helper()
	out, err := bed.KubectlIn(t.Context(), fmt.Sprintf("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {token: %q, audiences: [%q]}\n", token, audience),
		"create", "-f", "-", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var r authenticationv1.TokenReview
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// TestTokenRotation looks at a pod that was started before all other tests: its
// token of ten minutes was replaced in time by an agent that nobody touched, and is
// replaced again by the next agent. What the container read was always a whole
// token that was good. The API server's shortest life is ten minutes: so alone
// this takes eight.
func TestTokenRotation(t *testing.T) {
	if aging.host == nil {
		t.Fatalf("its pod was not started: select this test by its name, not by a part of -test.run %q", flag.Lookup("test.run").Value)
	}
	t.Cleanup(func() {
		bed.Kubectl(context.Background(), "delete", "pod", rotation, "--ignore-not-found")
		aging.host.StopAgent()
		bed.Kubectl(context.Background(), "delete", "node", rotation)
	})
	first := readings(t, 1, time.Minute)[0]
	all := readings(t, 2, max(time.Until(time.Unix(first.Expires, 0)), 10*time.Second))
	if pid, err := aging.host.AgentPID(t.Context()); err != nil || pid != aging.agent {
		t.Fatalf("the agent is process %s, was %s, %v: its timer is not what replaced the token", pid, aging.agent, err)
	}
	// The API server's own times, so this says nothing of how fast the machine is.
	if age := all[1].Issued - first.Issued; age < rotationLife/2 {
		t.Errorf("the token was replaced when it was %d s old", age)
	}
	if err := aging.host.KillAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := aging.host.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	all = readings(t, len(all)+1, 2*time.Minute)
	p := waitPod(t, rotation, "a ready pod", ready)
	if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("the container was restarted %d times", n)
	}
	for i, r := range all {
		t.Logf("token %d: %d s to %d s, read from %d s on, as reading %d", i, r.Issued-first.Issued, r.Expires-first.Issued, r.at-first.Issued, r.count)
		if r.Expires-r.Issued != rotationLife || !slices.Equal(r.Audience, []string{rotationAudience}) ||
			r.Kubernetes.Pod.Name != rotation || r.Kubernetes.Pod.UID != string(p.UID) || r.Subject != "system:serviceaccount:default:default" {
			t.Errorf("token %d is %+v", i, r)
		}
		if i == 0 {
			continue
		}
		before := all[i-1]
		if r.Expires <= before.Expires || r.at >= before.Expires || r.at >= r.Expires {
			t.Errorf("token %d, good until %d, was read from %d on, and the one before was good until %d", i, r.Expires, r.at, before.Expires)
		}
		if r.count <= before.count {
			t.Errorf("token %d was reading %d, the one before %d: another process read it", i, r.count, before.count)
		}
	}
	if n := all[1].count - first.count; n < 1000 {
		t.Errorf("the first token was read %d times, so the container did not look all the time", n)
	}
	last := all[len(all)-1]
	got := review(t, last.token, rotationAudience)
	if !got.Authenticated || !slices.Equal(got.Audiences, []string{rotationAudience}) || got.User.Username != last.Subject ||
		!slices.Equal(got.User.Extra["authentication.kubernetes.io/pod-uid"], []string{string(p.UID)}) {
		t.Errorf("the API server says of the last token %+v", got)
	}
	if got := review(t, last.token, "https://other.example.org"); got.Authenticated {
		t.Errorf("the API server accepts the last token for another audience: %+v", got)
	}
	if time.Now().Unix() >= last.Expires {
		t.Errorf("the last token has expired, and there is no other")
	}
}
