package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"

	vklog "github.com/virtual-kubelet/virtual-kubelet/log"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// serveStats answers with the summary, or with ?only_cpu_and_memory=true with
// the part of it that autoscalers need.
func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) {
	summary, err := s.config.Pods.StatsSummary(r.Context())
	if err != nil {
		writeError(w, r, err)
		return
	}
	if parseBool(r.URL.Query(), "only_cpu_and_memory") {
		summary = onlyCPUAndMemory(summary)
	}
	writeJSON(w, r, summary)
}

// onlyCPUAndMemory returns what a kubelet leaves of a summary then.
func onlyCPUAndMemory(s *statsv1alpha1.Summary) *statsv1alpha1.Summary {
	out := &statsv1alpha1.Summary{
		Node: statsv1alpha1.NodeStats{NodeName: s.Node.NodeName, StartTime: s.Node.StartTime, CPU: s.Node.CPU, Memory: s.Node.Memory},
		Pods: []statsv1alpha1.PodStats{},
	}
	for _, p := range s.Pods {
		lean := statsv1alpha1.PodStats{PodRef: p.PodRef, StartTime: p.StartTime, CPU: p.CPU, Memory: p.Memory, Containers: []statsv1alpha1.ContainerStats{}}
		for _, c := range p.Containers {
			lean.Containers = append(lean.Containers, statsv1alpha1.ContainerStats{Name: c.Name, StartTime: c.StartTime, CPU: c.CPU, Memory: c.Memory})
		}
		out.Pods = append(out.Pods, lean)
	}
	return out
}

// serveResourceMetrics answers in the text format of Prometheus, with the names
// and the meaning of a kubelet's /metrics/resource, which metrics-server reads.
func (s *Server) serveResourceMetrics(w http.ResponseWriter, r *http.Request) {
	summary, err := s.config.Pods.StatsSummary(r.Context())
	if err != nil {
		vklog.G(r.Context()).WithError(err).Warn("kubelet API: usage cannot be measured")
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(resourceMetrics(summary)) //nolint:errcheck // the client may be gone
}

// family is one metric with its samples.
type family struct {
	name, kind, help string
	samples          bytes.Buffer
}

// add writes one sample. Labels are names of pods, containers and namespaces,
// which hold nothing that would have to be escaped.
func (f *family) add(labels string, value float64, at time.Time) {
	f.samples.WriteString(f.name)
	f.samples.WriteString(labels)
	f.samples.WriteByte(' ')
	f.samples.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	if !at.IsZero() {
		fmt.Fprintf(&f.samples, " %d", at.UnixMilli())
	}
	f.samples.WriteByte('\n')
}

func (f *family) cpu(labels string, c *statsv1alpha1.CPUStats) {
	if c != nil && c.UsageCoreNanoSeconds != nil {
		f.add(labels, time.Duration(*c.UsageCoreNanoSeconds).Seconds(), c.Time.Time)
	}
}

func (f *family) memory(labels string, m *statsv1alpha1.MemoryStats) {
	if m != nil && m.WorkingSetBytes != nil {
		f.add(labels, float64(*m.WorkingSetBytes), m.Time.Time)
	}
}

// resourceMetrics renders a summary; nil means that there is none.
func resourceMetrics(s *statsv1alpha1.Summary) []byte {
	containerCPU := family{name: "container_cpu_usage_seconds_total", kind: "counter", help: "[STABLE] Cumulative cpu time consumed by the container in core-seconds"}
	containerMemory := family{name: "container_memory_working_set_bytes", kind: "gauge", help: "[STABLE] Current working set of the container in bytes"}
	containerStart := family{name: "container_start_time_seconds", kind: "gauge", help: "[STABLE] Start time of the container since unix epoch in seconds"}
	nodeCPU := family{name: "node_cpu_usage_seconds_total", kind: "counter", help: "[STABLE] Cumulative cpu time consumed by the node in core-seconds"}
	nodeMemory := family{name: "node_memory_working_set_bytes", kind: "gauge", help: "[STABLE] Current working set of the node in bytes"}
	podCPU := family{name: "pod_cpu_usage_seconds_total", kind: "counter", help: "[STABLE] Cumulative cpu time consumed by the pod in core-seconds"}
	podMemory := family{name: "pod_memory_working_set_bytes", kind: "gauge", help: "[STABLE] Current working set of the pod in bytes"}
	failed := family{name: "resource_scrape_error", kind: "gauge", help: "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"}
	if s == nil {
		failed.add("", 1, time.Time{})
	} else {
		failed.add("", 0, time.Time{})
		nodeCPU.cpu("", s.Node.CPU)
		nodeMemory.memory("", s.Node.Memory)
		for _, p := range s.Pods {
			for _, c := range p.Containers {
				labels := fmt.Sprintf("{container=%q,pod=%q,namespace=%q}", c.Name, p.PodRef.Name, p.PodRef.Namespace)
				containerCPU.cpu(labels, c.CPU)
				containerMemory.memory(labels, c.Memory)
				if !c.StartTime.IsZero() {
					containerStart.add(labels, float64(c.StartTime.UnixNano())/1e9, time.Time{})
				}
			}
			labels := fmt.Sprintf("{namespace=%q,pod=%q}", p.PodRef.Namespace, p.PodRef.Name)
			podCPU.cpu(labels, p.CPU)
			podMemory.memory(labels, p.Memory)
		}
	}
	var out bytes.Buffer
	for _, f := range []*family{&containerCPU, &containerMemory, &containerStart, &nodeCPU, &nodeMemory, &podCPU, &podMemory, &failed} {
		if f.samples.Len() > 0 {
			fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
			out.Write(f.samples.Bytes())
		}
	}
	return out.Bytes()
}
