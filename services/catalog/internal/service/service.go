package service

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// Service holds what handlers and readers share.
type Service struct {
	store   *postgres.Store
	bus     *bus.Bus
	log     *zap.Logger
	now     func() time.Time
	metrics *metrics

	// For tests of a crash: called between the steps of a command.
	step func(ctx context.Context, at string) error
}

// New makes the service over its two doors.
func New(store *postgres.Store, b *bus.Bus, log *zap.Logger, reg prometheus.Registerer) *Service {
	return &Service{
		store: store, bus: b, log: log, now: time.Now, metrics: newMetrics(reg),
		step: func(context.Context, string) error { return nil },
	}
}

// retryAfter is what a client is told when a part of the platform is away.
const retryAfter = time.Second

// outward turns an error into what may leave the service: refusals as they are, a store that is
// away as UNAVAILABLE. Everything else stays, to be logged and told as INTERNAL.
func outward(err error) error {
	var refusal *protocol.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, postgres.ErrUnavailable), errors.Is(err, bus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &protocol.Error{
			Code: protocol.CodeUnavailable, Message: "the store does not answer at the moment; try again",
			RetryAfterMS: retryAfter.Milliseconds(),
		}
	}
	return err
}

func refuse(code protocol.Code, field, message string) *protocol.Error {
	return &protocol.Error{Code: code, Field: field, Message: message}
}

// metrics of the service. No label takes tenants or ids.
type metrics struct {
	commands  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	projected *prometheus.CounterVec
	lag       *prometheus.GaugeVec
	behind    *prometheus.GaugeVec
	gaps      prometheus.Counter
	trimmed   prometheus.Counter
	logBytes  *prometheus.GaugeVec
	logLimit  *prometheus.GaugeVec
	expired   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_catalog_commands_total", Help: "Commands by verb and outcome.",
		}, []string{"verb", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agentflow_catalog_command_seconds", Help: "Time to carry out a command.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}, []string{"verb"}),
		projected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_projected_messages_total", Help: "Messages of the log that were brought into the tables.",
		}, []string{"stream"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentflow_projection_lag_seconds", Help: "Age of the message last brought into the tables, when it was; 0 when there is nothing to do.",
		}, []string{"stream"}),
		behind: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentflow_projection_lag_messages", Help: "Messages of the log that the tables do not have yet.",
		}, []string{"stream"}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentflow_projection_gaps_total", Help: "Times that messages were gone from the log before they were in the tables.",
		}),
		trimmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentflow_log_trimmed_messages_total", Help: "Messages that the janitor removed from the hot log.",
		}),
		logBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentflow_log_bytes", Help: "Size of a partition of the hot log when the janitor last looked.",
		}, []string{"partition"}),
		logLimit: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentflow_log_limit_bytes", Help: "Size at which a partition of the hot log takes no more.",
		}, []string{"partition"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentflow_expired_executions_total", Help: "Executions that were deleted because their retention had ended.",
		}),
	}
	reg.MustRegister(m.commands, m.seconds, m.projected, m.lag, m.behind, m.gaps, m.trimmed, m.logBytes, m.logLimit, m.expired)
	return m
}
