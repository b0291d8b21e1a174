package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

const run = `{"workflow":` + pure + `,"initial_state":{"user_input":"hi"}}`

func TestAsync(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	for _, how := range [][]string{
		{"/workflows/execute?mode=async"},
		{"/workflows/execute", "Prefer", "wait=1, respond-async"},
		{"/api/v1/workflows/execute?mode=async"},
	} {
		a := p.call(http.MethodPost, how[0], run, how[1:]...)
		require.Equal(t, 202, a.status, "%s", a.body)
		id, _ := a.json(t)["execution_id"].(string)
		require.Equal(t, "/executions/"+id, a.header.Get("Location"))
		got := p.call(http.MethodGet, "/executions/"+id, "")
		require.Equal(t, 200, got.status, "%s", got.body)
		require.Equal(t, "PENDING", got.json(t)["status"])
		require.Equal(t, map[string]any{"user_input": "hi"}, got.json(t)["initial_state"])
	}
}

func TestLostReply(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.silent()
	a := p.call(http.MethodPost, "/workflows/execute", run)
	require.Equal(t, 200, a.status, "the outcome is read from the log: %s", a.body)
}

func TestStoredWorkflow(t *testing.T) {
	p := start(t, withoutKeys)
	created := p.call(http.MethodPost, "/workflows", `{"name":"w","spec":`+pure+`}`)
	require.Equal(t, 201, created.status, "%s", created.body)
	id, _ := created.json(t)["id"].(string)
	require.Equal(t, "/workflows/"+id, created.header.Get("Location"))

	var got protocol.Requested
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event { got = r; return complete(j, r) })
	// None of these may need the catalog: the log of the catalog is enough.
	p.catalog.unavailable(true)
	a := p.call(http.MethodPost, "/workflows/execute", `{"workflow_id":"`+id+`"}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	require.Equal(t, id, got.WorkflowID)
	require.Equal(t, 1, got.WorkflowVersion)
	require.Equal(t, 200, p.call(http.MethodPost, "/workflows/"+id+"/execute", "").status)
	require.Equal(t, 200, p.call(http.MethodPost, "/api/v1/workflows/"+id+"/execute", `{"initial_state":{}}`).status)
	require.Equal(t, 422, p.call(http.MethodPost, "/workflows/"+id+"/execute", run).status, "two workflows")
	p.catalog.unavailable(false)

	changed := strings.Replace(pure, `"start_node"`, `"name":"second","start_node"`, 1)
	require.Equal(t, 200, p.call(http.MethodPut, "/workflows/"+id, `{"spec":`+changed+`}`, "If-Match", `"1"`).status)
	require.Equal(t, 200, p.call(http.MethodPost, "/workflows/"+id+"/execute", "").status)
	require.Equal(t, 2, got.WorkflowVersion, "the next execution runs the new version")
	require.Equal(t, 412, p.call(http.MethodPut, "/workflows/"+id, `{"name":"x"}`, "If-Match", `"1"`).status)

	require.Equal(t, 200, p.call(http.MethodPut, "/workflows/"+id, `{"status":"archived"}`).status)
	a = p.call(http.MethodPost, "/workflows/"+id+"/execute", "")
	require.Equal(t, 409, a.status, "%s", a.body)
}

// TestKeptSources checks that a spec is resolved with the tenant's sources as they are now, and
// that what arrives hashes to what was said.
func TestKeptSources(t *testing.T) {
	p := start(t, withoutKeys)
	spec := `{"start_node":"a","nodes":[{"id":"a","type":"llm","metadata":{"source_id":"my model","prompt":"<hi>"}}],"edges":[]}`
	order := `{"workflow":` + spec + `}`
	require.Equal(t, 400, p.call(http.MethodPost, "/workflows/execute", order).status, "no such source yet")

	var got protocol.Requested
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event { got = r; return complete(j, r) })
	for _, model := range []string{"one", "two"} {
		a := p.call(http.MethodPost, "/api/v1/sources/", `{"id":"my model","kind":"llm","config":{"provider":"echo","model":"`+model+`"}}`)
		require.Equal(t, 201, a.status, "%s", a.body)
		a = p.call(http.MethodPost, "/workflows/execute", order)
		require.Equal(t, 200, a.status, "%s", a.body)
		doc, err := got.Spec.Document()
		require.NoError(t, err)
		require.Contains(t, string(doc), `"model":"`+model+`"`)
		require.Equal(t, workflow.Hash(doc), got.SpecHash)
	}
	require.Equal(t, 200, p.call(http.MethodDelete, "/sources/my%20model", "").status)
	require.Equal(t, 400, p.call(http.MethodPost, "/workflows/execute", order).status, "the source is gone")
}

func TestLargeSpecAndInput(t *testing.T) {
	p := start(t, withoutKeys)
	var got protocol.Requested
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event {
		got = r
		return protocol.Completed{State: protocol.ReferTo(mustPut(t, p.bus, `{"far":"away","n":1.50}`), 10), Totals: protocol.Totals{Cost: "0"}}
	})
	spec := strings.Replace(pure, `"start_node"`, `"notes":"`+strings.Repeat("x", 20<<10)+`","start_node"`, 1)
	a := p.call(http.MethodPost, "/workflows/execute", `{"workflow":`+spec+`,"initial_state":{"user_input":"`+strings.Repeat("y", 300<<10)+`"}}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	require.Contains(t, string(a.body), `"final_state":{"far":"away","n":1.50}`)
	require.Empty(t, got.Spec, "a large spec does not ride along")
	doc, err := p.bus.GetSpec(t.Context(), "dev", got.SpecHash)
	require.NoError(t, err)
	require.Equal(t, got.SpecHash, workflow.Hash(doc))
	require.NotEmpty(t, got.Input.Ref, "a large input does not either")

	e := p.call(http.MethodGet, "/executions/"+executionOf(t, a), "").json(t)
	require.Equal(t, "COMPLETED", e["status"])
	require.Equal(t, map[string]any{"far": "away", "n": 1.5}, e["final_state"])
}

func mustPut(t *testing.T, b *bus.Bus, doc string) string {
	t.Helper()
	name, err := b.PutObject(t.Context(), "dev", []byte(doc))
	require.NoError(t, err)
	return name
}

func executionOf(t *testing.T, a answer) string {
	t.Helper()
	id, _ := a.json(t)["execution_id"].(string)
	require.NotEmpty(t, id)
	return id
}

func TestIdempotency(t *testing.T) {
	p := start(t, withoutKeys)
	other := p.gateway(withoutKeys) // a second gateway on the same platform
	const parallel = 50
	answers := make([]answer, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		url := p.url
		if i%2 == 1 {
			url = other
		}
		wg.Go(func() { answers[i] = p.at(url, http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "once") })
	}
	wg.Wait()
	for _, a := range answers {
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Equal(t, string(answers[0].body), string(a.body), "everyone gets the same answer")
	}
	require.Equal(t, 1, p.executor.count(), "one execution")

	again := p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "once")
	require.Equal(t, string(answers[0].body), string(again.body))
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))

	a := p.call(http.MethodPost, "/workflows/execute", `{"workflow":`+pure+`}`, "Idempotency-Key", "once")
	require.Equal(t, 422, a.status)
	require.Equal(t, "IDEMPOTENCY_REUSED", a.json(t)["code"])
	require.Contains(t, string(a.body), `"location":"header.Idempotency-Key"`)
	require.Equal(t, 422, p.call(http.MethodPost, "/workflows", `{"spec":`+pure+`}`, "Idempotency-Key", "once").status)
	require.Equal(t, 422, p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", strings.Repeat("k", 256)).status)

	a = p.call(http.MethodPost, "/workflows/execute", `{"workflow":{}}`, "Idempotency-Key", "bad first")
	require.Equal(t, 422, a.status)
	require.Equal(t, 200, p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "bad first").status, "a bad order leaves its key free")
}

// TestClaimerDied begins where a gateway died between its claim and its append.
func TestClaimerDied(t *testing.T) {
	p := start(t, withoutKeys)
	first := p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "lives")
	require.Equal(t, 200, first.status)
	kept, err := p.bus.Claimed(t.Context(), "dev", "lives")
	require.NoError(t, err)
	const id = "exec_01jd2v8m6hf5qrgq2s9n0w3x4y"
	dead := strings.Replace(string(kept), executionOf(t, first), id, 1)
	_, won, err := p.bus.Claim(t.Context(), "dev", "died", []byte(dead))
	require.NoError(t, err)
	require.True(t, won)

	for range 2 {
		a := p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "died")
		require.Equal(t, 200, a.status, "%s", a.body)
		require.Equal(t, id, executionOf(t, a), "the repeat completes the start under the same id")
	}
	require.Equal(t, 2, p.executor.count())
}

// TestTrimmedLog repeats an order whose execution has left the log for the archive.
func TestTrimmedLog(t *testing.T) {
	p := start(t, withoutKeys)
	a := p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "old")
	require.Equal(t, 200, a.status)
	id := protocol.ExecutionID(executionOf(t, a))
	ms := int64(3)
	var body struct {
		FinalState json.RawMessage `json:"final_state"`
	}
	require.NoError(t, json.Unmarshal(a.body, &body))
	p.catalog.mu.Lock()
	p.catalog.archive[id] = protocol.Execution{
		ID: id, Tenant: "dev", Status: "COMPLETED", FinalState: body.FinalState, TokensUsed: 7, Cost: "0.0012", DurationMS: &ms, NodesRun: 1,
	}
	p.catalog.mu.Unlock()
	key := p.bus.Key("dev", id)
	state, err := p.bus.State(t.Context(), key.Stream())
	require.NoError(t, err)
	require.NoError(t, p.bus.Trim(t.Context(), key.Partition, state.Last+1))

	again := p.call(http.MethodPost, "/workflows/execute", run, "Idempotency-Key", "old")
	require.Equal(t, string(a.body), string(again.body))
	require.Equal(t, 1, p.executor.count(), "it did not run twice")
	require.Equal(t, "COMPLETED", p.call(http.MethodGet, "/executions/"+string(id), "").json(t)["status"])
}

func TestOrderFields(t *testing.T) {
	p := start(t, withoutKeys)
	var got protocol.Requested
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event { got = r; return complete(j, r) })
	before := time.Now()
	a := p.call(http.MethodPost, "/workflows/execute", `{"workflow":`+pure+`,"timeout_seconds":62.5,"max_iterations":3,"tags":["a","b"]}`, "X-Request-ID", "my-request")
	require.Equal(t, 200, a.status, "%s", a.body)
	require.Equal(t, "my-request", a.header.Get("X-Request-Id"))
	require.Equal(t, "my-request", got.RequestID)
	require.Equal(t, 3, got.MaxIterations)
	require.Equal(t, []string{"a", "b"}, got.Tags)
	const timeout = 62*time.Second + 500*time.Millisecond
	require.WithinRange(t, got.Deadline.Time, before.Add(timeout-time.Millisecond), time.Now().Add(timeout))

	p.call(http.MethodPost, "/workflows/execute", run)
	require.Equal(t, 25, got.MaxIterations)
	spec := strings.Replace(pure, `"start_node"`, `"timeout_seconds":600,"max_iterations":7,"start_node"`, 1)
	p.call(http.MethodPost, "/workflows/execute", `{"workflow":`+spec+`}`)
	require.Zero(t, got.MaxIterations, "the spec says it itself")
	require.Greater(t, time.Until(got.Deadline.Time), 590*time.Second)
}

func TestClientHangsUp(t *testing.T) {
	p := start(t, withoutKeys)
	ctx, hangUp := context.WithCancel(t.Context())
	release := make(chan struct{})
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event { hangUp(); <-release; return complete(j, r) })
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/workflows/execute", strings.NewReader(run))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	_, err = p.client.Do(req) //nolint:bodyclose // it fails
	require.ErrorIs(t, err, context.Canceled)
	close(release)
	require.Eventually(t, func() bool {
		p.executor.mu.Lock()
		defer p.executor.mu.Unlock()
		for id := range p.executor.runs {
			last, err := p.bus.Last(t.Context(), p.bus.Key("dev", id))
			return err == nil && protocol.Terminal(last.Events[0].Event)
		}
		return false
	}, waitFor, tick, "the execution ends all the same")
}

func TestCancel(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	a := p.call(http.MethodPost, "/workflows/execute?mode=async", run)
	id := executionOf(t, a)
	first := p.call(http.MethodPost, "/executions/"+id+"/cancel", `{"reason":"enough"}`)
	require.Equal(t, 200, first.status, "%s", first.body)
	require.Equal(t, 200, p.call(http.MethodPost, "/executions/"+id+"/cancel", "").status, "twice is harmless")
	records, err := p.bus.Load(t.Context(), p.bus.Key("dev", protocol.ExecutionID(id)), 0)
	require.NoError(t, err)
	require.Len(t, records, 2, "one request to end")
	require.Equal(t, protocol.CancelRequested{Actor: "anonymous", Reason: "enough"}, records[1].Events[0].Event)

	p.executor.follow(complete)
	done := executionOf(t, p.call(http.MethodPost, "/workflows/execute", run))
	require.Equal(t, 409, p.call(http.MethodPost, "/executions/"+done+"/cancel", "").status, "it has ended otherwise")
	require.Equal(t, 404, p.call(http.MethodPost, "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y/cancel", "").status)
}
