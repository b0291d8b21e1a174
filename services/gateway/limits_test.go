package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway"
)

// limiter stands in for the limiter: every queue has room for a few requests.
type limiter struct {
	mu   sync.Mutex
	left map[string]int64
}

func (p *platform) limiter(room int64) *limiter {
	p.t.Helper()
	l := &limiter{left: map[string]int64{}}
	svc, err := p.bus.Serve("limiter", "0.0.0", 4)
	require.NoError(p.t, err)
	require.NoError(p.t, bus.Handle(svc, protocol.AcquireLimit, func(_ context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		at := string(r.Tenant) + " " + r.Queue
		if _, known := l.left[at]; !known {
			l.left[at] = room
		}
		g := protocol.Grant{ResetMS: map[protocol.Metric]int64{protocol.MetricRequests: 1500}}
		if l.left[at] > 0 {
			l.left[at]--
			g.Granted = true
		} else {
			g.RetryAfterMS, g.LimitingMetric = 1500, protocol.MetricRequests
		}
		g.Remaining = map[protocol.Metric]int64{protocol.MetricRequests: l.left[at]}
		return g, nil
	}))
	require.NoError(p.t, bus.Handle(svc, protocol.LimitUsage, func(_ context.Context, r protocol.UsageRequest) (protocol.Usage, error) {
		return protocol.Usage{Queue: r.Queue, Windows: map[protocol.Metric]protocol.UsageWindow{protocol.MetricRequests: {Used: 3, WindowMS: 60_000}}}, nil
	}))
	p.t.Cleanup(func() { _ = svc.Stop() })          // the connection may be gone already
	require.NoError(p.t, p.bus.Ping(p.t.Context())) // now the server knows it, whoever asks
	return l
}

func TestLimits(t *testing.T) {
	p := start(t, withoutKeys, func(c *gateway.Config) { c.RequestsPerMinute = 100 })
	p.limiter(3)
	for left := 2; left >= 0; left-- {
		a := p.call(http.MethodPost, "/workflows/execute", run)
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Equal(t, `"requests_per_minute";q=100;w=60`, a.header.Get("RateLimit-Policy"))
		require.Equal(t, "100", a.header.Get("X-RateLimit-Limit"))
		require.Equal(t, string(rune('0'+left)), a.header.Get("X-RateLimit-Remaining"))
		require.Equal(t, "2", a.header.Get("X-RateLimit-Reset"))
		require.Equal(t, `"requests_per_minute";r=`+string(rune('0'+left))+`;t=2`, a.header.Get("RateLimit"))
	}
	for _, path := range []string{"/workflows/execute", "/api/v1/workflows/execute"} {
		a := p.call(http.MethodPost, path, run)
		require.Equal(t, 429, a.status, "%s", a.body)
		require.Equal(t, "2", a.header.Get("Retry-After"))
		require.Contains(t, string(a.body), "RATE_LIMITED")
	}
	require.Equal(t, 429, p.call(http.MethodGet, "/workflows", "").status)
	require.Equal(t, 200, p.call(http.MethodGet, "/health", "").status, "probes are not limited")
	require.Equal(t, 3, p.executor.count())
}

func TestQueueUsage(t *testing.T) {
	p := start(t, withoutKeys)
	p.limiter(3)
	for _, queue := range []string{"wf_1/orders", "wf_1%2Forders", "requests"} {
		a := p.call(http.MethodGet, "/queues/"+queue+"/usage", "")
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Equal(t, strings.ReplaceAll(queue, "%2F", "/"), a.json(t)["queue"])
	}
}

// TestLimitsOfRecords checks whose limits hold: a tenant's own before the default, a key's beside them.
func TestLimitsOfRecords(t *testing.T) {
	p := start(t, func(c *gateway.Config) { c.RequestsPerMinute = 100 })
	l := p.limiter(5)
	key := p.tenant("acme")
	unlimited, few := 0, 7
	p.catalog.put(protocol.KindTenant, "acme", "acme", "tenant_updated.v1", protocol.Tenant{
		ID: "acme", Status: protocol.StatusActive, Limits: &protocol.TenantLimits{RequestsPerMinute: &unlimited},
	})
	require.Eventually(t, func() bool {
		return p.call(http.MethodGet, "/workflows", "", "X-API-Key", key).header.Get("RateLimit-Policy") == ""
	}, waitFor, tick)
	p.catalog.put(protocol.KindTenant, "acme", "acme", "tenant_updated.v1", protocol.Tenant{
		ID: "acme", Status: protocol.StatusActive, Limits: &protocol.TenantLimits{MessagesPerSecond: &few},
	})
	l.mu.Lock()
	clear(l.left)
	l.mu.Unlock()
	require.Eventually(t, func() bool {
		a := p.call(http.MethodGet, "/limits", "", "X-API-Key", key)
		tenant, _ := a.json(t)["tenant"].(map[string]any)
		return tenant["max_messages_per_second"] == 7.0 && tenant["max_requests_per_minute"] == 100.0 && a.json(t)["usage"] != nil
	}, waitFor, tick)
}

// TestHeadersOfBothLimits: a client under a limit of its key and one of its tenant is told of both, and of the nearest.
func TestHeadersOfBothLimits(t *testing.T) {
	p := start(t, func(c *gateway.Config) { c.RequestsPerMinute = 100 })
	l := p.limiter(50)
	p.tenant("acme")
	key, id := p.key("acme")
	p.catalog.mu.Lock()
	k, _ := p.catalog.docs[place(protocol.KindKey, "acme", id)].(protocol.Key)
	p.catalog.mu.Unlock()
	few := 7
	k.Limits = &protocol.TenantLimits{RequestsPerMinute: &few}
	p.catalog.put(protocol.KindKey, "acme", id, "key_updated.v1", k)
	require.Eventually(t, func() bool {
		l.mu.Lock()
		l.left["acme requests-"+id] = 2
		l.mu.Unlock()
		return p.call(http.MethodGet, "/workflows", "", "X-API-Key", key).header.Get("X-RateLimit-Limit") == "7"
	}, waitFor, tick)
	l.mu.Lock()
	l.left["acme requests-"+id], l.left["acme requests"] = 2, 30
	l.mu.Unlock()
	a := p.call(http.MethodGet, "/workflows", "", "X-API-Key", key)
	require.Equal(t, 200, a.status)
	require.Equal(t, `"key_requests_per_minute";q=7;w=60, "requests_per_minute";q=100;w=60`, a.header.Get("RateLimit-Policy"))
	require.Equal(t, `"key_requests_per_minute";r=1;t=2, "requests_per_minute";r=29;t=2`, a.header.Get("RateLimit"))
	require.Equal(t, "1", a.header.Get("X-RateLimit-Remaining"))
}

// TestWithoutLimiter checks that a limiter that is away lets everything pass, as the policy says.
func TestWithoutLimiter(t *testing.T) {
	p := start(t, withoutKeys, func(c *gateway.Config) { c.RequestsPerMinute = 100 })
	for range 5 {
		require.Equal(t, 200, p.call(http.MethodPost, "/workflows/execute", run).status)
	}
	require.Eventually(t, func() bool {
		return p.call(http.MethodGet, "/health", "").json(t)["status"] == "degraded"
	}, waitFor, tick)
	require.Equal(t, 200, p.call(http.MethodGet, "/health/ready", "").status)
}
