package limits

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// The success criteria of the plan about limits, as a client sees them.

// A burst passes at once, then requests pass at the rate of the refill.
func (w *world) criterion13(t *testing.T) {
	const rate, burst = 1, 8 // so few a second that one client after the other is quicker on any machine
	c := w.tenant(t, "bucket", object{"max_messages_per_second": rate, "burst_size": burst})[0]
	began := time.Now()
	for i := range burst {
		a := c.Call(t, http.MethodGet, cheap, nil)
		require.Equal(t, http.StatusOK, a.Status, "request %d of the burst: %s", i, a.Body)
		require.Equal(t, "1", a.Header.Get("X-RateLimit-Limit"))
	}
	passed := burst
	var refused platform.Answer
	for passed < burst+2 || refused.Status == 0 {
		if a := c.Call(t, http.MethodGet, cheap, nil); a.Status == http.StatusOK {
			passed++
		} else {
			refused = a
		}
		// A request that was let in was let in before now.
		require.LessOrEqual(t, float64(passed), burst+rate*time.Since(began).Seconds()+1, "no faster than the refill")
	}
	requireRefused(t, refused, false)
	require.Equal(t, "0", refused.Header.Get("X-RateLimit-Remaining"))
	usage := c.Call(t, http.MethodGet, "/queues/requests/usage", nil)
	require.Contains(t, []int{http.StatusOK, http.StatusTooManyRequests}, usage.Status)
}

// Each of the three limits holds a queue back by itself, and the answer names it.
func (w *world) criterion14(t *testing.T) {
	c := w.tenant(t, "three", nil)[1]
	for metric, limits := range map[string]object{
		"messages_per_second": {"max_messages_per_second": 1},
		"requests_per_minute": {"max_requests_per_minute": 2},
		"tokens_per_minute":   {"max_tokens_per_minute": 400},
	} {
		order := object{"workflow": w.queued("of "+metric, limits), "initial_state": object{"user_input": "hello"}}
		if metric == "messages_per_second" {
			// Of many at once each waits for its second; what cannot come within the node's time is refused, and what
			// comes at its very end may be too late to be used.
			var ok, limited atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					a, err := c.Try(t, http.MethodPost, "/workflows/execute", order)
					switch {
					case err == nil && a.Status == http.StatusOK:
						ok.Add(1)
					case err == nil && a.Status == http.StatusTooManyRequests && a.Header.Get("Retry-After") != "":
						limited.Add(1)
					case err == nil && a.Status == http.StatusGatewayTimeout:
					default:
						t.Errorf("%v %d: %s", err, a.Status, a.Body)
					}
				})
			}
			wg.Wait()
			require.Positive(t, ok.Load())
			require.Positive(t, limited.Load(), "8 messages at 1 a second in 2 seconds")
			continue
		}
		passed := 0
		var last platform.Answer
		for range 6 {
			last = c.Call(t, http.MethodPost, "/workflows/execute", order)
			if last.Status != http.StatusOK {
				break
			}
			passed++
		}
		require.Positive(t, passed, "%s: %s", metric, last.Body)
		requireRefused(t, last, false)
		usage := c.Get(t, "/queues/of%20"+metric+"/line/usage").JSON(t)
		require.NotEmpty(t, usage["windows"], "%v", usage)
	}
}

// Over the limit there is 429 with Retry-After, and after that time there is room again.
func (w *world) criterion15(t *testing.T) {
	clients := w.tenant(t, "refused", object{"max_messages_per_second": 1})
	for _, path := range []string{cheap, "/api/v1" + cheap} {
		var a platform.Answer
		platform.Await(t, "a refusal", func() bool {
			a = clients[0].Call(t, http.MethodGet, path, nil)
			return a.Status == http.StatusTooManyRequests
		})
		requireRefused(t, a, path != cheap)
	}
	platform.Await(t, "room", func() bool { return clients[1].Call(t, http.MethodGet, cheap, nil).Status == http.StatusOK })

	// So is an execution whose node found no room in time, in both shapes.
	order := object{"workflow": w.queued("tight", object{"max_requests_per_minute": 1}), "initial_state": object{"user_input": "x"}}
	free := w.tenant(t, "waits", nil)[2]
	require.Equal(t, http.StatusOK, free.Call(t, http.MethodPost, "/workflows/execute", order).Status)
	requireRefused(t, free.Call(t, http.MethodPost, "/workflows/execute", order), false)
	requireRefused(t, free.Call(t, http.MethodPost, "/api/v1/workflows/execute", order), true)
}

// Three gateways count as one: exactly the limit passes.
func (w *world) criterion16(t *testing.T) {
	const limit = 77
	clients := w.tenant(t, "shared", object{"max_requests_per_minute": limit})
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					switch a, err := c.Try(t, http.MethodGet, cheap, nil); {
					case err == nil && a.Status == http.StatusOK:
						passed.Add(1)
					case err == nil && a.Status == http.StatusTooManyRequests:
						refused.Add(1)
					default:
						t.Errorf("%v %d: %s", err, a.Status, a.Body)
					}
				}
			})
		}
	}
	wg.Wait()
	require.EqualValues(t, limit, passed.Load())
	require.EqualValues(t, 300-limit, refused.Load())
}

// Whatever a request is answered, it tells where its tenant stands.
func (w *world) headers(t *testing.T) {
	c := w.tenant(t, "headers", object{"max_messages_per_second": 1000, "max_requests_per_minute": 50_000})[0]
	const unknown = "wf_01jd2v8m6hf5qrgq2s9n0w3x4y"
	for _, try := range []struct {
		method, path string
		body         any
		status       int
	}{
		{http.MethodGet, cheap, nil, 200},
		{http.MethodGet, "/api/v1" + cheap, nil, 200},
		{http.MethodGet, "/limits", nil, 200},
		{http.MethodGet, "/queues/requests/usage", nil, 200},
		{http.MethodGet, "/workflows/" + unknown, nil, 404},
		{http.MethodGet, "/api/v1/sources/nobodys", nil, 404},
		{http.MethodGet, "/executions/exec_x", nil, 404},
		{http.MethodGet, "/workflows?limit=1e9", nil, 422},
		{http.MethodGet, "/tenants", nil, 403},
		{http.MethodPost, "/workflows", "{", 400},
		{http.MethodPost, "/workflows", object{"colour": 1}, 422},
		{http.MethodPost, "/workflows/execute", "{", 400},
		{http.MethodPost, "/workflows/execute", object{}, 422},
		{http.MethodPost, "/api/v1/workflows/execute", object{"workflow": object{"start_node": "a", "nodes": []object{{"id": "b", "type": "input"}}}}, 422},
		{http.MethodPost, "/api/v1/workflows/execute", object{"workflow_id": unknown}, 404},
		{http.MethodPost, "/workflows/execute", object{"workflow": object{"start_node": "a", "nodes": []object{{"id": "a", "type": "db", "metadata": object{"query": "select 1"}}}}}, 500},
	} {
		a := c.Call(t, try.method, try.path, try.body)
		require.Equal(t, try.status, a.Status, "%s %s: %s", try.method, try.path, a.Body)
		if try.status == 403 {
			continue // refused for its scope, before anything is counted
		}
		require.Equal(t, `"messages_per_second";q=1000;w=1, "requests_per_minute";q=50000;w=60`, a.Header.Get("RateLimit-Policy"), "%s %s", try.method, try.path)
		require.Regexp(t, `^"messages_per_second";r=\d+;t=\d+, "requests_per_minute";r=\d+;t=\d+$`, a.Header.Get("RateLimit"))
		for _, h := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
			require.Regexp(t, `^\d+$`, a.Header.Get(h), "%s %s: %s", try.method, try.path, h)
		}
		require.Empty(t, a.Header.Get("Retry-After"))
	}
	limits := c.Get(t, "/limits").JSON(t)
	require.Equal(t, "headers", limits["tenant_id"])
	require.Equal(t, object{"max_messages_per_second": 1000.0, "max_requests_per_minute": 50_000.0}, limits["tenant"])
	used := limits["usage"].(object)["windows"].(object)["requests_per_minute"].(object)["used"]
	require.GreaterOrEqual(t, used, 14.0)
	usage := c.Get(t, "/queues/requests/usage").JSON(t)
	require.Greater(t, usage["windows"].(object)["requests_per_minute"].(object)["used"], used)
}
