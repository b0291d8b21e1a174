package engine_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

// limiter stands in for the limiter: it lets asks through as its script says, and remembers what it was told.
type limiter struct {
	mu      sync.Mutex
	script  func(n int, ask protocol.AcquireRequest) protocol.Grant // n counts the asks of one queue
	asked   map[string][]protocol.AcquireRequest                    // by queue
	settled []protocol.SettleRequest
	closed  chan protocol.CloseRequest
}

func (p *platform) limiter(script func(n int, ask protocol.AcquireRequest) protocol.Grant) *limiter {
	p.t.Helper()
	l := &limiter{script: script, asked: map[string][]protocol.AcquireRequest{}, closed: make(chan protocol.CloseRequest, 16)}
	calls, err := p.bus.Serve("limiter", "1.0.0", 1)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, calls.Stop()) })
	require.NoError(p.t, bus.Handle(calls, protocol.AcquireLimit, func(_ context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked[r.Queue] = append(l.asked[r.Queue], r)
		return l.script(len(l.asked[r.Queue]), r), r.Check()
	}))
	require.NoError(p.t, bus.Handle(calls, protocol.SettleLimit, func(_ context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settled = append(l.settled, r)
		return protocol.SettleReply{}, r.Check()
	}))
	require.NoError(p.t, bus.Handle(calls, protocol.CloseLimit, func(_ context.Context, r protocol.CloseRequest) (protocol.CloseReply, error) {
		l.closed <- r
		return protocol.CloseReply{}, nil
	}))
	require.NoError(p.t, p.bus.Ping(p.t.Context())) // now the server knows it, whoever asks
	return l
}

// queued is a model behind a queue.
func queued(source, bandwidth, retry string) string {
	return `{"start_node":"in","nodes":[{"id":"in","type":"input"},
 {"id":"ask","type":"llm","metadata":{"source_id":"model","prompt_template":"{user_input}","max_tokens":20,"sub_queue":"gold"` + retry + `}}],
 "edges":[{"from":"in","to":"ask"}],
 "queues":[{"id":"line","from":"in","to":"ask","bandwidth":` + bandwidth + `,"sub_queues":[{"id":"gold","weight":0.5}]}],
 "sources":[{"id":"model","kind":"llm","config":` + source + `}]}`
}

// TestAQueueIsAskedToldAndSettled: a node waits for room in its queue, its owner hears of the wait, and what was
// reserved and not used is given back.
func TestAQueueIsAskedToldAndSettled(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	l := p.limiter(func(n int, _ protocol.AcquireRequest) protocol.Grant {
		if n == 1 {
			return protocol.Grant{LimitingMetric: protocol.MetricTokens, RetryAfterMS: 20, TurnMS: 20}
		}
		return protocol.Grant{Granted: true}
	})
	p.executor(engine.Config{})
	key := p.request(queued(`{"provider":"echo","model":"m"}`, `{"max_tokens_per_minute":10000}`, ""), `{"user_input":"12345678"}`,
		func(r *protocol.Requested) { r.WorkflowID = "wf_1" })
	events := p.history(key)
	require.Equal(t, "12345678", final(t, events)["text_result"])
	require.Contains(t, names(events), "node_rate_limited")
	for _, e := range events {
		if limited, ok := e.(protocol.NodeRateLimited); ok {
			require.Equal(t, "ask", limited.Node)
			require.Equal(t, "wf_1/line", limited.Queue)
			require.Equal(t, protocol.MetricTokens, limited.Metric)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked["wf_1/line"]
	require.Len(t, asked, 2)
	ask := asked[1]
	require.Equal(t, []any{tenant, "gold", 0.5, 1, 1, 2 + 20}, []any{ask.Tenant, ask.SubQueue, ask.Weight, ask.Messages, ask.Requests, ask.Tokens})
	require.Equal(t, string(key.ID)+"/ask/0/1", ask.Reservation)
	require.Positive(t, ask.ReservationMS)
	require.Len(t, l.settled, 1)
	require.Equal(t, []any{ask.Reservation, "gold", 4}, []any{l.settled[0].Reservation, l.settled[0].SubQueue, l.settled[0].Used})
}

// TestAQueueWithoutRoomEndsTheExecution: what cannot pass within the node's time is not waited for.
func TestAQueueWithoutRoomEndsTheExecution(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	l := p.limiter(func(int, protocol.AcquireRequest) protocol.Grant {
		return protocol.Grant{LimitingMetric: protocol.MetricRequests, RetryAfterMS: 3_600_000, TurnMS: 3_600_000}
	})
	p.executor(engine.Config{})
	key := p.request(queued(`{"provider":"echo","model":"m"}`, `{"max_requests_per_minute":1}`, ""), `{"user_input":"x"}`, nil)
	events := p.history(key)
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeRateLimited, failed.Error.Code)
	require.Equal(t, "ask", failed.Error.Node)
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Len(t, l.asked, 1)
	for queue, asked := range l.asked {
		require.Regexp(t, `^[0-9a-f]{16}/line$`, queue, "an inline workflow's queue is known by its content")
		require.Empty(t, asked[0].Reservation, "there is nothing to settle")
		require.Zero(t, asked[0].Tokens)
	}
	require.Empty(t, l.settled)
}

// TestAProvidersRefusalClosesItForAll: the 429 of a provider shuts its key for the fleet, for as long as it says, and the
// next attempt asks for that key.
func TestAProvidersRefusalClosesItForAll(t *testing.T) {
	t.Setenv("AGENTFLOW_SECRET_MODEL", "a-key-of-the-test")
	p := newPlatform(t)
	l := p.limiter(func(int, protocol.AcquireRequest) protocol.Grant { return protocol.Grant{Granted: true} })
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	p.executor(engine.Config{})
	spec := queued(`{"provider":"openai","model":"m","base_url":"`+c.URL+`","api_key_env":"AGENTFLOW_SECRET_MODEL"}`,
		`{"max_requests_per_minute":100}`, `,"retry":{"max_attempts":1}`)
	events := p.history(p.request(spec, `{"user_input":"x"}`, nil))
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, "ask", failed.Error.Node)
	closed := <-l.closed
	require.Equal(t, tenant, closed.Tenant)
	require.EqualValues(t, 7000, closed.ForMS)
	require.True(t, strings.HasPrefix(closed.Queue, "source/model/"), closed.Queue)
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Len(t, l.asked[closed.Queue], 1, "before its call it asked whether the source is open")
	require.Equal(t, closed.Queue, l.asked[closed.Queue][0].Closable)
}
