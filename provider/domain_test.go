package provider

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reddwarf.io/reddwarf/provider/translate"
)

// TestClusterDomainIsAwaited: a pod whose cluster's domain cannot be learned
// yet waits for it; it is not given a guess.
func TestClusterDomainIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.killAgent()
		since := time.Now()
		w.domain = func(context.Context) (string, error) {
			if time.Since(since) < time.Minute {
				return "", errors.New("the API server is away")
			}
			return "lab.example", nil
		}
		w.startAgent()
		w.create(testPod())
		settle(30 * time.Second)
		if s := w.status(); len(s.ContainerStatuses) > 0 && s.ContainerStatuses[0].State.Running != nil {
			t.Errorf("it runs without knowing the domain: %+v", s)
		}
		settle(5 * time.Minute)
		w.mustRun()
		text, err := os.ReadFile(filepath.Join(w.p.c.Storage.PodDir(testUID), translate.SpecDir, "resolv.conf"))
		if err != nil || !strings.Contains(string(text), "search default.svc.lab.example svc.lab.example lab.example\n") {
			t.Errorf("%q, %v", text, err)
		}
	})
}
