package execution

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// anyPlan draws a connected workflow with edges in all directions.
func anyPlan(t *rapid.T) *workflow.Plan {
	type obj = map[string]any
	n := rapid.IntRange(1, 9).Draw(t, "nodes")
	id := func(i int) string { return fmt.Sprintf("n%d", i) }
	anyNode := rapid.IntRange(0, n-1)
	var nodes, edges []any
	for i := range n {
		node := obj{"id": id(i), "type": "input", "metadata": obj{}}
		switch rapid.SampledFrom([]string{"input", "input", "router", "default", "branch", "continue"}).Draw(t, "type") {
		case "router":
			node["type"] = "router"
			node["metadata"] = obj{"routes": []any{
				obj{"intent": "x", "keywords": []any{"x"}, "target_node": id(anyNode.Draw(t, "target"))},
				obj{"intent": "y", "keywords": []any{"y"}},
			}}
		case "default":
			node["type"] = "router"
			node["metadata"] = obj{"strategy": "default"}
		case "branch":
			node["metadata"] = obj{"on_error": "branch", "error_to": id(anyNode.Draw(t, "error_to"))}
		case "continue":
			node["metadata"] = obj{"on_error": "continue"}
		}
		nodes = append(nodes, node)
		if i > 0 {
			edges = append(edges, obj{"from": id(rapid.IntRange(0, i-1).Draw(t, "parent")), "to": id(i)})
		}
	}
	for range rapid.IntRange(0, 2*n).Draw(t, "more") {
		e := obj{"from": id(anyNode.Draw(t, "from"))}
		to := rapid.IntRange(0, n).Draw(t, "to")
		e["to"] = id(to)
		if to == n {
			e["to"] = "end"
		}
		if c := rapid.SampledFrom([]string{"", "tokens_used < 3", "tokens_used % 2 == 0", "false", "broken < 1"}).Draw(t, "condition"); c != "" {
			e["condition"] = c
		}
		edges = append(edges, e)
	}
	doc, err := json.Marshal(obj{"start_node": "n0", "nodes": nodes, "edges": edges, "max_iterations": rapid.IntRange(1, 3).Draw(t, "max")})
	require.NoError(t, err)
	return compileIn(t, doc)
}

func compileIn(t require.TestingT, doc []byte) *workflow.Plan {
	spec, err := workflow.Parse(doc)
	require.NoError(t, err)
	plan, err := workflow.Compile(spec)
	require.NoError(t, err)
	return plan
}

// history is an execution as its log keeps it.
type history struct {
	plan    *workflow.Plan
	records []protocol.Record
}

func (h *history) find(protocol.Requested) (*workflow.Plan, error) { return h.plan, nil }

// commit adds events to the history in their wire form.
func (h *history) commit(t require.TestingT, now time.Time, events ...protocol.Event) protocol.Record {
	c := protocol.Commit{ID: fmt.Sprintf("c%d", len(h.records))}
	for _, e := range events {
		c.Events = append(c.Events, protocol.Stamped{At: protocol.At(now), Event: e})
	}
	body, err := protocol.EncodeCommit(c)
	require.NoError(t, err)
	read, err := protocol.DecodeCommit(c.ID, body)
	require.NoError(t, err)
	rec := protocol.Record{Commit: read, Sequence: uint64(len(h.records) + 1)}
	h.records = append(h.records, rec)
	return rec
}

// anyRun draws how an execution goes from its request to its end, in any order of completions, and
// checks what must hold at every step.
func anyRun(t *rapid.T, plan *workflow.Plan) *history {
	h := &history{plan: plan}
	now := epoch
	req := protocol.Requested{SpecHash: plan.Hash, Input: protocol.RawObject([]byte(`{"user_input":"x","execution_path":["before"]}`)), Deadline: protocol.At(epoch.Add(time.Hour))}
	s, err := Fold(testKey, []protocol.Record{h.commit(t, now, req)}, h.find)
	require.NoError(t, err)
	iterations := map[string]int{}
	for step := 0; ; step++ {
		require.Less(t, step, 50_000, "it does not end")
		now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
		requireSound(t, s)
		steps := s.Next(now)
		requireNextIsPure(t, s, now, steps)
		if f, ok := steps[0].(Finish); ok {
			require.Len(t, steps, 1)
			require.True(t, protocol.Terminal(f.Event))
			s.Follow([]protocol.Record{h.commit(t, now, f.Event)})
			require.True(t, s.Done())
			require.True(t, s.Status.Final())
			require.Empty(t, s.Next(now))
			return h
		}
		var events []protocol.Event
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(steps)-1), 1, min(2, len(steps)), rapid.ID).Draw(t, "which") {
			switch step := steps[i].(type) {
			case Wait:
				now = step.Until
			case Run:
				id := plan.Nodes[step.Node].ID
				e := anyOutcome(t, s, step, now)
				if settles(e) {
					require.Equal(t, iterations[id], step.Iteration)
					iterations[id]++
				}
				events = append(events, e)
			case Finish:
				t.Fatalf("%v beside others", step)
			}
		}
		if rapid.IntRange(0, 60).Draw(t, "outside") == 0 {
			events = append(events, protocol.CancelRequested{Actor: "someone"})
		}
		if len(events) > 0 {
			s.Follow([]protocol.Record{h.commit(t, now, events...)})
		}
	}
}

func settles(e protocol.Event) bool {
	switch e := e.(type) {
	case protocol.NodeCompleted:
		return true
	case protocol.NodeFailed:
		return e.NextTryAt.IsZero()
	default:
		return false
	}
}

func anyOutcome(t *rapid.T, s *State, run Run, now time.Time) protocol.Event {
	switch rapid.IntRange(0, 11).Draw(t, "outcome") {
	case 0:
		return s.Fail(run, protocol.Failure{Code: protocol.CodeNodeFailed, Message: "broke"}, now, now, time.Time{})
	case 1:
		return s.Fail(run, protocol.Failure{Code: protocol.CodeTimedOut, Message: "slow"}, now, now, time.Time{})
	case 2:
		return s.Fail(run, protocol.Failure{Code: protocol.CodeNodeFailed, Message: "broke"}, now, now, now.Add(time.Second))
	case 3:
		return protocol.NodeRateLimited{Node: s.Plan.Nodes[run.Node].ID, Iteration: run.Iteration, Queue: "q", RetryAt: protocol.At(now.Add(time.Second))}
	}
	res := Result{StartedAt: now, Tokens: 1, Cost: "0.01", Delta: workflow.Values{
		"tokens_used": json.Number("1"), "k" + s.Plan.Nodes[run.Node].ID: json.Number("1"),
	}}
	if s.Plan.Nodes[run.Node].Router != nil {
		intent := rapid.SampledFrom([]string{"x", "y", "n1", ""}).Draw(t, "intent")
		res.Intent = &intent
	}
	return s.Complete(run, res, now)
}

// requireSound checks the books of a state.
func requireSound(t *rapid.T, s *State) {
	open := 0
	var ready []int
	for i, n := range s.nodes {
		switch n.status {
		case nodeOpen:
			open++
		case nodeReady:
			open++
			ready = append(ready, i)
			for _, e := range s.Plan.Nodes[i].In {
				require.NotEqual(t, edgeOpen, s.edges[e], "node %d is ready before edge %d has settled", i, e)
				for _, l := range s.Plan.Edges[e].Exits {
					require.False(t, s.loops[l].active, "node %d is ready before loop %d has ended", i, l)
				}
			}
		case nodeDone, nodeDead:
		}
	}
	require.True(t, slices.Equal(ready, s.ready), "%v, not %v", ready, s.ready)
	require.Equal(t, open, s.open)
	for i, l := range s.Plan.Loops {
		unsettled := 0
		for _, n := range l.Body {
			if s.nodes[n].status == nodeOpen || s.nodes[n].status == nodeReady {
				unsettled++
			}
		}
		if s.failure == nil {
			require.Equal(t, unsettled, s.loops[i].open, "loop %d", i)
		}
	}
	if s.End == nil && s.failure == nil && s.open > 0 {
		require.NotEmpty(t, s.ready, "stuck")
	}
}

func requireNextIsPure(t *rapid.T, s *State, now time.Time, steps []Step) {
	before := books(t, s)
	again := s.Next(now)
	require.Equal(t, before, books(t, s))
	require.Equal(t, stepsText(t, steps), stepsText(t, again))
	require.NotEmpty(t, steps)
}

func stepsText(t *rapid.T, steps []Step) []string {
	out := make([]string, len(steps))
	for i, step := range steps {
		if f, ok := step.(Finish); ok {
			body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{Event: f.Event}}})
			require.NoError(t, err)
			out[i] = string(body)
			continue
		}
		out[i] = fmt.Sprintf("%T %+v", step, step)
	}
	return out
}

// books is everything in a state that decides how it goes on, for comparison. The request is left
// out: a carried one has its input in the state and its spec inline.
func books(t *rapid.T, s *State) State {
	b := *s
	values, err := workflow.AppendJSON(nil, map[string]any(s.Values))
	require.NoError(t, err)
	b.Values = workflow.Values{"": string(values)}
	b.Plan, b.Request, b.path, b.current = nil, protocol.Requested{}, nil, nil
	b.nodes, b.edges, b.loops, b.ready = slices.Clone(s.nodes), slices.Clone(s.edges), slices.Clone(s.loops), slices.Clone(s.ready)
	if len(b.ready) == 0 {
		b.ready = nil
	}
	if s.End != nil {
		body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{Event: s.End}}})
		require.NoError(t, err)
		b.End, b.Tenant = nil, protocol.TenantID(body)
	}
	return b
}

func TestEveryExecutionEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := anyRun(t, anyPlan(t))
		ends := 0
		for _, r := range h.records {
			for _, e := range r.Events {
				if protocol.Terminal(e.Event) {
					ends++
				}
			}
		}
		require.Equal(t, 1, ends)
	})
}

func TestNodesRunExactlyWhenAnEdgeLeadsThere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := anyPlan(t)
		h := anyRun(t, plan)
		if _, completed := h.records[len(h.records)-1].Events[0].Event.(protocol.Completed); !completed {
			return
		}
		ran := map[int]bool{}
		reached := map[int]bool{plan.Start: true}
		for _, r := range h.records {
			for _, e := range r.Events {
				var node string
				var edges []int
				switch e := e.Event.(type) {
				case protocol.NodeCompleted:
					node, edges = e.Node, e.Edges
				case protocol.NodeFailed:
					if !e.NextTryAt.IsZero() {
						continue
					}
					node, edges = e.Node, e.Edges
				default:
					continue
				}
				n, _ := plan.NodeIndex(node)
				require.True(t, reached[n], "node %s ran before an edge was taken to it", node)
				ran[n] = true
				for _, edge := range edges {
					require.Equal(t, n, plan.Edges[edge].From)
					if to := plan.Edges[edge].To; to != workflow.End {
						reached[to] = true
					}
				}
			}
		}
		require.Equal(t, reached, ran)
	})
}

func TestFoldingInPiecesGivesTheSameState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := anyRun(t, anyPlan(t))
		whole, err := Fold(testKey, h.records, h.find)
		require.NoError(t, err)
		want := books(t, whole)

		cut := rapid.IntRange(1, len(h.records)).Draw(t, "cut")
		pieces, err := Fold(testKey, h.records[:cut], h.find)
		require.NoError(t, err)
		snapshot := pieces.Values
		length := len(snapshot["execution_path"].([]any))
		half := books(t, pieces)
		pieces.Follow(h.records[cut:])
		require.Equal(t, want, books(t, pieces))
		require.Len(t, snapshot["execution_path"], length, "a snapshot of the values does not change")

		pieces.Follow(h.records) // all of it once more, too late
		require.Equal(t, want, books(t, pieces))

		// Carried at the cut: nothing before is needed.
		early, err := Fold(testKey, h.records[:cut], h.find)
		require.NoError(t, err)
		carried, err := early.Carry(h.plan.Spec.Raw)
		if early.Done() {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		rec := (&history{plan: h.plan}).commit(t, epoch, carried)
		restored, err := Fold(testKey, []protocol.Record{rec}, func(req protocol.Requested) (*workflow.Plan, error) {
			doc, err := req.Spec.Document()
			return compileIn(t, doc), err
		})
		require.NoError(t, err)
		require.Equal(t, half, books(t, restored))
		early.Follow([]protocol.Record{rec})
		require.Equal(t, half, books(t, early), "who knows it all learns nothing from it")
		restored.Follow(h.records[cut:])
		require.Equal(t, want, books(t, restored))
	})
}

func TestStrangeEventsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := anyRun(t, anyPlan(t))
		cut := rapid.IntRange(1, len(h.records)).Draw(t, "cut")
		s, err := Fold(testKey, h.records[:cut], h.find)
		require.NoError(t, err)
		before := books(t, s)
		for _, e := range []protocol.Event{
			protocol.NodeCompleted{Node: "nobody", Edges: []int{0, -1, 1 << 40}},
			protocol.NodeCompleted{Node: "n0", Iteration: 99},
			protocol.NodeFailed{Node: "n0", Iteration: -1},
			protocol.NodeFailed{Node: ""},
			protocol.NodeRateLimited{Node: "nobody"},
			protocol.Requested{},
			protocol.Carried{},
		} {
			s.Apply(protocol.Stamped{Event: e})
		}
		require.Equal(t, before, books(t, s))
		if !s.Done() && len(s.ready) > 0 { // edges that are not its own
			n := s.Plan.Nodes[s.ready[0]]
			s.Apply(protocol.Stamped{Event: protocol.NodeCompleted{Node: n.ID, Iteration: s.Iteration(n.Index), Edges: []int{-1, 1 << 40}}})
			requireSound(t, s)
		}
	})
}
