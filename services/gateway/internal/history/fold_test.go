package history

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// commits makes records of one event each, a second apart.
func commits(events ...protocol.Event) []protocol.Record {
	out := make([]protocol.Record, len(events))
	for i, e := range events {
		at := protocol.At(begin.Add(time.Duration(i) * time.Second))
		out[i] = protocol.Record{Commit: protocol.Commit{Events: []protocol.Stamped{{At: at, Event: e}}}, Sequence: uint64(i + 1)}
	}
	return out
}

func folded(e *protocol.Execution, records []protocol.Record) fold {
	f := fold{execution: e}
	for _, rec := range records {
		f.apply(rec)
	}
	f.close()
	return f
}

func TestFold(t *testing.T) {
	intent := "order"
	e := &protocol.Execution{Status: "PENDING", Cost: "0"}
	f := folded(e, commits(
		protocol.Requested{WorkflowID: "wf", Tags: []string{"a"}, Input: protocol.RawObject(json.RawMessage(`{"x":1}`))},
		protocol.Started{Delivery: 1},
		protocol.NodeCompleted{Node: "r", Attempt: 1, Intent: &intent},
		protocol.NodeFailed{Node: "m", Attempt: 1, Error: protocol.Failure{Message: "503"}, NextTryAt: protocol.At(begin.Add(time.Minute))},
	))
	require.Equal(t, "RUNNING", e.Status)
	require.Equal(t, protocol.NodeRetryingStatus, e.Nodes[1].Status)
	require.Equal(t, begin.Add(time.Minute), e.Nodes[1].RetryAt.Time)
	require.Equal(t, "order", e.Nodes[0].Intent)
	raw, err := f.input.Raw()
	require.NoError(t, err)
	require.JSONEq(t, `{"x":1}`, string(raw))

	e = &protocol.Execution{Cost: "0"}
	f = folded(e, commits(
		protocol.Requested{},
		protocol.NodeRateLimited{Node: "m", Queue: "q", Metric: protocol.MetricTokens},
		protocol.NodeCompleted{Node: "m", Attempt: 2, Tokens: 5, Cost: "0.0000001"},
		protocol.NodeCompleted{Node: "m", Iteration: 1, Attempt: 1, Tokens: 6, Cost: "0.1"},
	))
	require.Len(t, e.Nodes, 2, "each round of a loop is a run of its own")
	require.Equal(t, protocol.NodeCompletedStatus, e.Nodes[0].Status, "it waits no more")
	require.Empty(t, e.Nodes[0].Queue)
	require.EqualValues(t, 11, e.TokensUsed)
	require.EqualValues(t, "0.1000001", e.Cost)
	require.True(t, f.final.IsZero())
}

func TestFoldEnds(t *testing.T) {
	totals := protocol.Totals{TokensUsed: 9, Cost: "1.50", NodesRun: 2, DurationMS: 1500}
	state := protocol.ObjectOf(workflow.Values{"y": json.Number("2")})
	for status, end := range map[string]protocol.Event{
		"COMPLETED": protocol.Completed{State: state, Totals: totals},
		"FAILED":    protocol.Failed{Error: protocol.Failure{Code: protocol.CodeLoopLimit}, State: state, Totals: totals},
		"TIMED_OUT": protocol.TimedOut{Scope: protocol.ScopeNode, Node: "m", State: state, Totals: totals},
		"CANCELLED": protocol.Cancelled{Reason: "enough", State: state, Totals: totals},
	} {
		e := &protocol.Execution{}
		f := folded(e, commits(
			protocol.Requested{Tags: []string{"b", "a", "b"}},
			protocol.NodeFailed{Node: "m", Attempt: 1, NextTryAt: protocol.At(begin.Add(time.Minute))},
			protocol.NodeRateLimited{Node: "n", Queue: "q", Metric: protocol.MetricTokens, RetryAt: protocol.At(begin.Add(time.Minute))},
			end, protocol.Failed{}, protocol.NodeCompleted{Node: "late"},
		))
		require.Equal(t, status, e.Status, "what comes after the end changes nothing")
		require.Equal(t, []string{"a", "b"}, e.Tags)
		require.Len(t, e.Nodes, 2)
		require.Equal(t, protocol.NodeFailedStatus, e.Nodes[0].Status, "what waited for its next try will not get it")
		require.Zero(t, e.Nodes[0].RetryAt)
		require.Zero(t, e.Nodes[1].RetryAt)
		require.Empty(t, e.Nodes[1].Queue+string(e.Nodes[1].Metric))
		require.EqualValues(t, "1.50", e.Cost)
		require.EqualValues(t, 1500, *e.DurationMS)
		require.InDelta(t, 1.5, *e.DurationSeconds, 0)
		require.Equal(t, begin.Add(3*time.Second), e.CompletedAt.Time)
		require.False(t, f.final.IsZero())
		require.Equal(t, status == "TIMED_OUT", e.Timeout != nil)
		require.Equal(t, status == "COMPLETED", e.Error == nil)
		if e.Error != nil {
			want := map[string]string{"FAILED": "", "TIMED_OUT": "node m did not end within its time (0 ms)", "CANCELLED": "cancelled: enough"}
			require.Equal(t, want[status], e.Error.Message)
		}
	}
}

// TestFoldCarried begins in the middle: the log holds a carried commit and what came after.
func TestFoldCarried(t *testing.T) {
	carried := protocol.Carried{
		Requested: protocol.Requested{WorkflowID: "wf", Input: protocol.RawObject(json.RawMessage(`{}`))},
		Snapshot:  json.RawMessage(`{"requested_at":"2026-01-01T00:00:00.000Z"}`),
	}
	e := &protocol.Execution{Cost: "0"}
	f := folded(e, commits(carried, protocol.NodeCompleted{Node: "b"}))
	require.Equal(t, "wf", e.WorkflowID)
	require.Equal(t, "2026-01-01T00:00:00.000Z", e.CreatedAt.String())
	require.Equal(t, "RUNNING", e.Status)
	require.True(t, f.input.IsZero(), "the input as it was is not in a carried commit")

	// With what the tables know of before, nothing of it is lost.
	e = &protocol.Execution{
		WorkflowID: "wf", Status: "RUNNING", Cost: "0", CreatedAt: protocol.At(begin.Add(-time.Hour)),
		Nodes: []protocol.NodeRun{{Node: "a", Status: protocol.NodeCompletedStatus}},
	}
	folded(e, commits(carried, protocol.NodeCompleted{Node: "b"}))
	require.Len(t, e.Nodes, 2)
	require.Equal(t, begin.Add(-time.Hour), e.CreatedAt.Time)
}

func TestAddDecimals(t *testing.T) {
	for _, c := range [][3]json.Number{
		{"0", "0", "0"}, {"0.1", "0.2", "0.3"}, {"1", "-1", "0"}, {"", "0.5", "0.5"}, {"0.5", "", "0.5"}, {"100", "0", "100"},
	} {
		require.Equal(t, c[2], addDecimals(c[0], c[1]))
	}
}
