package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// versions is the manifest of a ConfigMap whose keys all begin with a number.
func versions(n int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: versions}\ndata:\n")
	for _, key := range []string{"a", "b", "c", "d"} {
		fmt.Fprintf(&b, "  %s: |\n    %d\n    %s\n", key, n, strings.Repeat("x", 8<<10))
	}
	return b.String()
}

// TestObjectsChangeAtomically reads the files of a ConfigMap without a pause while
// it is changed: none is ever missing or cut, and none that is read later is older
// than one that was read before, which is what one swap of all files together means.
func TestObjectsChangeAtomically(t *testing.T) {
	apply(t, versions(0))
	reader := `
cd /versions; last=none; n=0
while :; do
  for f in a b c d; do
    if ! { read v && read pad; } <$f; then echo "CUT $f"; fi
    [ ${#pad} = 8192 ] || echo "CUT $f: ${#pad}"
    eval v_$f=$v
  done 2>&1
  [ $v_a -le $v_b ] && [ $v_b -le $v_c ] && [ $v_c -le $v_d ] || echo "TORN $v_a $v_b $v_c $v_d"
  n=$((n+1))
  if [ $v_d != $last ]; then last=$v_d; echo "saw $last after $n rounds"; fi
done`
	apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: atomic}\nspec:"+onNode+`
  terminationGracePeriodSeconds: 1
  volumes: [{name: versions, configMap: {name: versions}}]
  containers:
  - name: main
    image: `+busyboxImage+`
    command: ["sh", "-c", `+fmt.Sprintf("%q", reader)+`]
    resources: {limits: {cpu: 500m}}
    volumeMounts: [{name: versions, mountPath: /versions}]
`)
	waitPod(t, "atomic", "a ready pod", ready)
	logs := func(ctx context.Context) (string, error) { return bed.Kubectl(ctx, "logs", "atomic") }
	for n := range 6 {
		began := time.Now()
		if n > 0 {
			if _, err := bed.KubectlIn(t.Context(), versions(n), "replace", "-f", "-"); err != nil {
				t.Fatal(err)
			}
		}
		err := bed.Eventually(t.Context(), 30*time.Second, "the change in the container", func(ctx context.Context) error {
			out, err := logs(ctx)
			if err == nil && !strings.Contains(out, fmt.Sprintf("saw %d after", n)) {
				err = fmt.Errorf("the container says %q", out)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("version %d was seen within %.1f s", n, time.Since(began).Seconds())
	}
	out, err := logs(t.Context())
	if err != nil || strings.Contains(out, "CUT") || strings.Contains(out, "TORN") {
		t.Errorf("%v; the container says\n%s", err, out)
	}
}

// TestSecretGone takes a secret away from under a pod: that ends in events, the pod
// goes on with what it has, and another one waits until the secret is back.
func TestSecretGone(t *testing.T) {
	secret := func(word string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: taken}\nstringData: {word: " + word + "}\n"
	}
	apply(t, secret("first"))
	volumes, mounts := "- {name: taken, secret: {secretName: taken}}", "- {name: taken, mountPath: /taken}"
	apply(t, sleeper("has-secret", volumes, mounts))
	waitPod(t, "has-secret", "a ready pod", ready)
	agent, err := host.AgentPID(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	kubectl(t, "delete", "secret", "taken")
	apply(t, sleeper("lacks-secret", volumes, mounts))
	for _, pod := range []string{"has-secret", "lacks-secret"} {
		waitReason(t, pod, "FailedMount", `MountVolume.SetUp failed for volume "taken" : secret "taken" not found`)
	}
	if out := inPod(t, "has-secret", "cat /taken/word"); out != "first" {
		t.Errorf("the pod that has it reads %q", out)
	}
	p := waitPod(t, "has-secret", "a ready pod", ready)
	if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("it was restarted %d times", n)
	}

	apply(t, secret("second"))
	waitPod(t, "lacks-secret", "a ready pod, now that the secret is there", ready)
	err = bed.Eventually(t.Context(), time.Minute, "the new secret in the pod", func(context.Context) error {
		if out := inPod(t, "has-secret", "cat /taken/word"); out != "second" {
			return fmt.Errorf("it reads %q", out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if now, err := host.AgentPID(t.Context()); err != nil || now != agent {
		t.Errorf("the agent was process %s and is %s, %v", agent, now, err)
	}
}
