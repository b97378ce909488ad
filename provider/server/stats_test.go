package server

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestResourceMetrics(t *testing.T) {
	at := metav1.NewTime(time.UnixMilli(1700000000123))
	cpu := func(n uint64) *statsv1alpha1.CPUStats {
		return &statsv1alpha1.CPUStats{Time: at, UsageCoreNanoSeconds: &n}
	}
	memory := func(n uint64) *statsv1alpha1.MemoryStats {
		return &statsv1alpha1.MemoryStats{Time: at, WorkingSetBytes: &n}
	}
	got := string(resourceMetrics(&statsv1alpha1.Summary{
		Node: statsv1alpha1.NodeStats{CPU: cpu(2e9), Memory: memory(3 << 30)},
		Pods: []statsv1alpha1.PodStats{
			{
				PodRef: statsv1alpha1.PodReference{Name: "web-0", Namespace: "default"}, CPU: cpu(1_500_000_000), Memory: memory(1 << 20),
				Containers: []statsv1alpha1.ContainerStats{{Name: "web", StartTime: metav1.Unix(1700000000, 0), CPU: cpu(1e9), Memory: memory(1000)}},
			},
			{PodRef: statsv1alpha1.PodReference{Name: "starting", Namespace: "default"}},
		},
	}))
	for _, want := range []string{
		"# TYPE container_cpu_usage_seconds_total counter\ncontainer_cpu_usage_seconds_total{container=\"web\",pod=\"web-0\",namespace=\"default\"} 1 1700000000123\n",
		"container_memory_working_set_bytes{container=\"web\",pod=\"web-0\",namespace=\"default\"} 1000 1700000000123\n",
		"container_start_time_seconds{container=\"web\",pod=\"web-0\",namespace=\"default\"} 1.7e+09\n",
		"node_cpu_usage_seconds_total 2 1700000000123\n",
		"pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web-0\"} 1.5 1700000000123\n",
		"pod_memory_working_set_bytes{namespace=\"default\",pod=\"web-0\"} 1.048576e+06 1700000000123\n",
		"resource_scrape_error 0\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "starting") {
		t.Errorf("a pod without usage has samples:\n%s", got)
	}
	if got := string(resourceMetrics(nil)); !strings.Contains(got, "resource_scrape_error 1\n") || strings.Contains(got, "node_") {
		t.Errorf("without a summary:\n%s", got)
	}
}

func TestStatsOnlyCPUAndMemory(t *testing.T) {
	n := uint64(1)
	full := &statsv1alpha1.Summary{
		Node: statsv1alpha1.NodeStats{NodeName: "n", Fs: &statsv1alpha1.FsStats{UsedBytes: &n}, CPU: &statsv1alpha1.CPUStats{}},
		Pods: []statsv1alpha1.PodStats{{
			Network: &statsv1alpha1.NetworkStats{}, CPU: &statsv1alpha1.CPUStats{},
			Containers: []statsv1alpha1.ContainerStats{{Name: "c", Rootfs: &statsv1alpha1.FsStats{}, Memory: &statsv1alpha1.MemoryStats{}}},
		}},
	}
	lean := onlyCPUAndMemory(full)
	if lean.Node.Fs != nil || lean.Node.CPU == nil || lean.Pods[0].Network != nil || lean.Pods[0].CPU == nil ||
		lean.Pods[0].Containers[0].Rootfs != nil || lean.Pods[0].Containers[0].Memory == nil {
		t.Errorf("lean summary: %+v", lean)
	}
}
