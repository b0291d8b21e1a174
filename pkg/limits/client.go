package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Config is what a caller of the limiter reads from the environment.
type Config struct {
	Policy
	TimeoutMS int `env:"RATE_LIMIT_TIMEOUT_MS" envDefault:"250" check:"min=10,max=10000" help:"time that the limiter gets to answer, in milliseconds; then RATE_LIMIT_FAIL decides"`
}

const (
	// enough calls in a row without an answer, and the limiter counts as gone.
	enough = 3
	// probeEvery is how often a limiter that is gone is looked for.
	probeEvery = 250 * time.Millisecond
)

// acquirer is what Gate and Queue need of a client.
type acquirer interface {
	Acquire(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error)
}

// Client asks the limiter over the bus. It is safe for concurrent use.
type Client struct {
	calls   calls
	cfg     Config
	log     *zap.Logger
	notice  *Notice
	metrics *metrics
	breaker circuitbreaker.CircuitBreaker[any]

	ctx    context.Context //nolint:containedctx // the life of the client: ends the search for a lost limiter
	stop   context.CancelFunc
	search sync.WaitGroup
}

// calls are the limiter's, as functions so that tests can answer them.
type calls struct {
	acquire func(context.Context, protocol.AcquireRequest) (protocol.Grant, error)
	settle  func(context.Context, protocol.SettleRequest) (protocol.SettleReply, error)
	usage   func(context.Context, protocol.UsageRequest) (protocol.Usage, error)
	close   func(context.Context, protocol.CloseRequest) (protocol.CloseReply, error)
}

// NewClient makes a client that calls over b. Close it.
func NewClient(b *bus.Bus, cfg Config, log *zap.Logger, registry prometheus.Registerer) *Client {
	return newClient(calls{
		acquire: func(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
			return bus.Request(ctx, b, protocol.AcquireLimit, r)
		},
		settle: func(ctx context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
			return bus.Request(ctx, b, protocol.SettleLimit, r)
		},
		usage: func(ctx context.Context, r protocol.UsageRequest) (protocol.Usage, error) {
			return bus.Request(ctx, b, protocol.LimitUsage, r)
		},
		close: func(ctx context.Context, r protocol.CloseRequest) (protocol.CloseReply, error) {
			return bus.Request(ctx, b, protocol.CloseLimit, r)
		},
	}, cfg, log, registry)
}

func newClient(c calls, cfg Config, log *zap.Logger, registry prometheus.Registerer) *Client {
	ctx, stop := context.WithCancel(context.Background())
	out := &Client{
		calls: c, cfg: cfg, log: log, notice: NewNotice(log, cfg.WarnInterval), metrics: newMetrics(registry), ctx: ctx, stop: stop,
	}
	// The breaker only counts: no caller ever tries a limiter that is gone, the search does.
	out.breaker = circuitbreaker.NewBuilder[any]().WithFailureThreshold(enough).WithDelay(365 * 24 * time.Hour).
		OnOpen(func(circuitbreaker.StateChangedEvent) { out.search.Go(out.find) }).Build()
	return out
}

// Close ends the search for a lost limiter.
func (c *Client) Close(context.Context) error {
	c.stop()
	c.search.Wait()
	return nil
}

// Check is nil while the limiter answers.
func (c *Client) Check(context.Context) error {
	if c.breaker.IsClosed() {
		return nil
	}
	return errors.New("the limiter does not answer")
}

// Acquire asks for room. What has no limit is granted without a call. When the limiter cannot
// say, the policy does; an error is a *protocol.Error: INVALID for an ask that cannot be, or can
// never be granted, UNAVAILABLE with a time when the policy is closed.
func (c *Client) Acquire(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
	if unlimited(r.Limits) && r.Closable == "" {
		return protocol.Grant{Granted: true, Behind: len(r.Behind)}, nil
	}
	grant, err := call(ctx, c, c.calls.acquire, r)
	var refused *protocol.Error
	switch {
	case err == nil:
		c.metrics.granted(grant)
		if !grant.Degraded {
			c.notice.Good("limits are checked again")
		}
		return grant, nil
	case ctx.Err() != nil && !errors.Is(err, errAway):
		return protocol.Grant{}, fmt.Errorf("acquire %s: %w", r.Queue, err) // the caller gave up
	case errors.As(err, &refused) && refused.Code == protocol.CodeInvalid:
		c.metrics.calls.WithLabelValues("invalid").Inc()
		return protocol.Grant{}, err
	case errors.As(err, &refused) && refused.Code == protocol.CodeUnavailable:
		c.metrics.calls.WithLabelValues("unavailable").Inc()
		return protocol.Grant{}, err // the limiter's own policy, while Redis is away
	}
	c.metrics.calls.WithLabelValues("away").Inc()
	c.notice.Bad("limits cannot be checked: "+c.cfg.Fail+" by policy", err, zap.String("tenant", string(r.Tenant)))
	return c.cfg.Grant(r)
}

// Settle tells what a reservation really used. It is safe to repeat, and harmless to miss: what
// is never settled comes back by itself.
func (c *Client) Settle(ctx context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
	if r.Limits.MaxTokensPerMinute == 0 {
		return protocol.SettleReply{}, nil
	}
	return call(ctx, c, c.calls.settle, r)
}

// Shut closes a key for every process, as a provider's Retry-After asks. Times beyond what the
// limiter takes are cut.
func (c *Client) Shut(ctx context.Context, t protocol.TenantID, key string, during time.Duration, because string) error {
	ms := min(max(during.Milliseconds(), 1), protocol.MaxCloseMS)
	_, err := call(ctx, c, c.calls.close, protocol.CloseRequest{Tenant: t, Queue: key, ForMS: ms, Because: because})
	return err
}

var errAway = errors.New("the limiter is away")

// call makes one call with a bound, and counts whether there was an answer.
func call[Req, Resp any](ctx context.Context, c *Client, do func(context.Context, Req) (Resp, error), r Req) (Resp, error) {
	var zero Resp
	if !c.breaker.IsClosed() {
		return zero, errAway
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration(c.cfg.TimeoutMS)*time.Millisecond)
	defer cancel()
	start := time.Now()
	resp, err := do(bounded, r)
	var answer *protocol.Error
	switch {
	case err == nil:
		c.metrics.seconds.Observe(time.Since(start).Seconds())
		c.breaker.RecordSuccess()
		return resp, nil
	case errors.As(err, &answer):
		c.breaker.RecordSuccess()
		return zero, err
	case ctx.Err() != nil:
		return zero, err // the caller went away first: that says nothing of the limiter
	default:
		c.breaker.RecordFailure()
		return zero, fmt.Errorf("%w: %w", errAway, err)
	}
}

// find looks for the limiter until it answers, with a call that takes nothing.
func (c *Client) find() {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(c.ctx, probeEvery)
		_, err := c.calls.usage(ctx, protocol.UsageRequest{Tenant: "probe", Queue: "probe"})
		cancel()
		var answer *protocol.Error
		if err == nil || errors.As(err, &answer) {
			c.breaker.Close()
			return
		}
	}
}

func unlimited(l workflow.Bandwidth) bool {
	return l.MaxMessagesPerSecond == 0 && l.MaxRequestsPerMinute == 0 && l.MaxTokensPerMinute == 0
}

// metrics of one process's asks. Two clients in one registry share them.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_limits_asks_total",
			Help: "Asks for room, by outcome: granted, refused, degraded (Redis away, passed by policy), unavailable (Redis away, refused by policy), away (no answer), invalid.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentflow_limits_ask_seconds", Help: "Time until the limiter answered.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25},
		}),
	}
	registry.MustRegister(m.calls, m.seconds)
	return m
}

func (m *metrics) granted(g protocol.Grant) {
	switch {
	case g.Degraded:
		m.calls.WithLabelValues("degraded").Inc()
	case g.Granted:
		m.calls.WithLabelValues("granted").Inc()
	default:
		m.calls.WithLabelValues("refused").Inc()
	}
}

var _ acquirer = (*Client)(nil)
