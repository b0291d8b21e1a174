package service

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// run is an execution as an executor would write it.
type run struct {
	w    *world
	key  protocol.ExecutionKey
	at   time.Time
	last uint64
}

func (w *world) start(t protocol.TenantID, req protocol.Requested) *run {
	w.t.Helper()
	r := &run{w: w, key: w.bus.Key(t, protocol.ExecutionID(typeid.New("exec"))), at: time.Now()}
	if req.Input.IsZero() {
		req.Input = protocol.RawObject(json.RawMessage(`{"user_input":"hi"}`))
	}
	r.commit(req)
	return r
}

// commit appends events a millisecond apart.
func (r *run) commit(events ...protocol.Event) *run {
	r.w.t.Helper()
	c := protocol.Commit{ID: typeid.New("c")}
	for _, e := range events {
		r.at = r.at.Add(time.Millisecond)
		c.Events = append(c.Events, protocol.Stamped{At: protocol.At(r.at), Event: e})
	}
	seq, err := r.w.bus.Append(r.w.t.Context(), r.key, r.last, c)
	require.NoError(r.w.t, err)
	r.last = seq
	return r
}

func (r *run) complete() *run {
	return r.commit(protocol.Completed{
		State:  protocol.RawObject(json.RawMessage(`{"final_output":"done"}`)),
		Totals: protocol.Totals{TokensUsed: 30, Cost: "0.003", NodesRun: 2, DurationMS: 120},
	})
}

func (r *run) get() postgres.Execution {
	r.w.t.Helper()
	x, err := r.w.store.GetExecution(r.w.t.Context(), r.key.Tenant, r.key.ID)
	require.NoError(r.w.t, err)
	return x
}

func TestExecutionRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	wf := w.workflow(acme, "n")
	w.project()

	r := w.start(acme, protocol.Requested{
		WorkflowID: wf.ID, WorkflowVersion: 1, WorkflowName: "n", SpecHash: "h", Tags: []string{"b", "a", "b"}, Actor: "key_1", RequestID: "req",
		Deadline: protocol.At(time.Now().Add(time.Minute)),
	})
	w.settled()
	x := r.get()
	require.Equal(t, "PENDING", x.Status)
	require.JSONEq(t, `{"user_input":"hi"}`, string(x.InitialState))
	require.Equal(t, []string{"a", "b"}, x.Tags)
	require.Equal(t, wf.ID, x.WorkflowID)
	require.True(t, x.CompletedAt.IsZero())
	require.Nil(t, x.DurationMS)

	begun := protocol.At(r.at)
	r.commit(protocol.Started{Executor: "e", Delivery: 1})
	r.commit(
		protocol.NodeCompleted{Node: "in", Attempt: 1, Intent: ptr("text"), StartedAt: begun, DurationMS: 1},
		protocol.NodeFailed{Node: "llm", Attempt: 1, StartedAt: begun, DurationMS: 5, Error: protocol.Failure{Code: protocol.CodeNodeFailed, Message: "503", Class: "5xx"}, NextTryAt: begun},
	)
	w.settled()
	x = r.get()
	require.Equal(t, "RUNNING", x.Status)
	require.Len(t, x.Nodes, 2)
	require.Equal(t, "text", x.Nodes[0].Intent)
	require.Equal(t, protocol.NodeRetryingStatus, x.Nodes[1].Status)
	require.Equal(t, "503", x.Nodes[1].Error.Message)

	r.commit(protocol.NodeRateLimited{Node: "llm", Queue: "q", Metric: protocol.MetricTokens, RetryAt: begun})
	w.settled()
	require.Equal(t, protocol.NodeRateLimitedStatus, r.get().Nodes[1].Status)
	r.commit(protocol.NodeCompleted{Node: "llm", Attempt: 2, Tokens: 30, Cost: "0.1", StartedAt: begun, DurationMS: 80})
	r.commit(protocol.NodeCompleted{Node: "llm", Iteration: 1, Attempt: 1, Tokens: 12, Cost: "0.2", StartedAt: begun, DurationMS: 80})
	w.settled()
	x = r.get()
	require.EqualValues(t, 42, x.TokensUsed)
	require.Equal(t, json.Number("0.3"), x.Cost, "exactly")
	require.Len(t, x.Nodes, 3)
	require.Equal(t, 2, x.Nodes[1].Attempt)

	r.complete()
	w.settled()
	x = r.get()
	require.Equal(t, "COMPLETED", x.Status)
	require.JSONEq(t, `{"final_output":"done"}`, string(x.FinalState))
	require.EqualValues(t, 120, *x.DurationMS)
	require.InDelta(t, 0.12, *x.DurationSeconds, 1e-9)
	require.Equal(t, json.Number("0.003"), x.Cost)
	require.Equal(t, r.last, x.LastSequence)

	// The archive has every commit, byte for byte.
	commits, err := w.getCommits(t.Context(), protocol.GetExecutionCommitsRequest{Tenant: acme, ID: r.key.ID})
	require.NoError(t, err)
	hot, err := w.bus.Load(t.Context(), r.key, 0)
	require.NoError(t, err)
	require.Len(t, commits.Commits, len(hot))
	require.GreaterOrEqual(t, commits.Through, r.last)
	for i, c := range commits.Commits {
		rec, err := c.Record()
		require.NoError(t, err)
		want, err := protocol.EncodeCommit(hot[i].Commit)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(c.Body))
		require.Equal(t, hot[i].Sequence, rec.Sequence)
		require.Equal(t, hot[i].Previous, rec.Previous)
	}
	part, err := w.getCommits(t.Context(), protocol.GetExecutionCommitsRequest{Tenant: acme, ID: r.key.ID, After: hot[1].Sequence, Limit: 2})
	require.NoError(t, err)
	require.Len(t, part.Commits, 2)
	require.True(t, part.HasMore)
	require.Equal(t, hot[2].Sequence, part.Commits[0].Sequence)
}

// Nothing that an execution may hold stops the projector.
func TestHostileStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()
	deep := strings.Repeat(`{"a":`, 3000) + "1" + strings.Repeat("}", 3000)
	for _, state := range []string{
		`{"a":"x\u0000y"}`, `{"a\u0000":1}`, `{"a":"\ud800"}`, `{"a":"\\u0000"}`, `{"a":1e999999}`, `{"a":1E+400000}`, `{"a":-1.5e-300000}`,
		`{"a":` + strings.Repeat("9", 200_000) + `}`, deep, `{"a":1.0e3,"b":true,"c":1e5}`, `{"":""}`, `{"a":"` + "\xff\xfe" + `"}`,
	} {
		r := w.start(acme, protocol.Requested{
			Input: protocol.RawObject(json.RawMessage(state)), Tags: []string{"t\x00"}, Actor: "a\x00", WorkflowName: "n\x00", RequestID: "\xff",
		})
		r.commit(
			protocol.NodeCompleted{Node: "n\x00", Delta: protocol.RawObject(json.RawMessage(state)), Cost: "lots", Intent: ptr("i\x00")},
			protocol.NodeFailed{Node: "m", Error: protocol.Failure{Message: "e\x00"}},
			protocol.Failed{Error: protocol.Failure{Message: "e\x00"}, State: protocol.RawObject(json.RawMessage(state)), Totals: protocol.Totals{Cost: "NaN"}})
		w.settled()
		x := r.get()
		require.Equal(t, "FAILED", x.Status)
		require.True(t, json.Valid(x.FinalState))
		require.NoError(t, w.projects.Health(t.Context()))
	}
}

// An idle reader is woken by a message, not by its clock, which here never strikes.
func TestNewEventsAreVisibleSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.projects.idle = time.Hour
	w.project()
	for range 20 {
		r := w.start(acme, protocol.Requested{})
		require.NoError(t, w.AwaitTables(t.Context(), []string{r.key.Stream()}))
		require.Equal(t, "PENDING", r.get().Status)
	}
}

// An event that this version does not know stops its stream, and no other; nothing is skipped.
func TestUnknownEventStandsStill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 2})
	acme := w.tenant("acme")
	e, seq, err := w.bus.LastCatalog(t.Context(), acme, protocol.KindTenant, "acme")
	require.NoError(t, err)
	e.Type, e.CommandID, e.Revision = "tenant_sold.v9", "later version", e.Revision+1
	_, err = w.bus.AppendCatalog(t.Context(), e, seq)
	require.NoError(t, err)
	w.project()
	require.Eventually(t, func() bool { return w.projects.Health(t.Context()) != nil }, waitFor, tick)
	require.ErrorIs(t, w.projects.Health(t.Context()), errUnreadable)
	require.ErrorContains(t, w.projects.Health(t.Context()), "tenant_sold.v9")
	r := w.start("acme", protocol.Requested{})
	require.NoError(t, w.AwaitTables(t.Context(), []string{r.key.Stream()}))
	at, err := w.store.Checkpoint(t.Context(), protocol.StreamCatalog)
	require.NoError(t, err)
	require.LessOrEqual(t, at, seq)
}

// Two projectors at once, after a network split for example, write every message once.
func TestTwoProjectors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()
	other := *w
	other.projects = NewProjector(w.Service)
	other.project()
	const n = 100
	for range n {
		w.start(acme, protocol.Requested{}).commit(protocol.Started{}).complete()
	}
	w.settled()
	l, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme, Status: "COMPLETED"})
	require.NoError(t, err)
	require.EqualValues(t, n, l.Total, "counted once")
}

// get2 is get once the tables have the execution.
func (r *run) get2() postgres.Execution {
	r.w.t.Helper()
	require.NoError(r.w.t, r.w.AwaitTables(r.w.t.Context(), []string{r.key.Stream()}))
	return r.get()
}
