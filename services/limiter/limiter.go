// Package limiter is the service that grants room in queues for the whole fleet, on one count in
// Redis. docs/limits.md says what the limits mean.
package limiter

import (
	"context"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/services/limiter/internal/redis"
	"github.com/agentflow/agentflow/services/limiter/internal/service"
)

// Config is what the limiter reads from the environment.
type Config struct {
	daemon.Common
	Bus bus.Config
	limits.Policy

	RedisURL       string `env:"REDIS_URL" envDefault:"redis://127.0.0.1:6379/0" secret:"true" help:"Redis 7 or newer: redis://, redis+sentinel://host,host/master or redis+cluster://host,host; rediss… for TLS"`
	RedisTimeoutMS int    `env:"REDIS_TIMEOUT_MS" envDefault:"50" check:"min=1,max=10000" help:"time that Redis gets for one decision, in milliseconds; then RATE_LIMIT_FAIL decides"`
	Concurrency    int    `env:"LIMITER_CONCURRENCY" envDefault:"64" check:"min=1,max=1024" help:"calls in hand at a time; more wait"`
}

// Validate checks what tags cannot.
func (c Config) Validate() []error {
	if err := redis.CheckURL(c.RedisURL); err != nil {
		return []error{&daemon.Problem{Variable: "REDIS_URL", Rule: err.Error()}}
	}
	return nil
}

// Main is the limiter as a process of its own: it connects to NATS and runs.
func Main(ctx context.Context, rt *daemon.Runtime, cfg Config) error {
	cfg.Bus.Name, cfg.Bus.Log, cfg.Bus.Tracer, cfg.Bus.CallsOnly = rt.Name, rt.Log, rt.Tracer, true
	b, err := bus.Connect(ctx, cfg.Bus)
	if err != nil {
		return err
	}
	defer b.Close()
	rt.Health.Register("nats", true, b.Ping)
	return Run(ctx, rt, b, cfg)
}

// Run answers calls until ctx ends, and then until those in hand are answered. It starts without
// Redis too: then the policy decides until Redis comes.
func Run(ctx context.Context, rt *daemon.Runtime, b *bus.Bus, cfg Config) error {
	s, err := service.New(service.Options{
		Redis:  redis.Config{URL: cfg.RedisURL, Timeout: time.Duration(cfg.RedisTimeoutMS) * time.Millisecond},
		Policy: cfg.Policy, Log: rt.Log, Metrics: rt.Metrics,
	})
	if err != nil {
		return err
	}
	g := rt.Group()
	defer g.Close(ctx)
	g.Door("redis connections", s.Close)
	g.Add(daemon.Part{Name: "redis watch", Run: s.Watch})
	rt.Health.Register("redis", false, s.Check)

	calls, err := b.Serve("limiter", rt.Version, cfg.Concurrency)
	if err != nil {
		return err
	}
	g.Door("calls", func(context.Context) error { return calls.Stop() })
	if err := s.Answer(calls); err != nil { //nolint:contextcheck // a call is handled under the service's own life
		return err
	}
	rt.Log.Info("limiter answers")
	return g.Run(ctx)
}
