package history

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// archive stands in for the catalog: it knows executions, and hands out two of their commits at a time.
type archive struct {
	executions map[protocol.ExecutionID]protocol.Execution
	commits    []protocol.ArchivedCommit
}

func (a archive) reader(t *testing.T) *Reader {
	t.Helper()
	server, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b, err := bus.Connect(t.Context(), bus.Config{InProcess: server, Partitions: 1, Replicas: 1, MaxBytes: 64 << 20, CreateLayout: true})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	calls, err := b.Serve("catalog", "1.0.0", 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, calls.Stop()) })
	require.NoError(t, bus.Handle(calls, protocol.GetExecution, func(_ context.Context, r protocol.GetExecutionRequest) (protocol.Execution, error) {
		e, ok := a.executions[r.ID]
		if !ok {
			return e, &protocol.Error{Code: protocol.CodeNotFound, Message: "no such execution"}
		}
		return e, nil
	}))
	require.NoError(t, bus.Handle(calls, protocol.GetExecutionCommits, func(_ context.Context, r protocol.GetExecutionCommitsRequest) (protocol.ExecutionCommits, error) {
		var page protocol.ExecutionCommits
		for _, c := range a.commits {
			switch {
			case c.Sequence <= r.After:
			case len(page.Commits) == 2:
				page.HasMore = true
			default:
				page.Commits = append(page.Commits, c)
			}
		}
		if len(page.Commits) == 0 {
			return page, &protocol.Error{Code: protocol.CodeNotFound, Message: "no such execution"}
		}
		return page, nil
	}))
	return New(b)
}

// TestTheArchiveKnowsHowItEnded: an execution that the log has lost ended as the tables say.
func TestTheArchiveKnowsHowItEnded(t *testing.T) {
	took := int64(12)
	final := json.RawMessage(`{"a":1}`)
	a := archive{executions: map[protocol.ExecutionID]protocol.Execution{}}
	ids := map[string]protocol.ExecutionID{}
	for _, status := range []string{"COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED", "RUNNING"} {
		ids[status] = protocol.ExecutionID(typeid.New("exec"))
		e := protocol.Execution{ID: ids[status], Status: status, FinalState: final, TokensUsed: 7, Cost: "0.5", NodesRun: 2, DurationMS: &took}
		switch status {
		case "FAILED":
			e.Error = &protocol.Failure{Code: protocol.CodeNodeFailed, Node: "ask"}
		case "TIMED_OUT":
			e.Timeout = &protocol.ExecutionTimeout{Scope: protocol.ScopeNode, Node: "ask", ElapsedMS: 5}
		}
		a.executions[e.ID] = e
	}
	r := a.reader(t)
	state, totals := protocol.RawObject(final), protocol.Totals{TokensUsed: 7, Cost: "0.5", NodesRun: 2, DurationMS: 12}
	for status, want := range map[string]protocol.Event{
		"COMPLETED": protocol.Completed{State: state, Totals: totals},
		"FAILED":    protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed, Node: "ask"}, State: state, Totals: totals},
		"TIMED_OUT": protocol.TimedOut{Scope: protocol.ScopeNode, Node: "ask", ElapsedMS: 5, State: state, Totals: totals},
		"CANCELLED": protocol.Cancelled{State: state, Totals: totals},
	} {
		got, err := r.Ended(t.Context(), "acme", ids[status])
		require.NoError(t, err, status)
		require.Equal(t, want, got, status)
	}
	_, err := r.Ended(t.Context(), "acme", ids["RUNNING"])
	require.ErrorIs(t, err, bus.ErrUnavailable, "whoever asks waits at the log")
	got, err := r.Ended(t.Context(), "acme", protocol.ExecutionID(typeid.New("exec")))
	require.NoError(t, err)
	require.Nil(t, got)
}

// TestTheEndIsTheCommittedOne: while the archive keeps the commit, the end is what it holds, with its fields in their order.
func TestTheEndIsTheCommittedOne(t *testing.T) {
	id := protocol.ExecutionID(typeid.New("exec"))
	want := protocol.Completed{State: protocol.RawObject(json.RawMessage(`{"z":1,"a":2}`)), Totals: protocol.Totals{Cost: "0"}}
	c := protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Unix(1, 0)), Event: want}}}
	require.NoError(t, c.Encode())
	a := archive{
		executions: map[protocol.ExecutionID]protocol.Execution{
			id: {ID: id, Status: "COMPLETED", FinalState: json.RawMessage(`{"a":2,"z":1}`), Cost: "0", LastSequence: 20},
		},
		commits: []protocol.ArchivedCommit{{Sequence: 20, Previous: 10, Body: c.Body}},
	}
	r := a.reader(t)
	got, err := r.Ended(t.Context(), "acme", id)
	require.NoError(t, err)
	require.Equal(t, want, got)

	a.executions[id] = protocol.Execution{ID: id, Status: "COMPLETED", FinalState: json.RawMessage(`{"a":2,"z":1}`), Cost: "0", LastSequence: 30}
	got, err = r.Ended(t.Context(), "acme", id)
	require.NoError(t, err, "the commit's retention has ended")
	require.JSONEq(t, `{"a":2,"z":1}`, string(raw(t, got)))
}

func raw(t *testing.T, end protocol.Event) json.RawMessage {
	t.Helper()
	state, err := end.(protocol.Completed).State.Raw()
	require.NoError(t, err)
	return state
}

// TestCommitsComeFromTheArchive: all of its pages, up to where the log goes on, and an error for one that is in neither.
func TestCommitsComeFromTheArchive(t *testing.T) {
	var a archive
	for i := range 5 {
		body, err := protocol.EncodeCommit(protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{
			{At: protocol.At(time.Unix(int64(i), 0)), Event: protocol.NodeCompleted{Node: "n"}},
		}})
		require.NoError(t, err)
		a.commits = append(a.commits, protocol.ArchivedCommit{Sequence: uint64(10 * (i + 1)), Previous: uint64(10 * i), Body: body})
	}
	r := a.reader(t)
	sequences := func(records []protocol.Record) (out []uint64) {
		for _, rec := range records {
			require.IsType(t, protocol.NodeCompleted{}, rec.Events[0].Event)
			out = append(out, rec.Sequence)
		}
		return out
	}
	id := protocol.ExecutionID(typeid.New("exec"))
	records, err := r.Commits(t.Context(), "acme", id, 0)
	require.NoError(t, err)
	require.Equal(t, []uint64{10, 20, 30, 40, 50}, sequences(records))
	records, err = r.Commits(t.Context(), "acme", id, 30)
	require.NoError(t, err)
	require.Equal(t, []uint64{40, 50}, sequences(records))
	records, err = r.archive(t.Context(), "acme", id, 0, 40)
	require.NoError(t, err)
	require.Equal(t, []uint64{10, 20, 30}, sequences(records))
	_, err = r.Commits(t.Context(), "acme", id, 50)
	require.Equal(t, protocol.CodeNotFound, protocol.CodeOf(err))

	a.commits[4].Body = []byte(`{"events":7}`)
	_, err = r.Commits(t.Context(), "acme", id, 30)
	require.ErrorContains(t, err, "archive of "+string(id))
}
