package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

// admit says why a pod is not let in, or that its worker has to see to it that
// there is room first. The caller holds admission.
//
// Only critical pods are made room for, and only where room is all that is
// missing: as in a kubelet, no pod goes for the sake of one that is refused.
func (p *Provider) admit(pod *corev1.Pod, node translate.Node) (why *translate.Refusal, outside bool) {
	if why = translate.Admit(pod, node); why != nil {
		return why, false
	}
	before, critical := !pod.Status.StartTime.IsZero(), translate.Critical(pod)
	if !before && p.c.Pressures != nil {
		why = translate.Overburdened(pod, p.c.Pressures())
	}
	if why == nil && !before && !critical {
		why = translate.Room(pod, p.allocatedBeside(nil), p.c.Node)
	}
	if why == nil {
		why = p.portsTaken(pod)
	}
	if why != nil || before || !critical {
		return why, false
	}
	_, staying := p.staying(nil)
	if _, ok := translate.Preempt(pod, staying, p.c.Node); !ok {
		return translate.Room(pod, staying, p.c.Node), false
	}
	return nil, true
}

// staying are the other pods that are not about to go, with what they were
// granted. Those that wait for room are among them.
func (p *Provider) staying(not *worker) (workers []*worker, pods []*corev1.Pod) {
	return p.beside(not, func(w *worker) bool { return w.st.End == nil && w.st.Deletion == nil })
}

// holding are the other pods that have their part of the node by now: all that
// were let in, until nothing of them runs and their zones are down. That is later
// than when the scheduler takes an ended pod's part for free.
func (p *Provider) holding(not *worker) []*corev1.Pod {
	_, pods := p.beside(not, func(w *worker) bool {
		return !w.outside && (!translate.Over(w.st) || active(p.survey.zone(w.zone).State))
	})
	return pods
}

// enter lets a critical pod in as soon as others have made room for it, and sees
// to it that they do.
//
// None of this is recorded but that a pod has to go, which is in that pod's
// record. So an agent that begins anew, to which the API server names the pod
// again, counts those that are going already and evicts no more than are missing.
func (w *worker) enter() error {
	w.mu.Lock()
	done := !w.outside || w.st.End != nil || w.st.Deletion != nil
	w.mu.Unlock()
	if done {
		return nil
	}
	w.p.admission.Lock()
	defer w.p.admission.Unlock()
	pod, now := w.object(), time.Now()
	workers, staying := w.p.staying(w)
	victims, ok := translate.Preempt(pod, staying, w.p.c.Node)
	room := translate.Room(pod, staying, w.p.c.Node)
	if room == nil {
		room = translate.Room(pod, w.p.holding(w), w.p.c.Node)
	}
	if room == nil || !ok {
		err := w.change(func(st *ledger.State) {
			st.Accepted = now
			if room != nil { // others have become larger since
				st.End = refusal(room, now)
			}
		})
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.outside = false
		clear(w.waiting)
		return nil
	}
	w.mu.Lock()
	for _, c := range translate.EveryContainer(pod) {
		w.waiting[c.Name] = translate.Waiting{Reason: translate.ReasonPreempting, Message: "Other pods are evicted to make room: " + room.Message}
	}
	w.mu.Unlock()
	for _, i := range victims {
		v := workers[i]
		w.p.c.Log.Infof("pod %s/%s is evicted in order to admit pod %s/%s, which is critical", v.namespace, v.name, w.namespace, w.name)
		err := v.evictWith(ledger.End{
			Phase: corev1.PodFailed, Reason: translate.ReasonPreempting, Message: translate.PreemptMessage, At: now, Disrupted: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refusal is the end of a pod that is not let in.
func refusal(r *translate.Refusal, at time.Time) *ledger.End {
	return &ledger.End{Phase: corev1.PodFailed, Reason: r.Reason, Message: r.Message, At: at, Refused: true}
}

// noteRoom tells those who wait for room when the pod has let go of its part of
// the node.
func (w *worker) noteRoom(st *ledger.State, zone zones.State) {
	if free := translate.Over(*st) && !active(zone); free && !w.free {
		w.free = true
		w.p.roomMade()
	}
}

// roomMade lets those look again who wait for room: critical pods that are not
// let in yet, and pods whose wishes for more are deferred.
func (p *Provider) roomMade() {
	for _, w := range p.all() {
		w.mu.Lock()
		waits := w.outside || w.st.Pending != nil && w.st.Pending.Reason == corev1.PodReasonDeferred
		w.mu.Unlock()
		if waits {
			w.poke()
		}
	}
}
