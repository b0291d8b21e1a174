package engine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

func TestAStateThatGrowsTooLargeEndsTheExecution(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.executor(engine.Config{MaxState: 1 << 20})
	big := strings.Repeat("x", 300<<10)
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		raw, err := json.Marshal(map[string]string{"text": big})
		if err == nil {
			_, _ = w.Write(raw)
		}
	})
	spec := `{"start_node":"x","max_iterations":100,"nodes":[
	 {"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/x","output_key":"x"}}],
	 "edges":[{"from":"x","to":"x","condition":"execution_path.size() < %d"}],
	 "sources":[{"id":"s","kind":"api","config":{"base_url":"` + c.URL + `"}}]}`
	events := p.history(p.request(fmt.Sprintf(spec, 2), `{}`, nil))
	require.IsType(t, protocol.Completed{}, events[len(events)-1], names(events))

	events = p.history(p.request(fmt.Sprintf(spec, 50), `{}`, nil))
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeStateTooLarge, failed.Error.Code)
	require.Equal(t, 4, strings.Count(names(events), "node_completed"), "it stops when the limit is passed")

	// Pure nodes make values too, and many of them between two commits.
	var nodes, edges []string
	for i := range 40 {
		nodes = append(nodes, fmt.Sprintf(`{"id":"n%d","type":"aggregator","metadata":{"strategy":"template","template":"{user_input}","include_metadata":false,"output_key":"o%d"}}`, i, i))
		if i > 0 {
			edges = append(edges, fmt.Sprintf(`{"from":"n%d","to":"n%d"}`, i-1, i))
		}
	}
	pure := `{"start_node":"n0","nodes":[` + strings.Join(nodes, ",") + `],"edges":[` + strings.Join(edges, ",") + `]}`
	events = p.history(p.request(pure, `{"user_input":"`+strings.Repeat("y", 60<<10)+`"}`, nil))
	failed, ok = events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeStateTooLarge, failed.Error.Code)
	require.Less(t, strings.Count(names(events), "node_completed"), 20)
}

// TestLongErrorsAreValuesToo: they stand in the state, and fit into commits.
func TestLongErrorsAreValuesToo(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.executor(engine.Config{MaxState: 8 << 20})
	spec := `{"start_node":"x","max_iterations":100,"nodes":[
	 {"id":"x","type":"input","metadata":{"on_error":"continue","validate":{"required_fields":["` + strings.Repeat("f", 600<<10) + `"]}}}],
	 "edges":[{"from":"x","to":"x","condition":"size(errors) < %d"}]}`
	events := p.history(p.request(fmt.Sprintf(spec, 10), `{"user_input":{"a":1}}`, nil))
	require.IsType(t, protocol.Completed{}, events[len(events)-1], names(events))
	require.Equal(t, 10, strings.Count(names(events), "node_failed"))

	events = p.history(p.request(fmt.Sprintf(spec, 50), `{"user_input":{"a":1}}`, nil))
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeStateTooLarge, failed.Error.Code)
}

// TestWhatIsGoneEndsTheExecution: a value or a spec that the buckets have lost is looked for more than once, and then
// the execution ends; it is neither forgotten nor tried for ever.
func TestWhatIsGoneEndsTheExecution(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.executor(engine.Config{})
	keys := map[string]protocol.ExecutionKey{
		"obj_gone": p.request(threeSteps, `{}`, func(r *protocol.Requested) { r.Input = protocol.ReferTo(string(tenant)+"/obj_gone", 300_000) }),
		"spec":     p.request(threeSteps, `{}`, func(r *protocol.Requested) { r.Spec, r.SpecHash = nil, strings.Repeat("0", 64) }),
	}
	for what, key := range keys {
		events := p.history(key)
		failed, ok := events[len(events)-1].(protocol.Failed)
		require.True(t, ok, names(events))
		require.Equal(t, protocol.CodeSpecUnavailable, failed.Error.Code)
		require.Contains(t, failed.Error.Message, what)
	}
}

// TestAFullLogIsWaitedFor: what was called for is kept until the log takes it, and not called for again.
func TestAFullLogIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	nc, err := nats.Connect("", nats.InProcessServer(p.server))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	asked, limited := make(chan struct{}), make(chan struct{})
	c := newCalls(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			close(asked)
			<-limited
		}
		_, _ = w.Write([]byte(`{}`))
	})
	p.executor(engine.Config{})
	key := p.request(`{"start_node":"x","nodes":[{"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/x"}}],"edges":[],
	 "sources":[{"id":"s","kind":"api","config":{"base_url":"`+c.URL+`"}}]}`, `{}`, nil)
	<-asked
	resize := func(bytes int64) {
		stream, err := js.Stream(t.Context(), key.Stream())
		require.NoError(t, err)
		cfg := stream.CachedInfo().Config
		cfg.MaxBytes = bytes
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
	}
	resize(1)
	tries, err := nc.SubscribeSync(key.Log())
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	close(limited)
	for range 2 {
		_, err = tries.NextMsg(patience) // refused
		require.NoError(t, err)
	}
	resize(1 << 30)
	final(t, p.history(key))
	require.Equal(t, map[string]int{"x/0": 1}, c.seen())
}

// TestABugEndsItsOwnExecutionAlone: what panics outside of a node is taken up again, and ends.
func TestABugEndsItsOwnExecutionAlone(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.mask = func(_, s string) string {
		// Where the failure of a node becomes an event: not in the node, whose panics are its own.
		if strings.Contains(s, "404") && bytes.Contains(debug.Stack(), []byte("conclude")) {
			panic("a bug")
		}
		return s
	}
	p.executor(engine.Config{Takeovers: 2})
	c := newCalls(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	events := p.history(p.request(parallel(c.URL, ""), `{}`, nil))
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeDeliveryExhausted, failed.Error.Code)
	final(t, p.history(p.request(threeSteps, `{"user_input":"hello"}`, nil)))
}

// TestAnExecutorAsksBeforeItTriesAgain: between a failed attempt and the next another executor may have
// taken over. The first one then makes no call.
func TestAnExecutorAsksBeforeItTriesAgain(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	c := newCalls(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	p.executor(engine.Config{AckWait: patience, LongWait: patience}) // it has no reason to believe that it is not alone
	inTime(t, 2*time.Second, func(wait time.Duration) bool {
		key := p.request(parallel(c.URL, retryAfter(wait)), `{}`, nil)
		var last uint64
		require.Eventually(t, func() bool {
			var events string
			events, last = p.log(key)
			return strings.Contains(events, "node_failed:x") && strings.Contains(events, "node_completed:y")
		}, patience, tick)
		// What another executor would have written.
		_, err := p.bus.Append(t.Context(), key, last, protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{
			{At: protocol.At(time.Now()), Event: protocol.Started{Executor: "other", Delivery: 2}},
			{At: protocol.At(time.Now()), Event: protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed}}},
		}})
		if errors.Is(err, bus.ErrConflict) {
			return false
		}
		require.NoError(t, err)
		require.Eventually(t, func() bool { return p.metric("agentflow_fences_lost_total") == 1 }, patience, tick)
		require.Equal(t, 1, c.byExecution(string(key.ID))["x/0"])
		return true
	})
}
