package service

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
	"github.com/agentflow/agentflow/services/limiter/internal/redis"
)

// reservationLife is how long a reservation lives when the ask does not say.
const reservationLife = time.Minute

// Service is the handlers of all calls. It is safe for concurrent use.
type Service struct {
	door    *redis.Door
	policy  limits.Policy
	log     *zap.Logger
	notice  *limits.Notice
	metrics *metrics
}

// Options of a service.
type Options struct {
	Redis   redis.Config // its listeners are the service's own
	Policy  limits.Policy
	Log     *zap.Logger
	Metrics prometheus.Registerer
}

// New opens the door to Redis, which need not be there yet.
func New(o Options) (*Service, error) {
	s := &Service{
		policy: o.Policy, log: o.Log, notice: limits.NewNotice(o.Log, o.Policy.WarnInterval), metrics: newMetrics(o.Metrics),
	}
	o.Redis.Failed = func(reason string) { s.metrics.failures.WithLabelValues(reason).Inc() }
	o.Redis.Turned = s.turned
	door, err := redis.Open(o.Redis)
	if err != nil {
		return nil, err
	}
	s.door = door
	s.metrics.up.Set(1)
	return s, nil
}

// Watch opens the door to Redis again after it had to shut. It returns when ctx ends.
func (s *Service) Watch(ctx context.Context) error { return s.door.Watch(ctx) }

// Check is nil while Redis decides.
func (s *Service) Check(ctx context.Context) error { return s.door.Check(ctx) }

// Close closes the connections to Redis.
func (s *Service) Close(context.Context) error { return s.door.Close() }

func (s *Service) turned(open bool, cause error) {
	if open {
		s.metrics.up.Set(1)
		s.notice.Good("redis decides again")
		return
	}
	s.metrics.up.Set(0)
	s.notice.Bad("redis is away, limits are not counted: "+s.policy.Fail+" by policy", cause)
}

// Answer announces the calls on a service of the bus.
func (s *Service) Answer(on *bus.Service) error {
	return errors.Join(
		bus.Handle(on, protocol.AcquireLimit, s.Acquire),
		bus.Handle(on, protocol.SettleLimit, s.Settle),
		bus.Handle(on, protocol.LimitUsage, s.Usage),
		bus.Handle(on, protocol.CloseLimit, s.Shut),
		bus.Handle(on, protocol.ResetLimit, s.Reset),
	)
}

// Acquire grants all metrics of an ask or none, and those behind it as far as there is room.
func (s *Service) Acquire(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
	ask, err := askOf(r)
	if err != nil {
		s.metrics.calls.WithLabelValues("acquire", "invalid").Inc()
		return protocol.Grant{}, err
	}
	start := time.Now()
	grant, err := s.acquire(ctx, r, ask)
	switch {
	case errors.Is(err, redis.ErrAway):
		s.notice.Bad("redis is away, limits are not counted: "+s.policy.Fail+" by policy", err, zap.String("tenant", string(r.Tenant)))
		s.metrics.calls.WithLabelValues("acquire", "degraded").Inc()
		return s.policy.Grant(r)
	case err != nil:
		s.metrics.calls.WithLabelValues("acquire", "error").Inc()
		return protocol.Grant{}, err
	}
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	s.metrics.decided(grant, ask)
	return grant, nil
}

func (s *Service) acquire(ctx context.Context, r protocol.AcquireRequest, ask redis.Ask) (protocol.Grant, error) {
	// The closable key has a hash tag of its own, so it is a question of its own. It may close
	// between the two: then this ask passed just before, as one on its way to the provider has.
	if r.Closable != "" && r.Closable != r.Queue {
		g, shut, err := s.closed(ctx, redis.Key{Tenant: r.Tenant, Queue: r.Closable})
		if err != nil || shut {
			return g, err
		}
	}
	if ask.Limits == (bucket.Limits{Burst: ask.Limits.Burst}) {
		g, shut, err := s.closed(ctx, redis.Key{Tenant: r.Tenant, Queue: r.Queue})
		if err != nil || shut {
			return g, err
		}
		g.Granted, g.Behind = true, len(r.Behind)
		return g, nil
	}
	a, err := s.door.Acquire(ctx, ask)
	if err != nil {
		return protocol.Grant{}, err
	}
	s.metrics.tokens.WithLabelValues("expired").Add(float64(a.Expired))
	return grantOf(a.Answer), nil
}

// closed refuses while a key is shut.
func (s *Service) closed(ctx context.Context, k redis.Key) (g protocol.Grant, shut bool, err error) {
	left, now, err := s.door.ShutFor(ctx, k)
	if err != nil {
		return protocol.Grant{}, false, err
	}
	g.AtUS = now
	if left > 0 {
		g.RetryAfterMS, g.TurnMS, g.LimitingMetric = left.Milliseconds(), left.Milliseconds(), protocol.MetricClosed
	}
	return g, left > 0, nil
}

// Settle replaces a reservation's estimate by what was used.
func (s *Service) Settle(ctx context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
	if err := r.Check(); err != nil {
		return protocol.SettleReply{}, s.done("settle", err)
	}
	key, whole, share := scopeOf(r.Tenant, r.Queue, r.SubQueue, r.Weight, r.Limits)
	settled, err := s.door.Settle(ctx, key, whole, share, r.Reservation, int64(r.Used))
	if s.done("settle", err) != nil {
		return protocol.SettleReply{}, unavailable(err)
	}
	if !settled.Found {
		return protocol.SettleReply{}, nil
	}
	s.metrics.tokens.WithLabelValues("used").Add(float64(r.Used))
	return protocol.SettleReply{Returned: int(settled.Taken) - r.Used}, nil
}

// Usage reads the counters of a queue.
func (s *Service) Usage(ctx context.Context, r protocol.UsageRequest) (protocol.Usage, error) {
	if err := r.Check(); err != nil {
		return protocol.Usage{}, s.done("usage", err)
	}
	u, err := s.door.Usage(ctx, redis.Key{Tenant: r.Tenant, Queue: r.Queue, Share: r.SubQueue})
	if s.done("usage", err) != nil {
		return protocol.Usage{}, unavailable(err)
	}
	return usageOf(r.Queue, u), nil
}

// Shut closes a key for the whole fleet for a time. A longer closing stands.
func (s *Service) Shut(ctx context.Context, r protocol.CloseRequest) (protocol.CloseReply, error) {
	if err := r.Check(); err != nil {
		return protocol.CloseReply{}, s.done("close", err)
	}
	until, err := s.door.Shut(ctx, redis.Key{Tenant: r.Tenant, Queue: r.Queue}, time.Duration(r.ForMS)*time.Millisecond, because(r.Because))
	if s.done("close", err) != nil {
		return protocol.CloseReply{}, unavailable(err)
	}
	s.log.Info("key closed", zap.String("tenant", string(r.Tenant)), zap.String("queue", r.Queue), zap.Time("until", until))
	return protocol.CloseReply{Until: protocol.At(until)}, nil
}

// Reset forgets everything about a queue.
func (s *Service) Reset(ctx context.Context, r protocol.ResetRequest) (protocol.ResetReply, error) {
	if err := r.Check(); err != nil {
		return protocol.ResetReply{}, s.done("reset", err)
	}
	n, err := s.door.Reset(ctx, redis.Key{Tenant: r.Tenant, Queue: r.Queue})
	if s.done("reset", err) != nil {
		return protocol.ResetReply{}, unavailable(err)
	}
	s.log.Info("queue reset", zap.String("tenant", string(r.Tenant)), zap.String("queue", r.Queue), zap.Int("keys", n))
	return protocol.ResetReply{Removed: n}, nil
}

// done counts a call, and returns its error.
func (s *Service) done(call string, err error) error {
	outcome := "ok"
	switch {
	case errors.Is(err, redis.ErrAway):
		outcome = "unavailable"
	case protocol.CodeOf(err) == protocol.CodeInvalid:
		outcome = "invalid"
	case err != nil:
		outcome = "error"
	}
	s.metrics.calls.WithLabelValues(call, outcome).Inc()
	return err
}

// unavailable is what callers hear when Redis is away; other errors stay what they are.
func unavailable(err error) error {
	if errors.Is(err, redis.ErrAway) {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "limits cannot be read or changed right now; try again", RetryAfterMS: 1000}
	}
	return err
}

// because keeps a reason short: it is stored beside the closing, for people who look.
func because(reason string) string {
	const longest = 200
	return reason[:min(len(reason), longest)]
}
