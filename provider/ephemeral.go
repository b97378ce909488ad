package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Ephemeral containers come to a pod that runs. Their roots come to its zone as
// storage's spares; everything else is as with other containers, but that
// nobody waits for them and none is started twice.

// driveEphemeral returns what an ephemeral container of a running zone needs,
// whether or not the init containers are done.
func (v view) driveEphemeral() step {
	out := wait(time.Time{})
	for _, c := range translate.Ephemeral(v.pod) {
		r := v.st.Container(c.Name)
		if r == nil || translate.AdmitEphemeral(v.pod, c.Name, spares(v.st)) != nil {
			continue
		}
		switch r.Phase {
		case podinit.Waiting:
			if r.Image == nil {
				out = sooner(out, v.try(actPull, c.Name))
			} else {
				out = sooner(out, v.drive(r))
			}
		case podinit.Running:
			out = sooner(out, v.attend(r))
		}
	}
	return out
}

// addEphemeralLocked takes the ephemeral containers of the pod's newest object
// into the record.
func (w *worker) addEphemeralLocked() error {
	st := w.st.Clone()
	var added []*corev1.Container
	for _, c := range translate.Ephemeral(w.pod) {
		if st.Container(c.Name) == nil {
			st.Containers = append(st.Containers, ledger.Container{Name: c.Name, Phase: podinit.Waiting})
			added = append(added, c)
		}
	}
	if len(added) == 0 {
		return nil
	}
	if err := w.save(w.pod, st); err != nil {
		return err
	}
	w.setLocked(st)
	for _, c := range added {
		if why := translate.AdmitEphemeral(w.pod, c.Name, spares(&st)); why != nil {
			w.eventOn(w.pod, c, corev1.EventTypeWarning, "Failed", "Error: %s", why.Message)
		}
	}
	return nil
}
