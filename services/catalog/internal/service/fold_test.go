package service

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

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
