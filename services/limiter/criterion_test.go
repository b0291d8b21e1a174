package limiter_test

import (
	"context"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// The success criteria of the plan that the limiter answers for, each through its calls. The HTTP
// form of 15 and 16 stands with the gateway.

// A burst passes at once, then messages pass at the rate of the refill, and what remembers it is Redis.
func TestCriterion13TokenBucketInRedis(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	p := start(t, "REDIS_URL="+url)
	r := ask(workflow.Bandwidth{MaxMessagesPerSecond: 10, BurstSize: 5})
	r.Behind = make([]protocol.Want, 7)
	for i := range r.Behind {
		r.Behind[i] = protocol.Want{Messages: 1}
	}
	g, err := p.acquire(t, r)
	require.NoError(t, err)
	require.Equal(t, 4, g.Behind, "five at once")
	require.EqualValues(t, 100, g.RetryAfterMS, "the next after a tenth of a second")
	require.Zero(t, g.Remaining[protocol.MetricMessages])

	first := g.AtUS
	r.Behind = nil
	for n := range 3 {
		require.Eventually(t, func() bool {
			g, err = p.acquire(t, r)
			return err == nil && g.Granted
		}, patience, time.Millisecond)
		require.GreaterOrEqual(t, g.AtUS, first+int64(n+1)*100_000, "one more for each tenth of a second")
	}

	o, err := goredis.ParseURL(url)
	require.NoError(t, err)
	c := goredis.NewClient(o)
	defer func() { require.NoError(t, c.Close()) }()
	keys, err := c.Keys(t.Context(), "rate_limit:{acme:orders}:*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	require.NoError(t, c.Del(t.Context(), keys...).Err())
	g, err = p.acquire(t, r)
	require.NoError(t, err)
	require.EqualValues(t, 4, g.Remaining[protocol.MetricMessages], "without its state the bucket is full")
}

func TestCriterion14AllThreeLimits(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	for metric, l := range map[protocol.Metric]workflow.Bandwidth{
		protocol.MetricMessages: {MaxMessagesPerSecond: 3, MaxRequestsPerMinute: 100, MaxTokensPerMinute: 10_000},
		protocol.MetricRequests: {MaxMessagesPerSecond: 100, MaxRequestsPerMinute: 3, MaxTokensPerMinute: 10_000},
		protocol.MetricTokens:   {MaxMessagesPerSecond: 100, MaxRequestsPerMinute: 100, MaxTokensPerMinute: 1000},
	} {
		r := ask(l)
		r.Queue, r.Tokens = "of "+string(metric), 300
		r.Behind = make([]protocol.Want, 9)
		for i := range r.Behind {
			r.Behind[i] = protocol.Want{Messages: 1, Requests: 1, Tokens: 300}
		}
		g, err := p.acquire(t, r)
		require.NoError(t, err)
		require.Equal(t, 2, g.Behind, "three pass")
		require.Equal(t, metric, g.LimitingMetric)
		u, err := bus.Request(t.Context(), p.bus, protocol.LimitUsage, protocol.UsageRequest{Tenant: r.Tenant, Queue: r.Queue})
		require.NoError(t, err)
		require.EqualValues(t, 900, u.Windows[protocol.MetricTokens].Used)
		require.EqualValues(t, 3, u.Windows[protocol.MetricRequests].Used)
		require.EqualValues(t, 1, u.Windows[metric].Refused)
	}
}

// What HTTP answers with 429 and Retry-After is RATE_LIMITED with a time here, whether a caller
// asks at once or has waited in line.
func TestCriterion15RefusedWithARetryAfter(t *testing.T) {
	t.Parallel()
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	client := p.client(t)
	gate, queue := limits.NewGate(client), limits.NewQueue(client)
	r := ask(workflow.Bandwidth{MaxRequestsPerMinute: 2})
	for i := range 10 {
		g, err := gate.Ask(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, i < 2, g.Granted)
		if !g.Granted {
			require.Equal(t, protocol.MetricRequests, g.LimitingMetric)
			require.InDelta(t, 61_000, g.RetryAfterMS, 20_000)
			require.Zero(t, g.Remaining[protocol.MetricRequests])
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := queue.Acquire(ctx, r, nil)
	var refused *protocol.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, protocol.CodeRateLimited, refused.Code)
	require.InDelta(t, 61_000, refused.RetryAfterMS, 20_000)
	require.NoError(t, ctx.Err(), "it is certain, so it is not waited for")
}

// Three limiters and three askers share one count: exactly the limit passes.
func TestCriterion16InstancesShareLimits(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	p := start(t, "REDIS_URL="+url)
	for range 2 {
		runLimiter(t, p.nats, "REDIS_URL="+url)
	}
	passed := make(chan int, 3)
	for range 3 {
		b := connect(t, p.nats, "asker")
		go func() {
			sum := 0
			for range 100 {
				g, err := bus.Request(t.Context(), b, protocol.AcquireLimit, ask(workflow.Bandwidth{MaxRequestsPerMinute: 77}))
				if err != nil || g.Degraded {
					sum = -1000
				}
				if g.Granted {
					sum++
				}
			}
			passed <- sum
		}()
	}
	require.Equal(t, 77, <-passed+<-passed+<-passed)
}
