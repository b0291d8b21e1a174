package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/limiter/internal/redis"
)

type metrics struct {
	calls    *prometheus.CounterVec
	permits  *prometheus.CounterVec
	seconds  prometheus.Histogram
	tokens   *prometheus.CounterVec
	failures *prometheus.CounterVec
	up       prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_limiter_calls_total",
			Help: "Calls answered, by outcome. For acquire: granted, refused, degraded (Redis away, answered by policy), invalid, error.",
		}, []string{"call", "outcome"}),
		permits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_limiter_asks_total",
			Help: "Asks decided, by result: granted, or the metric that refused.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentflow_limiter_decision_seconds", Help: "Time that Redis took to decide on an acquire.",
			Buckets: []float64{.0001, .0002, .0005, .001, .002, .005, .01, .025, .05},
		}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_limiter_tokens_total",
			Help: "LLM tokens reserved and used, and the number of reservations that nobody settled (expired).",
		}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_limiter_redis_failures_total",
			Help: "Decisions that Redis failed to make, by reason: timeout, unreachable, readonly, unready, denied, script.",
		}, []string{"reason"}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentflow_limiter_redis_up", Help: "1 while Redis is asked, 0 while it is given up and the policy decides.",
		}),
	}
	registry.MustRegister(m.calls, m.permits, m.seconds, m.tokens, m.failures, m.up)
	return m
}

func (m *metrics) decided(g protocol.Grant, ask redis.Ask) {
	outcome := "refused"
	if g.Granted {
		outcome = "granted"
		m.permits.WithLabelValues("granted").Add(float64(1 + g.Behind))
		for _, w := range ask.Wants[:1+g.Behind] {
			if w.Reservation != "" {
				m.tokens.WithLabelValues("reserved").Add(float64(w.Tokens))
			}
		}
	}
	if g.LimitingMetric != "" {
		m.permits.WithLabelValues(string(g.LimitingMetric)).Inc()
	}
	m.calls.WithLabelValues("acquire", outcome).Inc()
}
