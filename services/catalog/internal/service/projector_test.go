package service

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
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

func TestHowExecutionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()
	state := protocol.RawObject(json.RawMessage(`{"partial":true}`))
	totals := protocol.Totals{TokensUsed: 5, Cost: "0.5", NodesRun: 1, DurationMS: 77}
	failed := w.start(acme, protocol.Requested{}).commit(
		protocol.NodeFailed{Node: "n", Attempt: 3, Error: protocol.Failure{Code: protocol.CodeNodeFailed, Message: "no"}},
		protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed, Message: "no", Node: "n"}, State: state, Totals: totals})
	timedOut := w.start(acme, protocol.Requested{}).commit(protocol.TimedOut{Scope: protocol.ScopeNode, Node: "n", ElapsedMS: 60, State: state, Totals: totals})
	cancelled := w.start(acme, protocol.Requested{}).commit(protocol.CancelRequested{Reason: "enough"}).
		commit(protocol.Cancelled{Reason: "enough", State: state, Totals: totals})
	// What comes after the end is archived and changes nothing.
	cancelled.complete()
	ref, err := w.bus.PutObject(t.Context(), acme, []byte(`{"big":"state"}`))
	require.NoError(t, err)
	big := w.start(acme, protocol.Requested{Input: protocol.ReferTo(ref, 15)}).commit(protocol.Completed{State: protocol.ReferTo(ref, 15), Totals: totals})
	lost := w.start(acme, protocol.Requested{}).commit(protocol.Completed{State: protocol.ReferTo("acme/obj_gone", 15), Totals: totals})
	w.settled()

	x := failed.get()
	require.Equal(t, "FAILED", x.Status)
	require.Equal(t, protocol.NodeFailedStatus, x.Nodes[0].Status)
	require.Equal(t, "n", x.Error.Node)
	require.JSONEq(t, `{"partial":true}`, string(x.FinalState))
	x = timedOut.get()
	require.Equal(t, "TIMED_OUT", x.Status)
	require.Equal(t, &protocol.ExecutionTimeout{Scope: "node", Node: "n", ElapsedMS: 60}, x.Timeout)
	require.Equal(t, protocol.CodeTimedOut, x.Error.Code)
	x = cancelled.get()
	require.Equal(t, "CANCELLED", x.Status)
	require.Contains(t, x.Error.Message, "enough")
	require.Equal(t, cancelled.last, x.LastSequence)
	got, err := w.getExecution(t.Context(), protocol.GetExecutionRequest{Tenant: acme, ID: big.key.ID})
	require.NoError(t, err)
	require.JSONEq(t, `{"big":"state"}`, string(got.FinalState))
	require.JSONEq(t, `{"big":"state"}`, string(got.InitialState))
	require.Empty(t, got.FinalStateRef)
	got, err = w.getExecution(t.Context(), protocol.GetExecutionRequest{Tenant: acme, ID: lost.key.ID})
	require.NoError(t, err)
	require.Nil(t, got.FinalState)
	require.Equal(t, "acme/obj_gone", got.FinalStateRef)

	stats, err := w.store.GetStats(t.Context(), protocol.GetStatsRequest{Tenant: acme})
	require.NoError(t, err)
	require.EqualValues(t, 5, stats.Total)
	require.Equal(t, map[string]int64{"FAILED": 1, "TIMED_OUT": 1, "CANCELLED": 1, "COMPLETED": 2}, stats.ByStatus)
	require.InDelta(t, 0.4, stats.SuccessRate, 1e-9)
	require.InDelta(t, 77, stats.P99DurationMS, 1e-9)
	require.EqualValues(t, 25, stats.TokensUsed)
	require.Equal(t, json.Number("2.5"), stats.Cost)
	require.EqualValues(t, 1, stats.Timeouts)
	require.Len(t, stats.ByDay, 1)
	require.EqualValues(t, 2, stats.ByDay[0].Completed)
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

func TestNewEventsAreVisibleSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()
	w.start(acme, protocol.Requested{})
	w.settled()
	// An idle reader is woken by a message, not by its clock: far more rounds than seconds pass.
	begun := time.Now()
	const rounds = 40
	for range rounds {
		r := w.start(acme, protocol.Requested{})
		require.NoError(t, w.AwaitTables(t.Context(), []string{r.key.Stream()}))
		require.Equal(t, "PENDING", r.get().Status)
	}
	require.Less(t, time.Since(begun), rounds*idleWait/2)
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

func TestExecutionLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	wf := w.workflow(acme, "n")
	w.project()
	var ids []protocol.ExecutionID
	middle := time.Time{}
	for i := range 25 {
		req := protocol.Requested{}
		if i%2 == 0 {
			req.WorkflowID, req.Tags = wf.ID, []string{"even", fmt.Sprint("n", i)}
		}
		r := w.start(acme, req)
		if i%5 == 0 {
			r.complete()
		}
		if i == 10 {
			middle = r.get2().CreatedAt.Time
		}
		ids = append(ids, r.key.ID)
	}
	w.settled()
	list := func(req protocol.ListExecutionsRequest) protocol.List[protocol.Execution] {
		t.Helper()
		req.Tenant = acme
		l, err := w.store.ListExecutions(t.Context(), req)
		require.NoError(t, err)
		return l
	}
	all := list(protocol.ListExecutionsRequest{Page: protocol.Page{Limit: 10}})
	require.EqualValues(t, 25, all.Total)
	require.True(t, all.HasMore)
	require.Equal(t, ids[24], all.Items[0].ID, "the newest first")

	// By cursor and by skip: the same pages, every row once.
	for name, next := range map[string]func(l protocol.List[protocol.Execution], seen int) protocol.Page{
		"cursor": func(l protocol.List[protocol.Execution], _ int) protocol.Page {
			return protocol.Page{Limit: 7, Cursor: l.NextCursor}
		},
		"skip": func(_ protocol.List[protocol.Execution], seen int) protocol.Page {
			return protocol.Page{Limit: 7, Skip: seen}
		},
	} {
		for _, req := range []protocol.ListExecutionsRequest{{}, {Tag: "even"}, {WorkflowID: wf.ID}, {Status: "PENDING"}} {
			whole := req
			whole.Page.Limit = 100
			want := list(whole)
			var got []protocol.ExecutionID
			req.Page = protocol.Page{Limit: 7}
			for {
				l := list(req)
				for _, x := range l.Items {
					got = append(got, x.ID)
				}
				if !l.HasMore {
					break
				}
				req.Page = next(l, len(got))
			}
			require.Len(t, got, len(want.Items), name)
			for i := range got {
				require.Equal(t, want.Items[i].ID, got[i], name)
			}
		}
	}
	require.EqualValues(t, 5, list(protocol.ListExecutionsRequest{Status: "COMPLETED"}).Total)
	require.EqualValues(t, 13, list(protocol.ListExecutionsRequest{WorkflowID: wf.ID}).Total)
	require.EqualValues(t, 13, list(protocol.ListExecutionsRequest{Tag: "even"}).Total)
	require.EqualValues(t, 3, list(protocol.ListExecutionsRequest{Tag: "even", Status: "COMPLETED"}).Total)
	require.EqualValues(t, 1, list(protocol.ListExecutionsRequest{Tag: "n4"}).Total)
	require.EqualValues(t, 25, list(protocol.ListExecutionsRequest{Since: protocol.At(middle)}).Total+list(protocol.ListExecutionsRequest{Until: protocol.At(middle)}).Total)
	require.Empty(t, list(protocol.ListExecutionsRequest{Tag: "nobody"}).Items)
	require.Empty(t, list(protocol.ListExecutionsRequest{Page: protocol.Page{Skip: 1_000_000_000}}).Items)

	for field, page := range map[string]protocol.Page{
		"skip": {Skip: -1}, "limit": {Limit: 1_000_000_000}, "cursor": {Cursor: "nonsense"},
	} {
		_, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme, Page: page})
		require.Equal(t, field, refusalOf(t, err, protocol.CodeInvalid).Field)
	}
	_, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme, Page: protocol.Page{Limit: -1}})
	requireCode(t, err, protocol.CodeInvalid)
	_, err = w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme, WorkflowID: "wf_unknown"})
	requireCode(t, err, protocol.CodeNotFound)

	stats, err := w.store.GetStats(t.Context(), protocol.GetStatsRequest{Tenant: acme, WorkflowID: wf.ID})
	require.NoError(t, err)
	require.EqualValues(t, 13, stats.Total)
	_, err = w.store.GetStats(t.Context(), protocol.GetStatsRequest{Tenant: acme, WorkflowID: "wf_unknown"})
	requireCode(t, err, protocol.CodeNotFound)
}

// get2 is get once the tables have the execution.
func (r *run) get2() postgres.Execution {
	r.w.t.Helper()
	require.NoError(r.w.t, r.w.AwaitTables(r.w.t.Context(), []string{r.key.Stream()}))
	return r.get()
}

func TestActiveExecutionsHoldTheirWorkflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	wf := w.workflow(acme, "n")
	r := w.start(acme, protocol.Requested{WorkflowID: wf.ID})
	_, err := try[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: wf.ID})
	require.ErrorIs(t, err, postgres.ErrUnavailable, "the tables do not know of it yet")
	w.project()
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: wf.ID})
	refusal := refusalOf(t, err, protocol.CodeConflict)
	require.Equal(t, protocol.Active{Executions: []protocol.ExecutionID{r.key.ID}, Total: 1}, refusal.Details)
	r.complete()
	do[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: wf.ID})
}

// The fold gives the same row however the log is cut into batches, and a commit that comes again
// changes nothing.
func TestFoldInAnyBatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := protocol.KeyOf(8, "acme", "exec_1")
		records := drawHistory(t)
		var whole *postgres.Execution
		for _, r := range records {
			whole = fold(whole, key, r)
		}
		var parts *postgres.Execution
		for _, r := range records {
			if parts != nil { // as if it had been written and read back
				raw, err := json.Marshal(parts)
				require.NoError(t, err)
				again := &postgres.Execution{}
				require.NoError(t, json.Unmarshal(raw, again))
				parts = again
			}
			parts = fold(parts, key, r)
			parts = fold(parts, key, records[rapid.IntRange(0, int(r.Sequence)-1).Draw(t, "again")])
		}
		want, err := json.Marshal(whole)
		require.NoError(t, err)
		got, err := json.Marshal(parts)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got))
		ended := slices.ContainsFunc(records, func(r protocol.Record) bool {
			return slices.ContainsFunc(r.Events, func(e protocol.Stamped) bool { return protocol.Terminal(e.Event) })
		})
		require.Equal(t, ended, execution.Status(whole.Status).Final())
		require.Equal(t, ended, !whole.CompletedAt.IsZero())
	})
}

func drawHistory(t *rapid.T) []protocol.Record {
	node := rapid.SampledFrom([]string{"a", "b"})
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	event := func() protocol.Event {
		n, i := node.Draw(t, "node"), rapid.IntRange(0, 1).Draw(t, "iteration")
		switch rapid.IntRange(0, 8).Draw(t, "event") {
		case 0:
			return protocol.Started{Executor: "e"}
		case 1, 2:
			return protocol.NodeCompleted{Node: n, Iteration: i, Tokens: 3, Cost: "0.01", StartedAt: protocol.At(at), DurationMS: 4}
		case 3:
			return protocol.NodeFailed{Node: n, Iteration: i, Error: protocol.Failure{Message: "m"}, NextTryAt: protocol.At(at)}
		case 4:
			return protocol.NodeFailed{Node: n, Iteration: i, Error: protocol.Failure{Message: "m"}, Handled: true}
		case 5:
			return protocol.NodeRateLimited{Node: n, Iteration: i, Queue: "q", RetryAt: protocol.At(at)}
		case 6:
			return protocol.CancelRequested{}
		case 7:
			return protocol.Carried{Requested: protocol.Requested{WorkflowID: "wf_1"}}
		}
		return rapid.SampledFrom([]protocol.Event{
			protocol.Completed{State: protocol.ObjectOf(workflow.Values{"a": "b"}), Totals: protocol.Totals{Cost: "1", DurationMS: 9}},
			protocol.Failed{Error: protocol.Failure{Message: "m"}, Totals: protocol.Totals{Cost: "1"}},
			protocol.TimedOut{Scope: "execution", ElapsedMS: 5, Totals: protocol.Totals{Cost: "1"}},
			protocol.Cancelled{Reason: "r", Totals: protocol.Totals{Cost: "1"}},
		}).Draw(t, "end")
	}
	var records []protocol.Record
	for i := range rapid.IntRange(1, 8).Draw(t, "commits") {
		r := protocol.Record{Sequence: uint64(i + 1)}
		for j := range rapid.IntRange(1, 3).Draw(t, "events") {
			at = at.Add(time.Millisecond)
			e := protocol.Event(protocol.Requested{WorkflowID: "wf_1", Input: protocol.ObjectOf(workflow.Values{"x": "y"})})
			if i+j > 0 {
				e = event()
			}
			r.Events = append(r.Events, protocol.Stamped{At: protocol.At(at), Event: e})
		}
		records = append(records, r)
	}
	return records
}
