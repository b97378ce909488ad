package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"reddwarf.io/reddwarf/hack/testbed"
)

const namespace = "default"

// label marks the pods of the benchmark.
const label = "bench"

// started is what a watch saw of one pod.
type started struct {
	uid                         string
	created, scheduled, running time.Time
}

// start creates n pods at once and waits until all of them run.
func (b *bench) start(ctx context.Context, name string, n int) ([]started, error) {
	return b.startAll(ctx, name, n, benchPod)
}

// startAll is start with pods of any shape.
func (b *bench) startAll(ctx context.Context, name string, n int, shape func(name, value string) *corev1.Pod) ([]started, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	w, err := b.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: label + "=" + name})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	starts := map[string]*started{}
	for i := range n {
		p := shape(fmt.Sprintf("%s-%d", name, i), name)
		starts[p.Name] = &started{created: time.Now()}
		if _, err := b.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	for left := n; left > 0; {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d pods do not run: %w", left, n, ctx.Err())
		case e, ok := <-w.ResultChan():
			if !ok || e.Type == watch.Error {
				return nil, errors.New("the watch of pods ended")
			}
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			s := starts[p.Name]
			s.uid = string(p.UID)
			if p.Spec.NodeName != "" && s.scheduled.IsZero() {
				s.scheduled = time.Now()
			}
			if p.Status.Phase == corev1.PodRunning && s.running.IsZero() {
				s.running = time.Now()
				left--
			}
		}
	}
	var out []started
	for _, s := range starts {
		out = append(out, *s)
	}
	return out, nil
}

// remove deletes the benchmark's pods and waits until they are gone.
func (b *bench) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	pods := b.client.CoreV1().Pods(namespace)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label}); err != nil {
		return err
	}
	for {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: label})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d pods are not gone: %w", len(list.Items), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func benchPod(name, value string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: value}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Tolerations:                   []corev1.Toleration{{Key: "virtual-kubelet.io/provider", Operator: corev1.TolerationOpExists}},
			Containers:                    []corev1.Container{{Name: "web", Image: testbed.Registry + "/reddwarf/web:1"}},
		},
	}
}
