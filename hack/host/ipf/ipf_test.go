package ipf_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/ipf"
)

// recorder is a Backend that remembers what it was told.
type recorder struct {
	loaded [][]ipf.Rule
	flush  int
	fail   error
}

func (r *recorder) Load(_ context.Context, nat []ipf.Rule, _ []ipf.FilterRule) error {
	r.loaded = append(r.loaded, slices.Clone(nat))
	return r.fail
}
func (r *recorder) Sessions(context.Context) ([]ipf.Session, error) { return nil, nil }
func (r *recorder) Flush(context.Context) (int, error)              { r.flush++; return 3, nil }

func TestSaveAndLoad(t *testing.T) {
	m := ipf.New(ipf.Config{Enabled: true})
	for _, rule := range goodRules {
		if r, err := ipf.ParseRule(rule); err != nil || r.Supported() != nil {
			continue
		}
		if code, _, errOut := run(t, m, "ipnat -f -", rule+"\n"); code != 0 || errOut != "" {
			t.Fatalf("%s: %s", rule, errOut)
		}
	}
	run(t, m, "ipf -f -", "block return-rst in quick on gw0 proto tcp from any to 10.96.0.0/16\n")
	saved, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	other := ipf.New(ipf.Config{})
	if err := other.Load(saved); err != nil {
		t.Fatal(err)
	}
	_, want, _ := run(t, m, "ipnat -lR", "")
	if _, got, _ := run(t, other, "ipnat -lR", ""); got != want || !strings.Contains(got, "rdr ") {
		t.Errorf("after loading:\n%s\nwant:\n%s", got, want)
	}
	if again, err := other.Save(); err != nil || !bytes.Equal(again, saved) {
		t.Errorf("saved again (%v):\n%s", err, again)
	}
	for _, r := range m.Rules() { // identity survives, too
		if code, _, errOut := run(t, other, "ipnat -f -", r.String()+"\n"); code != 0 || !strings.Contains(errOut, "File exists") {
			t.Errorf("%s is a new rule after loading: %s", r, errOut)
		}
	}
}

func TestOneLoadPerFile(t *testing.T) {
	b := &recorder{}
	m := ipf.New(ipf.Config{Backend: b, Enabled: true})
	run(t, m, "ipnat -f -", strings.Join(goodRules[:3], "\n")+"\nnonsense\n")
	run(t, m, "ipnat -f -", goodRules[0]+"\n") // a duplicate changes nothing
	if len(b.loaded) != 1 || len(b.loaded[0]) != 3 {
		t.Errorf("loaded %v", b.loaded)
	}
	b.fail = errors.New("out of order")
	if code, _, errOut := run(t, m, "ipnat -f -", goodRules[4]+"\n"); code != 1 || !strings.Contains(errOut, "out of order") {
		t.Errorf("a failing backend: exit %d, %s", code, errOut)
	}
	if n := len(m.Rules()); n != 3 {
		t.Errorf("%d rules after a failure, want the 3 before it", n)
	}
}

func TestRebootDropsEverything(t *testing.T) {
	b := &recorder{}
	m := ipf.New(ipf.Config{Backend: b, Enabled: true})
	run(t, m, "ipnat -f -", goodRules[0]+"\n")
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := run(t, m, "ipnat -l", ""); code != 1 {
		t.Error("the filter answers before its service started")
	}
	if err := m.Enable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := run(t, m, "ipnat -l", ""); strings.Contains(out, "rdr ") || b.flush != 1 {
		t.Errorf("after reboot:\n%s", out)
	}
}
