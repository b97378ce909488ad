package main

import (
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

// metrics are what the controller tells Prometheus. Where kube-proxy has the
// same, the name is its own, so that dashboards and objectives need no change.
type metrics struct {
	registry *prometheus.Registry

	latency     prometheus.Histogram
	duration    *prometheus.HistogramVec
	lastSync    prometheus.Gauge
	rules       prometheus.Gauge
	foreign     prometheus.Gauge
	changed     *prometheus.CounterVec
	repairs     prometheus.Counter
	errors      *prometheus.CounterVec
	sessions    prometheus.Gauge
	maxSessions prometheus.Gauge
	advice      prometheus.Gauge
	problems    *prometheus.CounterVec
}

// kinds are the values of the errors' label.
var kinds = []struct { //nolint:gochecknoglobals // it never changes
	name string
	is   error
}{{"filter_off", ipnat.ErrOff}, {"no_device", ipnat.ErrNoDevice}, {"drift", ipnat.ErrDrift}, {"syntax", ipnat.ErrSyntax}, {"complaint", command.ErrComplained}}

// kindOf returns the kind of an error for the metrics.
func kindOf(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	var ce *command.Error
	if errors.As(err, &ce) {
		return "command"
	}
	return "other"
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubeproxy_network_programming_duration_seconds",
			Help: "From the change of a pod, as its EndpointSlice tells it, to the rules that follow from it.",
			// The buckets of kube-proxy.
			Buckets: slices.Concat(prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59), prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7))}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "reddwarf_clusterip_sync_duration_seconds",
			Help: "How long changes of rules take; full ones read all rules.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"scope"}),
		lastSync: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Help: "When the rules were last brought in line."}),
		rules:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "reddwarf_clusterip_rules", Help: "Rules of ipnat that the cluster's Services need on this host."}),
		foreign:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "reddwarf_clusterip_foreign_rules", Help: "Rules of ipnat on this host that are somebody else's."}),
		changed:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reddwarf_clusterip_rules_changed_total", Help: "Rules given to the kernel."}, []string{"operation"}),
		repairs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "reddwarf_clusterip_drift_repairs_total", Help: "Times that rules had gone or come which nobody had changed here, and were repaired."}),
		errors:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reddwarf_clusterip_errors_total", Help: "Changes of rules that failed; each is tried again."}, []string{"kind"}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "reddwarf_clusterip_sessions", Help: "Translated connections in the kernel's table, everybody's."}),
		maxSessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "reddwarf_clusterip_sessions_max",
			Help: "How many translated connections the kernel's table takes (ipf_nattable_max)."}),
		advice:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "reddwarf_clusterip_table_advice", Help: "Tables of the kernel that the cluster has outgrown; the log and the node's events say what to do."}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reddwarf_clusterip_service_problems_total", Help: "What Services want and this host cannot do; the Service's events say it."}, []string{"reason"}),
	}
	m.registry.MustRegister(m.latency, m.duration, m.lastSync, m.rules, m.foreign, m.changed, m.repairs, m.errors, m.sessions, m.maxSessions, m.advice, m.problems,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, op := range []string{"add", "remove"} {
		m.changed.WithLabelValues(op)
	}
	m.errors.WithLabelValues("command")
	m.errors.WithLabelValues("other")
	for _, k := range kinds {
		m.errors.WithLabelValues(k.name)
	}
	return m
}

// observe takes the outcome of a run.
func (m *metrics) observe(o services.Outcome) {
	scope := "partial"
	if o.Full {
		scope = "full"
	}
	m.duration.WithLabelValues(scope).Observe(o.Took.Seconds())
	m.rules.Set(float64(o.Rules))
	m.changed.WithLabelValues("add").Add(float64(o.Added))
	m.changed.WithLabelValues("remove").Add(float64(o.Removed))
	if o.Repair {
		m.repairs.Inc()
	}
	if o.Err != nil {
		m.errors.WithLabelValues(kindOf(o.Err)).Inc()
		return
	}
	m.lastSync.Set(float64(time.Now().UnixMilli()) / 1000)
	for _, l := range o.Latencies {
		m.latency.Observe(l.Seconds())
	}
	if o.Full {
		m.foreign.Set(float64(o.Foreign))
		m.sessions.Set(float64(o.Tables.Sessions))
		m.maxSessions.Set(float64(o.Tables.MaxSessions))
		m.advice.Set(float64(len(o.Tables.Advice)))
	}
}
