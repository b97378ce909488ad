package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reddwarf.io/reddwarf/hack/testbed"
)

const (
	// probePeriod is a kubelet's default.
	probePeriod = 10 * time.Second
	// secondPort is of the second container, for which only one port is left.
	secondPort = 8081
)

// probes tells what n pods with three probes each cost while nothing else
// happens: a program, HTTP, and TCP on a second container, because one container
// has only two probes that go on.
func (b *bench) probes(ctx context.Context, n int, watched time.Duration) error {
	if _, err := b.start(ctx, "warm", 1); err != nil {
		return err
	}
	if err := b.remove(ctx); err != nil {
		return err
	}
	if _, err := b.startAll(ctx, "probed", n, probedPod); err != nil {
		return err
	}
	if err := b.allReady(ctx, n); err != nil {
		return err
	}
	if err := pause(ctx, probePeriod); err != nil { // what followed the start
		return err
	}
	conditions := observe()
	before, err := b.cost()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, watched); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.cost()
	if err != nil {
		return err
	}
	// Whoever was restarted by a failing probe was not just probed.
	if err := b.allReady(ctx, n); err != nil {
		return err
	}
	cores := func(d time.Duration) float64 { return d.Seconds() / took.Seconds() }
	agent, podinits := after.agentCPU-before.agentCPU, after.podinitCPU-before.podinitCPU
	fmt.Printf("%d pods x 3 probes every %s, for %.0f s; %s\n", n, probePeriod, took.Seconds(), conditions.end())
	fmt.Printf("  CPU: agent %.3f and podinits %.3f, together %.3f cores; beside them the probes' own processes in the zones %.3f, host commands of the agent %.3f\n",
		cores(agent), cores(podinits), cores(agent+podinits), cores(after.zoneCPU-before.zoneCPU), cores(after.commandCPU-before.commandCPU))
	fmt.Printf("  memory (PSS): agent %.1f MiB, %d podinits %.1f MiB (%.1f of it not of files), together %.1f MiB\n",
		mib(after.agent.pss), after.podinits, mib(after.podinitPSS), mib(after.podinitAnon), mib(after.agent.pss+after.podinitPSS))
	return b.remove(ctx)
}

// allReady waits until n pods are ready, and fails if a container was restarted.
func (b *bench) allReady(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		list, err := b.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: label})
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range list.Items {
			for _, c := range p.Status.ContainerStatuses {
				if c.RestartCount > 0 {
					return fmt.Errorf("pod %s: container %s was restarted", p.Name, c.Name)
				}
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready == n {
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return fmt.Errorf("%d of %d pods are ready: %w", ready, n, err)
		}
	}
}

func probedPod(name, value string) *corev1.Pod {
	p := benchPod(name, value)
	probe := func(h corev1.ProbeHandler) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: h, PeriodSeconds: int32(probePeriod.Seconds()), TimeoutSeconds: 5}
	}
	first := &p.Spec.Containers[0]
	first.LivenessProbe = probe(corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/web", "exit", "0"}}})
	first.ReadinessProbe = probe(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}})
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
		Name: "second", Image: testbed.Registry + "/reddwarf/web:1", Env: []corev1.EnvVar{{Name: "PORT", Value: fmt.Sprint(secondPort)}},
		LivenessProbe: probe(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(secondPort)}}),
	})
	return p
}
