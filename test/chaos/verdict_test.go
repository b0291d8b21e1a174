package chaos

import (
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/platform"
)

// history is what the archive holds of an execution.
type history struct {
	ends      []protocol.Event
	after     int                  // events behind the end
	committed map[string]time.Time // when a step's result was in the log, by idempotency key
}

// judge waits until every execution has ended and is archived, and holds what happened against what may happen.
func (f *fleet) judge(ids []string, outside *world) map[string]int {
	f.tb.Helper()
	var all map[string]*history
	platform.Await(f.tb, "every execution to end", func() bool {
		all = f.histories()
		for _, id := range ids {
			if h := all[id]; h == nil || len(h.ends) == 0 {
				return false
			}
		}
		return true
	})
	verdict := map[string]int{}
	for _, id := range ids {
		h := all[id]
		require.Len(f.tb, h.ends, 1, "%s ends once", id)
		switch end := h.ends[0].(type) {
		case protocol.Failed:
			verdict["FAILED "+string(end.Error.Code)]++
			require.Contains(f.tb, []protocol.Code{protocol.CodeNodeFailed, protocol.CodeRateLimited, protocol.CodeTimedOut}, end.Error.Code, "%s: %v", id, end.Error)
		default:
			verdict[end.EventType()]++
		}
		for key, at := range h.committed {
			calls := outside.arrivals(key)
			for _, call := range calls {
				if !call.After(at) {
					continue
				}
				// A suspended executor may have been about to call: it cannot know that it has lost the execution.
				if !f.suspendedBetween(at, call) {
					_, events, err := f.call(http.MethodGet, "/executions/"+id+"/events", nil)
					f.tb.Fatalf("%s was committed at %v and called at %v, of %v; suspended: %v; events: %s %v", key, at, call, calls, f.pauses, events, err)
				}
				verdict["calls of executors that were suspended before, and came too late"]++
			}
			if len(calls) > 1 {
				verdict["steps called more than once"]++
			}
		}
	}
	return verdict
}

// suspendedBetween tells whether an executor was suspended when a step was committed, and went on before it was called.
func (f *fleet) suspendedBetween(committed, called time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pauses {
		if p.from.Before(committed) && p.resumed.Before(called) && p.running.After(committed) {
			return true
		}
	}
	return false
}

// histories reads the archive of all executions.
func (f *fleet) histories() map[string]*history {
	f.tb.Helper()
	conn, err := pgx.Connect(f.tb.Context(), f.postgres.URL())
	require.NoError(f.tb, err)
	defer func() { require.NoError(f.tb, conn.Close(f.tb.Context())) }()
	rows, err := conn.Query(f.tb.Context(), "select execution_id, stored_at, body from agentflow.execution_events order by execution_id, seq")
	require.NoError(f.tb, err)
	out := map[string]*history{}
	var (
		id     string
		stored time.Time
		body   []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &stored, &body}, func() error {
		h := out[id]
		if h == nil {
			h = &history{committed: map[string]time.Time{}}
			out[id] = h
		}
		body, err := archive.Open(body)
		if err != nil {
			return err
		}
		commit, err := protocol.DecodeCommit(id, body)
		if err != nil {
			return err
		}
		for _, e := range commit.Events {
			if len(h.ends) > 0 {
				h.after++
			}
			if protocol.Terminal(e.Event) {
				h.ends = append(h.ends, e.Event)
			}
			if done, ok := e.Event.(protocol.NodeCompleted); ok {
				h.committed[fmt.Sprintf("%s/%s/%d", id, done.Node, done.Iteration)] = stored
			}
		}
		return nil
	})
	require.NoError(f.tb, err)
	return out
}
