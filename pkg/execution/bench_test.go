package execution

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func graphOf(tb testing.TB, n int, edges ...map[string]any) *workflow.Plan {
	tb.Helper()
	nodes := make([]map[string]any, n)
	for i := range n {
		nodes[i] = map[string]any{"id": fmt.Sprintf("n%d", i), "type": "input"}
	}
	doc, err := json.Marshal(map[string]any{"start_node": "n0", "nodes": nodes, "edges": edges})
	require.NoError(tb, err)
	return compile(tb, doc)
}

// chain is n nodes in a row.
func chain(tb testing.TB, n int) *workflow.Plan {
	tb.Helper()
	edges := make([]map[string]any, n-1)
	for i := range edges {
		edges[i] = map[string]any{"from": fmt.Sprintf("n%d", i), "to": fmt.Sprintf("n%d", i+1)}
	}
	return graphOf(tb, n, edges...)
}

// fan is one node before n-2 beside each other before one.
func fan(tb testing.TB, n int) *workflow.Plan {
	tb.Helper()
	edges := make([]map[string]any, 0, 2*n)
	for i := 1; i < n-1; i++ {
		id := fmt.Sprintf("n%d", i)
		edges = append(edges, map[string]any{"from": "n0", "to": id}, map[string]any{"from": id, "to": fmt.Sprintf("n%d", n-1)})
	}
	return graphOf(tb, n, edges...)
}

var delta = workflow.Values{"metadata": map[string]any{"input_processed": true, "input_node_id": "n"}}

// through runs a plan to its end, all that is ready between two calls of Next.
func through(tb testing.TB, plan *workflow.Plan) *State {
	tb.Helper()
	s := newState(tb, plan, "")
	for {
		for _, step := range s.Next(epoch) {
			switch step := step.(type) {
			case Run:
				e := s.Complete(step, Result{Delta: delta, StartedAt: epoch}, epoch)
				s.Apply(protocol.Stamped{At: protocol.At(epoch), Event: e})
			case Finish:
				s.Apply(protocol.Stamped{At: protocol.At(epoch), Event: step.Event})
				return s
			case Wait:
				tb.Fatal("nothing waits here")
			}
		}
	}
}

// TestLongExecutionsAllocateInProportion holds the fold to linear cost by what it allocates: a
// copy of a growing list per node would make ten times the nodes cost a hundred times the bytes.
func TestLongExecutionsAllocateInProportion(t *testing.T) {
	bytesOf := func(plan *workflow.Plan) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		through(t, plan)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	short, long := bytesOf(chain(t, 500)), bytesOf(chain(t, 5000))
	require.Less(t, long, 15*short)
}

func BenchmarkChainOf10000(b *testing.B) {
	plan := chain(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		through(b, plan)
	}
}

func BenchmarkFanOf10000(b *testing.B) {
	plan := fan(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		through(b, plan)
	}
}

// BenchmarkFold50 is what a takeover of a middling execution pays, without the reading.
func BenchmarkFold50(b *testing.B) {
	plan := chain(b, 48)
	s := newState(b, plan, "")
	var bodies [][]byte
	add := func(e protocol.Event) {
		body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{At: protocol.At(epoch), Event: e}}})
		require.NoError(b, err)
		bodies = append(bodies, body)
	}
	add(protocol.Requested{SpecHash: plan.Hash, Input: protocol.RawObject([]byte(`{"user_input":"hello"}`)), Deadline: protocol.At(epoch.Add(time.Hour))})
	add(protocol.Started{Executor: "x", Delivery: 1})
	for !s.Done() {
		switch step := s.Next(epoch)[0].(type) {
		case Run:
			e := s.Complete(step, Result{Delta: delta, StartedAt: epoch}, epoch)
			s.Apply(protocol.Stamped{At: protocol.At(epoch), Event: e})
			add(e)
		case Finish:
			s.Apply(protocol.Stamped{At: protocol.At(epoch), Event: step.Event})
		case Wait:
			b.Fatal("nothing waits here")
		}
	}
	find := func(protocol.Requested) (*workflow.Plan, error) { return plan, nil }
	b.ReportAllocs()
	for b.Loop() {
		records := make([]protocol.Record, len(bodies))
		for i, body := range bodies {
			c, err := protocol.DecodeCommit("c", body)
			require.NoError(b, err)
			records[i] = protocol.Record{Commit: c}
		}
		_, err := Fold(testKey, records, find)
		require.NoError(b, err)
	}
}
