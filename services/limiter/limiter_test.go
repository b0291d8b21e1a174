package limiter_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/limiter"
)

func ask(l workflow.Bandwidth) protocol.AcquireRequest {
	return protocol.AcquireRequest{Tenant: "acme", Queue: "orders", Limits: l, Messages: 1, Requests: 1}
}

func TestAcquireSettleUsage(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	r := ask(workflow.Bandwidth{MaxMessagesPerSecond: 1000, BurstSize: 50, MaxRequestsPerMinute: 60, MaxTokensPerMinute: 1000})
	r.Tokens, r.Reservation = 800, "call-1"
	r.Behind = []protocol.Want{{Requests: 1}, {Tokens: 900}, {Requests: 1}}
	before := time.Now()
	g, err := p.acquire(t, r)
	require.NoError(t, err)
	require.WithinDuration(t, before, time.UnixMicro(g.AtUS), patience)
	require.True(t, g.Granted)
	require.Equal(t, 1, g.Behind, "the third stands behind one who wants too many tokens")
	require.Equal(t, protocol.MetricTokens, g.LimitingMetric)
	require.Positive(t, g.RetryAfterMS)
	require.LessOrEqual(t, g.RetryAfterMS, int64(62_500))
	require.EqualValues(t, 49, g.Remaining[protocol.MetricMessages])
	require.EqualValues(t, 58, g.Remaining[protocol.MetricRequests])
	require.EqualValues(t, 200, g.Remaining[protocol.MetricTokens])
	require.EqualValues(t, 1, g.ResetMS[protocol.MetricMessages])

	settle := protocol.SettleRequest{Tenant: r.Tenant, Queue: r.Queue, Limits: r.Limits, Reservation: "call-1", Used: 300}
	for _, returned := range []int{500, 0, 0} {
		reply, err := bus.Request(t.Context(), p.bus, protocol.SettleLimit, settle)
		require.NoError(t, err)
		require.Equal(t, returned, reply.Returned)
	}
	more := ask(r.Limits)
	more.Tokens, more.Reservation = 100, "call-2"
	_, err = p.acquire(t, more)
	require.NoError(t, err)
	settle.Reservation, settle.Used = "call-2", 450
	reply, err := bus.Request(t.Context(), p.bus, protocol.SettleLimit, settle)
	require.NoError(t, err)
	require.Equal(t, -350, reply.Returned, "taken in addition")

	u, err := bus.Request(t.Context(), p.bus, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme", Queue: "orders"})
	require.NoError(t, err)
	require.Equal(t, "orders", u.Queue)
	require.Equal(t, protocol.UsageWindow{Used: 3, WindowMS: 60_000}, u.Windows[protocol.MetricRequests])
	require.EqualValues(t, 750, u.Windows[protocol.MetricTokens].Used)
	require.EqualValues(t, 1000, u.Windows[protocol.MetricMessages].WindowMS)

	require.EqualValues(t, 3, p.metric(t, "agentflow_limiter_asks_total", "granted"))
	require.EqualValues(t, 1, p.metric(t, "agentflow_limiter_asks_total", "tokens_per_minute"))
	require.EqualValues(t, 900, p.metric(t, "agentflow_limiter_tokens_total", "reserved"))
	require.EqualValues(t, 750, p.metric(t, "agentflow_limiter_tokens_total", "used"))
}

// An estimate above the limit passes an empty window, and what was used in addition is owed.
func TestEstimateAboveTheLimit(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	r := ask(workflow.Bandwidth{MaxTokensPerMinute: 1000})
	r.Tokens, r.Reservation = 5000, "big"
	g, err := p.acquire(t, r)
	require.NoError(t, err)
	require.True(t, g.Granted)
	require.Zero(t, g.Remaining[protocol.MetricTokens])
	reply, err := bus.Request(t.Context(), p.bus, protocol.SettleLimit, protocol.SettleRequest{
		Tenant: "acme", Queue: "orders", Limits: r.Limits, Reservation: "big", Used: 4000,
	})
	require.NoError(t, err)
	require.Equal(t, -3000, reply.Returned)
	r.Tokens, r.Reservation = 1, ""
	g, err = p.acquire(t, r)
	require.NoError(t, err)
	require.False(t, g.Granted)
}

func TestShares(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	pass := func(sub string, weight float64) bool {
		r := ask(workflow.Bandwidth{MaxRequestsPerMinute: 10})
		r.SubQueue, r.Weight = sub, weight
		g, err := p.acquire(t, r)
		require.NoError(t, err)
		return g.Granted
	}
	passed := map[string]int{}
	for range 10 {
		for sub, weight := range map[string]float64{"gold": 0.7, "tin": 0.2} {
			if pass(sub, weight) {
				passed[sub]++
			}
		}
	}
	require.Equal(t, map[string]int{"gold": 7, "tin": 2}, passed)
	require.True(t, pass("", 0), "the tenth is nobody's share")
	require.False(t, pass("", 0))
	require.False(t, pass("brass", 1), "the whole queue's limit holds over all shares")
}

// A provider's Retry-After closes the source for every queue whose work goes there.
func TestClosedSource(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	source := protocol.SourceQueue("openai")
	closed, err := bus.Request(t.Context(), p.bus, protocol.CloseLimit, protocol.CloseRequest{
		Tenant: "acme", Queue: source, ForMS: 30_000, Because: "429 " + strings.Repeat("x", 5000),
	})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(30*time.Second), closed.Until.Time, 20*time.Second)

	for _, l := range []workflow.Bandwidth{{}, {MaxMessagesPerSecond: 10}} {
		for _, queue := range []string{"orders", "invoices", source} {
			r := ask(l)
			r.Queue, r.Closable = queue, source
			g, err := p.acquire(t, r)
			require.NoError(t, err)
			require.False(t, g.Granted)
			require.Equal(t, protocol.MetricClosed, g.LimitingMetric)
			require.InDelta(t, 30_000, g.RetryAfterMS, 20_000)
		}
		r := ask(l)
		r.Closable = protocol.SourceQueue("anthropic")
		r.Behind = []protocol.Want{{}}
		g, err := p.acquire(t, r)
		require.NoError(t, err)
		require.True(t, g.Granted)
		require.Equal(t, 1, g.Behind)
	}
	u, err := bus.Request(t.Context(), p.bus, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme", Queue: source})
	require.NoError(t, err)
	require.InDelta(t, 30_000, u.ClosedMS, 20_000)

	other := ask(workflow.Bandwidth{MaxMessagesPerSecond: 10})
	other.Tenant, other.Closable = "globex", source
	g, err := p.acquire(t, other)
	require.NoError(t, err)
	require.True(t, g.Granted, "another tenant's source of the same name is another source")

	reset, err := bus.Request(t.Context(), p.bus, protocol.ResetLimit, protocol.ResetRequest{Tenant: "acme", Queue: source})
	require.NoError(t, err)
	require.Positive(t, reset.Removed)
	r := ask(workflow.Bandwidth{})
	r.Closable = source
	g, err = p.acquire(t, r)
	require.NoError(t, err)
	require.True(t, g.Granted)
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	for field, change := range map[string]func(*protocol.AcquireRequest){
		"tenant_id":                      func(r *protocol.AcquireRequest) { r.Tenant = "No Tenant" },
		"queue":                          func(r *protocol.AcquireRequest) { r.Queue = "" },
		"sub_queue":                      func(r *protocol.AcquireRequest) { r.SubQueue = strings.Repeat("x", 257) },
		"weight":                         func(r *protocol.AcquireRequest) { r.SubQueue = "gold" },
		"closable":                       func(r *protocol.AcquireRequest) { r.Closable = strings.Repeat("x", 257) },
		"limits.burst_size":              func(r *protocol.AcquireRequest) { r.Limits.BurstSize = -1 },
		"limits.max_messages_per_second": func(r *protocol.AcquireRequest) { r.Limits.MaxMessagesPerSecond = -1 },
		"limits.max_requests_per_minute": func(r *protocol.AcquireRequest) { r.Limits.MaxRequestsPerMinute = -1 },
		"limits.max_tokens_per_minute":   func(r *protocol.AcquireRequest) { r.Limits.MaxTokensPerMinute = -1 },
		"messages":                       func(r *protocol.AcquireRequest) { r.Messages = 6 }, // burst 5
		"requests":                       func(r *protocol.AcquireRequest) { r.Requests = 11 },
		"tokens":                         func(r *protocol.AcquireRequest) { r.Tokens = -1 },
		"reservation":                    func(r *protocol.AcquireRequest) { r.Reservation = strings.Repeat("x", 129) },
		"reservation_ms":                 func(r *protocol.AcquireRequest) { r.ReservationMS = -1 },
		"behind":                         func(r *protocol.AcquireRequest) { r.Behind = make([]protocol.Want, 65) },
		"behind[1].messages":             func(r *protocol.AcquireRequest) { r.Behind = []protocol.Want{{}, {Messages: 6}} },
		"behind[0].requests":             func(r *protocol.AcquireRequest) { r.Behind = []protocol.Want{{Requests: -1}} },
	} {
		r := ask(workflow.Bandwidth{MaxMessagesPerSecond: 100, BurstSize: 5, MaxRequestsPerMinute: 10})
		change(&r)
		_, err := p.acquire(t, r)
		requireInvalid(t, err, field)
	}
	_, err := bus.Request(t.Context(), p.bus, protocol.SettleLimit, protocol.SettleRequest{Tenant: "acme", Queue: "q"})
	requireInvalid(t, err, "reservation")
	_, err = bus.Request(t.Context(), p.bus, protocol.SettleLimit, protocol.SettleRequest{Tenant: "acme", Queue: "q", Reservation: "r", Used: -1})
	requireInvalid(t, err, "used")
	_, err = bus.Request(t.Context(), p.bus, protocol.CloseLimit, protocol.CloseRequest{Tenant: "acme", Queue: "q", ForMS: protocol.MaxCloseMS + 1})
	requireInvalid(t, err, "for_ms")
	_, err = bus.Request(t.Context(), p.bus, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme"})
	requireInvalid(t, err, "queue")
	_, err = bus.Request(t.Context(), p.bus, protocol.ResetLimit, protocol.ResetRequest{Tenant: "", Queue: "q"})
	requireInvalid(t, err, "tenant_id")
}

func requireInvalid(t *testing.T, err error, field string) {
	t.Helper()
	var refused *protocol.Error
	require.ErrorAs(t, err, &refused, field)
	require.Equal(t, protocol.CodeInvalid, refused.Code)
	require.Equal(t, field, refused.Field)
}

// A dead Redis: everything passes, the answer says so, health says degraded, and it counts again
// when Redis is back, with nobody restarting anything.
func TestRedisGoneOpen(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	p := start(t, "REDIS_URL="+server.URL(), "RATE_LIMIT_FAIL=open", "REDIS_TIMEOUT_MS=2000")
	one := ask(workflow.Bandwidth{MaxRequestsPerMinute: 1})
	g, err := p.acquire(t, one)
	require.NoError(t, err)
	require.False(t, g.Degraded)
	require.Equal(t, daemon.StatusReady, p.rt.Health.Ready(t.Context()).Status)

	require.NoError(t, server.Kill())
	for range 20 {
		g, err = p.acquire(t, one)
		require.NoError(t, err)
		require.Equal(t, protocol.Grant{Granted: true, Degraded: true}, g)
	}
	require.EqualValues(t, 20, p.metric(t, "agentflow_limiter_calls_total", "acquire", "degraded"))
	require.LessOrEqual(t, p.metric(t, "agentflow_limiter_redis_failures_total"), 3.0, "after three failures Redis is not asked any more")
	require.Zero(t, p.metric(t, "agentflow_limiter_redis_up"))
	require.Eventually(t, func() bool { return p.rt.Health.Ready(t.Context()).Status == daemon.StatusDegraded }, patience, 10*time.Millisecond)

	// What cannot be answered by policy says so.
	_, err = bus.Request(t.Context(), p.bus, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme", Queue: "orders"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})
	_, err = bus.Request(t.Context(), p.bus, protocol.CloseLimit, protocol.CloseRequest{Tenant: "acme", Queue: "orders", ForMS: 1})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})
	_, err = bus.Request(t.Context(), p.bus, protocol.ResetLimit, protocol.ResetRequest{Tenant: "acme", Queue: "orders"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})
	_, err = bus.Request(t.Context(), p.bus, protocol.SettleLimit, protocol.SettleRequest{Tenant: "acme", Queue: "orders", Reservation: "r"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})

	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool {
		g, err = p.acquire(t, one)
		return err == nil && !g.Degraded
	}, patience, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		return p.rt.Health.Ready(t.Context()).Status == daemon.StatusReady && p.metric(t, "agentflow_limiter_redis_up") == 1
	}, patience, 10*time.Millisecond)
}

func TestRedisGoneClosed(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	p := start(t, "REDIS_URL="+server.URL(), "RATE_LIMIT_FAIL=closed", "REDIS_TIMEOUT_MS=2000")
	require.NoError(t, server.Kill())
	for range 10 {
		_, err := p.acquire(t, ask(workflow.Bandwidth{MaxRequestsPerMinute: 100}))
		var refused *protocol.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, protocol.CodeUnavailable, refused.Code)
		require.EqualValues(t, 1000, refused.RetryAfterMS)
	}
}

// The whole path while the limiter itself is away: the client decides by policy, finds the
// limiter when it comes, and counts again.
func TestLimiterGone(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	p := &platform{nats: startNATS(t)}
	p.bus = connect(t, p.nats, "test")
	open, shut := p.client(t), p.client(t, "RATE_LIMIT_FAIL=closed")
	r := ask(workflow.Bandwidth{MaxRequestsPerMinute: 100})
	for range 50 {
		g, err := open.Acquire(t.Context(), r)
		require.NoError(t, err)
		require.True(t, g.Degraded)
		_, err = shut.Acquire(t.Context(), r)
		require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})
	}
	require.Error(t, open.Check(t.Context()))
	runLimiter(t, p.nats, "REDIS_URL="+url)
	require.Eventually(t, func() bool {
		g, err := open.Acquire(t.Context(), r)
		return err == nil && !g.Degraded && open.Check(t.Context()) == nil
	}, patience, 10*time.Millisecond)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg, err := daemon.Load[limiter.Config](nil)
	require.NoError(t, err)
	require.Equal(t, "open", cfg.Fail)
	require.Equal(t, 50, cfg.RedisTimeoutMS)

	_, err = daemon.Load[limiter.Config]([]string{"REDIS_URL=http://:topsecret@localhost", "RATE_LIMIT_FAIL=ajar", "REDIS_TIMEOUT_MS=0"})
	require.ErrorContains(t, err, "REDIS_URL")
	require.ErrorContains(t, err, "RATE_LIMIT_FAIL")
	require.ErrorContains(t, err, "REDIS_TIMEOUT_MS")
	require.NotContains(t, err.Error(), "topsecret")

	var usage bytes.Buffer
	require.NoError(t, daemon.Usage[limiter.Config](&usage, "limiter"))
	for _, name := range []string{"REDIS_URL", "REDIS_TIMEOUT_MS", "RATE_LIMIT_FAIL", "RATE_LIMIT_WARN_INTERVAL_SECONDS", "LIMITER_CONCURRENCY", "NATS_URL"} {
		require.Contains(t, usage.String(), name)
	}
}

// As a process of its own it connects to NATS by itself, and ends in order.
func TestMainConnects(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	cfg, err := daemon.Load[limiter.Config]([]string{"LOG_LEVEL=error", "NATS_URL=" + server.ClientURL(), "REDIS_URL=" + localtest.Redis(t)})
	require.NoError(t, err)
	rt, err := daemon.NewRuntime("limiter", cfg.Common)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- limiter.Main(ctx, rt, cfg) }()
	b := connect(t, server, "test")
	require.Eventually(t, func() bool {
		g, err := bus.Request(t.Context(), b, protocol.AcquireLimit, ask(workflow.Bandwidth{MaxRequestsPerMinute: 100}))
		return err == nil && g.Granted
	}, patience, 10*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, rt.Close(context.Background()))
}
