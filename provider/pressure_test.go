package provider

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/globalzone"
)

// TestEvictionUnderPressure tells the provider again and again that memory is
// short, as each reading of the node does: one pod after another goes, the largest
// first, and one that the cluster cannot do without stays.
func TestEvictionUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		critical := int32(2_000_000_000)
		for i := range 3 {
			w.create(testPod(func(p *corev1.Pod) {
				p.Name, p.UID = fmt.Sprintf("web%d", i), types.UID(fmt.Sprintf("%d%s", i, testUID[1:]))
				if i == 2 {
					p.Spec.Priority = &critical
				}
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: "somebody's"}}
			}))
		}
		settle(time.Second)
		w.host.use(func(u *fakeUse) {
			for _, z := range w.host.zones {
				i := int64(z.config.Name[len(translate.ZonePrefix)] - '0')
				u.zones[z.id] = globalzone.ZoneUsage{RSS: (10 + i) << 20, HasRSS: true}
			}
		})
		phases := func() string {
			var out []string
			for i := range 3 {
				p, err := w.api.get("default", fmt.Sprintf("web%d", i))
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, string(p.Status.Phase))
			}
			return strings.Join(out, " ")
		}
		short := translate.Shortage{Resource: corev1.ResourceMemory, Available: 1 << 20, Threshold: 100 << 20}
		for _, want := range []string{"Running Failed Running", "Failed Failed Running", "Failed Failed Running"} {
			for range 3 {
				w.p.Short(short) // those that follow at once are of the same shortage
			}
			settle(9 * time.Second)
			if got := phases(); got != want {
				t.Errorf("the pods are %s, want %s", got, want)
			}
			settle(time.Second)
		}
		p, err := w.api.get("default", "web1")
		if err != nil {
			t.Fatal(err)
		}
		if s := p.Status; s.Reason != "Evicted" || !strings.HasPrefix(s.Message, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1024Ki. Container web was using 11264Ki, request is 0, ") {
			t.Errorf("status %s: %s", s.Reason, s.Message)
		}
		n := 0
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.DisruptionTarget {
				n++
				if c.Status != corev1.ConditionTrue || c.Reason != "TerminationByKubelet" || c.Message != p.Status.Message {
					t.Errorf("condition %+v", c)
				}
			}
		}
		if n != 1 {
			t.Errorf("%d conditions DisruptionTarget", n)
		}
		if !w.events.has("EvictionThresholdMet: Attempting to reclaim memory") || !w.events.has("Evicted: The node was low on resource: memory.") {
			t.Errorf("events %v", w.events.reasons)
		}
	})
}

// TestPressureWithoutMeasurements evicts nobody while it is not known who uses what.
func TestPressureWithoutMeasurements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Minute)
		w.host.use(func(u *fakeUse) { u.err = fmt.Errorf("kstat is away") })
		w.p.Short(translate.Shortage{Resource: corev1.ResourceMemory, Available: 1, Threshold: 2})
		settle(time.Minute)
		w.mustRun()
	})
}
