package service

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

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
