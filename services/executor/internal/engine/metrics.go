package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

type metrics struct {
	ended     *prometheus.CounterVec
	duration  prometheus.Histogram
	nodes     *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	retries   *prometheus.CounterVec
	running   prometheus.Gauge
	commits   prometheus.Counter
	takeovers prometheus.Counter
	lost      prometheus.Counter
	deferred  prometheus.Counter
	exhausted prometheus.Counter
	tokens    *prometheus.CounterVec
	timeouts  *timeouts
}

func newMetrics() *metrics {
	buckets := prometheus.ExponentialBuckets(0.0005, 2.5, 14)
	m := &metrics{
		ended:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "agentflow_executions_ended_total", Help: "Executions that reached their terminal event here."}, []string{"status"}),
		duration:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "agentflow_execution_run_seconds", Help: "Time an execution was in the hands of this executor.", Buckets: buckets}),
		nodes:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "agentflow_node_run_seconds", Help: "Time one attempt of a node took.", Buckets: buckets}, []string{"type"}),
		failures:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "agentflow_node_failures_total", Help: "Attempts that failed, by class of error."}, []string{"type", "class"}),
		retries:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "agentflow_node_retries_total", Help: "Failed attempts that are followed by another."}, []string{"type"}),
		running:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "agentflow_executions_running", Help: "Executions in the hands of this executor."}),
		commits:   prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_commits_total", Help: "Commits appended by this executor."}),
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_takeovers_total", Help: "Executions taken up after a first delivery."}),
		lost:      prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_fences_lost_total", Help: "Executions let go because another executor had committed."}),
		deferred:  prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_jobs_deferred_total", Help: "Jobs handed back because their tenant had its share."}),
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_executions_exhausted_total", Help: "Executions given up because executors died over them again and again."}),
		tokens:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "agentflow_node_tokens_total", Help: "Tokens that models used, by type of node."}, []string{"type"}),
		timeouts:  newTimeouts(),
	}
	// From the start, so that the first failure is seen as an increase.
	for _, status := range []string{"completed", "failed", "timed_out", "cancelled"} {
		m.ended.WithLabelValues(status)
	}
	m.tokens.WithLabelValues("llm")
	return m
}

// Collectors are to be registered by the owner of the engine.
func (e *Engine) Collectors() []prometheus.Collector {
	m := e.metrics
	return []prometheus.Collector{m.ended, m.duration, m.nodes, m.failures, m.retries, m.running, m.commits, m.takeovers, m.lost, m.deferred, m.exhausted, m.tokens, m.timeouts}
}

func (m *metrics) observe(end protocol.Event, took time.Duration) {
	m.ended.WithLabelValues(status(end)).Inc()
	m.duration.Observe(took.Seconds())
}

func status(end protocol.Event) string {
	switch end.(type) {
	case protocol.Completed:
		return "completed"
	case protocol.Failed:
		return "failed"
	case protocol.TimedOut:
		return "timed_out"
	case protocol.Cancelled:
		return "cancelled"
	case protocol.Requested, protocol.Started, protocol.NodeCompleted, protocol.NodeFailed, protocol.NodeRateLimited,
		protocol.CancelRequested, protocol.Carried:
	}
	return "other"
}

func (m *metrics) node(nodeType string, tokens int64, err error, took time.Duration) {
	if tokens > 0 {
		m.tokens.WithLabelValues(nodeType).Add(float64(tokens))
	}
	m.nodes.WithLabelValues(nodeType).Observe(took.Seconds())
	if err == nil {
		return
	}
	class := string(source.ClassOf(err))
	if class == "" {
		class = "node"
	}
	m.failures.WithLabelValues(nodeType, class).Inc()
}
