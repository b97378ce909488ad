package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestObjectVolumes shows files and variables of a ConfigMap and a Secret, and
// that a change arrives in the running container.
func TestObjectVolumes(t *testing.T) {
	apply(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, odd.key: "a b;$(c)"}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: "s3cret"}
`)
	apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: objects, labels: {tier: front}}\nspec:"+onNode+`
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: password, secret: {secretName: password, defaultMode: 0400}}
  - {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  containers:
  - name: main
    image: `+busyboxImage+`
    command: ["sleep", "3600"]
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: password, mountPath: /password}
    - {name: about, mountPath: /about}
`)
	p := waitPod(t, "objects", "a ready pod", ready)
	for command, want := range map[string]string{
		"cat /settings/color":        "red",
		"cat /settings/odd.key":      "a b;$(c)",
		"cat /password/word":         "s3cret",
		"stat -Lc %a /password/word": "400\n",
		"cat /about/labels":          `tier="front"`,
		"printf %s $COLOR/$WORD":     "red/s3cret",
		"printf %s $POD_IP":          p.Status.PodIP,
	} {
		if out, code := kubectlCode(t, "", "exec", "objects", "--", "sh", "-c", command); code != 0 || out != want {
			t.Errorf("%s: %q, code %d; want %q", command, out, code, want)
		}
	}

	kubectl(t, "patch", "configmap", "settings", "-p", `{"data":{"color":"blue"}}`)
	err := bed.Eventually(t.Context(), 30*time.Second, "the change in the container", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "exec", "objects", "--", "cat", "/settings/color")
		if err == nil && out != "blue" {
			err = fmt.Errorf("it reads %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
