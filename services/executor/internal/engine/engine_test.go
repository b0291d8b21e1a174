package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
	"github.com/agentflow/agentflow/services/executor/internal/node"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

const tenant = protocol.TenantID("acme")

// bench is a NATS server and what tests do with it.
type platform struct {
	t      testing.TB
	server *local.Server
	bus    *bus.Bus
	mask   func(_, _ string) string // of the executors; nil for that of their sources
	gather *prometheus.Registry     // of all executors
	fuse   source.BreakerConfig     // of the executors' sources

	runtime *daemon.Runtime                 // of the executors; nil when nobody is told
	outside func(node.Outside) node.Outside // what stands before their sources; nil for nothing
}

func newPlatform(t testing.TB) *platform {
	t.Helper()
	return platformOn(t, t.TempDir())
}

// platformOn starts a server on a data folder, which may have been used before.
func platformOn(t testing.TB, dir string) *platform {
	t.Helper()
	server, err := local.Start(local.Options{Dir: dir, Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	p := &platform{t: t, server: server, gather: prometheus.NewRegistry()}
	p.bus = p.connect()
	return p
}

func (p *platform) connect() *bus.Bus {
	p.t.Helper()
	b, err := bus.Connect(p.t.Context(), bus.Config{InProcess: p.server, Partitions: 2, Replicas: 1, MaxBytes: 1 << 30, CreateLayout: true})
	require.NoError(p.t, err)
	p.t.Cleanup(b.Close)
	return b
}

// executor starts an engine and returns what stops it.
func (p *platform) executor(cfg engine.Config) (stop func()) {
	p.t.Helper()
	b := p.connect()
	sources, err := source.New(source.Config{EgressAllow: "127.0.0.0/8", Breaker: p.fuse})
	require.NoError(p.t, err)
	limiter := limits.NewClient(b, limits.Config{TimeoutMS: 10_000}, zap.NewNop(), prometheus.NewRegistry())
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 16
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = time.Second
	}
	if cfg.Takeovers == 0 {
		cfg.Takeovers = 5
	}
	if cfg.NodeTimeout == 0 {
		cfg.NodeTimeout = 20 * time.Second
	}
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	mask := sources.Mask
	if p.mask != nil {
		mask = p.mask
	}
	parts := engine.Parts{
		Bus: b, Outside: sources, Queue: limits.NewQueue(limiter), Limiter: limiter, Mask: mask,
		Log: zaptest.NewLogger(p.t, zaptest.Level(zap.WarnLevel)),
	}
	if p.runtime != nil {
		parts.Log, parts.Reports = p.runtime.Log, p.runtime
	}
	if p.outside != nil {
		parts.Outside = p.outside(sources)
	}
	e := engine.New(cfg, parts)
	for _, c := range e.Collectors() {
		_ = p.gather.Register(c) // of several executors, the first one's count
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(p.t, <-done)
			require.NoError(p.t, limiter.Close(context.Background()))
			require.NoError(p.t, sources.Close())
			b.Close()
		})
	}
	p.t.Cleanup(stop)
	return stop
}

// Bounds of waiting for something that is to happen soon.
const (
	patience = time.Minute
	tick     = 5 * time.Millisecond
)

// inTime runs a test that must see something before a time that it sets is over. Where the machine was too slow for
// that, it says false and runs again with more.
func inTime(t *testing.T, first time.Duration, try func(within time.Duration) bool) {
	t.Helper()
	for _, factor := range []time.Duration{1, 4, 16} {
		if try(factor * first) {
			return
		}
	}
	require.Fail(t, "the machine is too slow", "even for %v", 16*first)
}

// events are the names of what the log of an execution holds now.
func (p *platform) events(key protocol.ExecutionKey) string {
	p.t.Helper()
	events, _ := p.log(key)
	return events
}

// log is events, with the position of the last of them.
func (p *platform) log(key protocol.ExecutionKey) (string, uint64) {
	p.t.Helper()
	records, err := p.bus.Load(p.t.Context(), key, 0)
	require.NoError(p.t, err)
	var events []protocol.Event
	for _, rec := range records {
		for _, e := range rec.Events {
			events = append(events, e.Event)
		}
	}
	return names(events), records[len(records)-1].Sequence
}

// metric is the sum of a counter or gauge over its labels, of the first executor.
func (p *platform) metric(name string) float64 {
	p.t.Helper()
	families, err := p.gather.Gather()
	require.NoError(p.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// request accepts an execution as the gateway does.
func (p *platform) request(spec, input string, change func(*protocol.Requested)) protocol.ExecutionKey {
	p.t.Helper()
	return p.accept(tenant, spec, input, change)
}

func (p *platform) requestFor(t protocol.TenantID, spec, input string) protocol.ExecutionKey {
	p.t.Helper()
	return p.accept(t, spec, input, nil)
}

func (p *platform) accept(tenant protocol.TenantID, spec, input string, change func(*protocol.Requested)) protocol.ExecutionKey {
	p.t.Helper()
	parsed, err := workflow.Parse([]byte(spec))
	require.NoError(p.t, err)
	report := workflow.Validate(parsed, workflow.Known{})
	require.True(p.t, report.Valid, "%v", report.Errors)
	key := p.bus.Key(tenant, protocol.ExecutionID(typeid.New("exec")))
	req := protocol.Requested{
		SpecHash: workflow.Hash(parsed.Raw), Spec: protocol.VerbatimOf(parsed.Raw), Input: protocol.RawObject(json.RawMessage(input)),
		Deadline: protocol.At(time.Now().Add(2 * patience)),
	}
	if change != nil {
		change(&req)
	}
	_, err = p.bus.Append(p.t.Context(), key, 0, protocol.Commit{
		ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: req}},
	})
	require.NoError(p.t, err)
	return key
}

// history waits until an execution has ended and returns its events.
func (p *platform) history(key protocol.ExecutionKey) []protocol.Event {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	var events []protocol.Event
	err := p.bus.Follow(ctx, key, 0, func(r protocol.Record) bool {
		ended := false
		for _, e := range r.Events {
			events = append(events, e.Event)
			ended = ended || protocol.Terminal(e.Event)
		}
		return !ended
	})
	require.NoError(p.t, err, "events so far: %v", names(events))
	return events
}

func names(events []protocol.Event) string {
	var out []string
	for _, e := range events {
		name := strings.TrimSuffix(e.EventType(), ".v1")
		if done, ok := e.(protocol.NodeCompleted); ok {
			name += ":" + done.Node
		}
		if failed, ok := e.(protocol.NodeFailed); ok {
			name += ":" + failed.Node
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func final(t *testing.T, events []protocol.Event) workflow.Values {
	t.Helper()
	done, ok := events[len(events)-1].(protocol.Completed)
	require.True(t, ok, "%s: %+v", names(events), events[len(events)-1])
	v, err := done.State.Values()
	require.NoError(t, err)
	return v
}

const threeSteps = `{"start_node":"a","nodes":[
 {"id":"a","type":"input"},
 {"id":"b","type":"router","metadata":{"routes":[{"intent":"yes","keywords":["hello"]}]}},
 {"id":"c","type":"aggregator","metadata":{"strategy":"concat","source_keys":["user_input","intent"],"separator":"-","include_metadata":false}}],
 "edges":[{"from":"a","to":"b"},{"from":"b","to":"c"}]}`

func TestPureWorkflowTakesTwoCommits(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	key := p.request(threeSteps, `{"user_input":"hello"}`, nil)
	events := p.history(key)
	require.Equal(t, "requested node_completed:a node_completed:b node_completed:c completed", names(events))
	state := final(t, events)
	require.Equal(t, "hello-yes", state["final_output"])
	require.Equal(t, []any{"a", "b", "c"}, state["execution_path"])
	require.Equal(t, string(key.ID), state["metadata"].(map[string]any)["execution_id"])
	records, err := p.bus.Load(t.Context(), key, 0)
	require.NoError(t, err)
	require.Len(t, records, 2)
}

func TestReplyCarriesTheEnd(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	subject, reply, release, err := p.bus.Expect()
	require.NoError(t, err)
	defer release()
	p.request(threeSteps, `{"user_input":"hello"}`, func(r *protocol.Requested) { r.Reply = subject })
	commit, err := protocol.DecodeCommit("", <-reply)
	require.NoError(t, err)
	require.IsType(t, protocol.Completed{}, commit.Events[len(commit.Events)-1].Event)
}

// calls is an outside server that counts what reaches it.
type calls struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]int // by Idempotency-Key
}

func newCalls(t testing.TB, answer func(n int, w http.ResponseWriter, r *http.Request)) *calls {
	t.Helper()
	c := &calls{keys: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		key := r.Header.Get("Idempotency-Key")
		c.keys[key]++
		n := c.keys[key]
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer(n, w, r)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *calls) seen() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for k, n := range c.keys {
		_, node, _ := strings.Cut(k, "/")
		out[node] += n
	}
	return out
}

func parallel(url string, metadata string) string {
	return `{"start_node":"in","nodes":[
 {"id":"in","type":"input"},
 {"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/x","output_key":"x"` + metadata + `}},
 {"id":"y","type":"api","metadata":{"source_id":"s","endpoint":"/y","output_key":"y"}},
 {"id":"join","type":"aggregator","metadata":{"source_keys":["x","y"],"include_metadata":false}}],
 "edges":[{"from":"in","to":["x","y"]},{"from":"x","to":"join"},{"from":"y","to":"join"}],
 "sources":[{"id":"s","kind":"api","config":{"base_url":"` + url + `"}}]}`
}

// retryAfter is a second attempt that comes when half of that time to all of it is over.
func retryAfter(wait time.Duration) string {
	return fmt.Sprintf(`,"retry":{"max_attempts":2,"initial_interval":%[1]v,"max_interval":%[1]v}`, wait.Seconds())
}

func TestBranchesRunInParallel(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	both := make(chan struct{}, 2)
	gate := make(chan struct{})
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		both <- struct{}{}
		<-gate
		_, _ = w.Write([]byte(`{"ok":true}`))
	})
	spec := parallel(c.URL, "")
	key := p.request(spec, `{"user_input":"q"}`, nil)
	<-both
	<-both // the second call came while the first was held
	close(gate)
	events := p.history(key)
	state := final(t, events)
	merged := state["final_output"].(map[string]any)
	require.Equal(t, map[string]any{"ok": true}, merged["x"].(map[string]any)["data"])
	require.Equal(t, map[string]int{"x/0": 1, "y/0": 1}, c.seen())
}

func TestRetryKeepsTheIdempotencyKey(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	c := newCalls(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" && n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	spec := parallel(c.URL, `,"retry":{"max_attempts":3,"initial_interval":0.01}`)
	events := p.history(p.request(spec, `{}`, nil))
	final(t, events)
	require.Equal(t, 3, c.seen()["x/0"])
	require.Contains(t, names(events), "node_failed:x")
}

func TestTakeOverAfterAnExecutorFellSilent(t *testing.T) {
	p := newPlatform(t)
	held := make(chan struct{}, 16)
	gate := make(chan struct{})
	c := newCalls(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" && n == 1 {
			held <- struct{}{}
			select {
			case <-gate:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	spec := parallel(c.URL, "")
	stop := p.executor(engine.Config{Name: "first", Drain: 10 * time.Millisecond})
	key := p.request(spec, `{}`, nil)
	<-held
	require.Eventually(t, func() bool { // y is committed
		rs, err := p.bus.Load(t.Context(), key, 0)
		return err == nil && len(rs) == 3
	}, patience, tick)
	stop() // hands over at once
	p.executor(engine.Config{Name: "second"})
	events := p.history(key)
	close(gate)
	final(t, events)
	require.Equal(t, map[string]int{"x/0": 2, "y/0": 1}, c.seen(), "what was committed is not run again")
	require.Equal(t, 1, strings.Count(names(events), "completed:y"))
}

func TestPoisonEndsVisibly(t *testing.T) {
	p := newPlatform(t)
	c := newCalls(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	spec := parallel(c.URL, "")
	key := p.request(spec, `{}`, nil)
	for n := range 2 {
		stop := p.executor(engine.Config{Takeovers: 2, Drain: time.Millisecond})
		require.Eventually(t, func() bool { // this one began, and dies of it
			rs, err := p.bus.Load(t.Context(), key, 0)
			if err != nil {
				return false
			}
			var events []protocol.Event
			for _, e := range rs[len(rs)-1].Events {
				events = append(events, e.Event)
			}
			return len(rs) == 2+n && strings.HasSuffix(names(events), "started")
		}, patience, tick)
		stop()
	}
	p.executor(engine.Config{Takeovers: 2})
	events := p.history(key)
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeDeliveryExhausted, failed.Error.Code)
}

func TestCancelReachesTheOutsideCall(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	arrived, ended := make(chan struct{}, 4), make(chan struct{}, 4)
	c := newCalls(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	spec := parallel(c.URL, "")
	key := p.request(spec, `{}`, nil)
	<-arrived
	<-arrived
	last, err := p.bus.Last(t.Context(), key)
	require.NoError(t, err)
	_, err = p.bus.Append(t.Context(), key, last.Sequence, protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{
		{At: protocol.At(time.Now()), Event: protocol.CancelRequested{Reason: "enough"}},
	}})
	require.NoError(t, err)
	require.NoError(t, p.bus.Signal(key.ID))
	events := p.history(key)
	require.IsType(t, protocol.Cancelled{}, events[len(events)-1], names(events))
	<-ended
	<-ended
}

func TestTimeouts(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	c := newCalls(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	t.Run("of a node", func(t *testing.T) {
		spec := parallel(c.URL, `,"timeout_seconds":0.2`)
		events := p.history(p.request(spec, `{}`, nil))
		end, ok := events[len(events)-1].(protocol.TimedOut)
		require.True(t, ok, names(events))
		require.Equal(t, protocol.ScopeNode, end.Scope)
		require.Equal(t, "x", end.Node)
		require.GreaterOrEqual(t, end.ElapsedMS, int64(200))
	})
	t.Run("of the execution", func(t *testing.T) {
		inTime(t, 300*time.Millisecond, func(timeout time.Duration) bool {
			spec := parallel(c.URL, "")
			events := p.history(p.request(spec, `{}`, func(r *protocol.Requested) { r.Deadline = protocol.At(time.Now().Add(timeout)) }))
			end, ok := events[len(events)-1].(protocol.TimedOut)
			require.True(t, ok, names(events))
			require.Equal(t, protocol.ScopeExecution, end.Scope)
			state, err := end.State.Values()
			require.NoError(t, err)
			if !strings.Contains(names(events), "node_completed:in") {
				return false
			}
			require.Equal(t, []any{"in"}, state["execution_path"], "the partial state is kept")
			return true
		})
	})
}

func TestLargeValuesMoveToTheObjectStore(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	big := strings.Repeat("x", 300<<10)
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		raw, _ := json.Marshal(map[string]string{"text": big})
		_, _ = w.Write(raw)
	})
	spec := parallel(c.URL, "")
	events := p.history(p.request(spec, `{}`, nil))
	end, ok := events[len(events)-1].(protocol.Completed)
	require.True(t, ok, names(events))
	require.NotEmpty(t, end.State.Ref)
	raw, err := p.bus.GetObject(t.Context(), tenant, end.State.Ref, 64<<20)
	require.NoError(t, err)
	require.Contains(t, string(raw), big)
}

// byExecution counts the calls of one execution by node and iteration.
func (c *calls) byExecution(id string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for k, n := range c.keys {
		if call, ok := strings.CutPrefix(k, id+"/"); ok {
			out[call] = n
		}
	}
	return out
}

func TestManyValuesOfMiddlingSizeFitTheirCommits(t *testing.T) {
	p := newPlatform(t)
	p.executor(engine.Config{})
	var nodes, edges []string
	for i := range 120 {
		nodes = append(nodes, fmt.Sprintf(`{"id":"n%d","type":"aggregator","metadata":{"strategy":"template","template":"{user_input}","include_metadata":false,"output_key":"o%d"}}`, i, i))
		if i > 0 {
			edges = append(edges, fmt.Sprintf(`{"from":"n%d","to":"n%d"}`, i-1, i))
		}
	}
	spec := `{"start_node":"n0","nodes":[` + strings.Join(nodes, ",") + `],"edges":[` + strings.Join(edges, ",") + `]}`
	text := strings.Repeat("y", 60<<10)
	key := p.request(spec, `{"user_input":"`+text+`"}`, nil)
	events := p.history(key)
	require.IsType(t, protocol.Completed{}, events[len(events)-1])
	require.Len(t, events, 122)
	records, err := p.bus.Load(t.Context(), key, 0)
	require.NoError(t, err)
	for _, rec := range records {
		body, err := protocol.EncodeCommit(rec.Commit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(body), 512<<10)
	}
}

func TestANodesTimeBeginsWithItsExecutor(t *testing.T) {
	p := newPlatform(t)
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
	spec := parallel(c.URL, `,"timeout_seconds":1`)
	key := p.request(spec, `{}`, nil)
	started := time.Now()
	require.Eventually(t, func() bool { return time.Since(started) > 1200*time.Millisecond }, patience, 50*time.Millisecond)
	p.executor(engine.Config{})
	final(t, p.history(key))
}
