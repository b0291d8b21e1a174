package start

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// store keeps objects, and answers as the archive with the commits of one execution.
type store struct {
	log     // what is not written below is not called
	records []protocol.Record
	objects map[string][]byte
}

func (s *store) Commits(context.Context, protocol.TenantID, protocol.ExecutionID, uint64) ([]protocol.Record, error) {
	return s.records, nil
}

func (s *store) Ended(context.Context, protocol.TenantID, protocol.ExecutionID) (protocol.Event, error) {
	return nil, nil //nolint:nilnil // knows none
}

func (s *store) Key(t protocol.TenantID, id protocol.ExecutionID) protocol.ExecutionKey {
	return protocol.KeyOf(1, t, id)
}

func (s *store) PutObject(_ context.Context, _ protocol.TenantID, data []byte) (string, error) {
	name := fmt.Sprintf("acme/%d", len(s.objects))
	s.objects[name] = data
	return name, nil
}

func (s *store) GetObject(_ context.Context, _ protocol.TenantID, name string, _ int64) ([]byte, error) {
	if data, ok := s.objects[name]; ok {
		return data, nil
	}
	return nil, bus.ErrNotFound
}

// A diamond with a loop: b runs, and runs again, until it goes on to d; c is beside it.
const diamond = `{"start_node":"a","max_iterations":9,"nodes":[
 {"id":"a","type":"input"},{"id":"b","type":"input"},{"id":"c","type":"input"},{"id":"d","type":"aggregator"},{"id":"never","type":"input"}],
 "edges":[{"from":"a","to":["b","c"]},{"from":"b","to":"b","condition":"size(text_result) > 0"},{"from":"b","to":"d"},{"from":"c","to":"d"},
 {"from":"c","to":"never","condition":"size(text_result) > 9"}]}`

// ran makes the log of an execution of the diamond, whose nodes ended in the order given, and the
// state at its end.
func ran(t *testing.T, nodes ...string) []protocol.Record {
	t.Helper()
	spec, err := workflow.Parse([]byte(diamond))
	require.NoError(t, err)
	plan, err := workflow.Compile(spec)
	require.NoError(t, err)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	req := protocol.Requested{
		SpecHash: workflow.Hash([]byte(diamond)), Spec: protocol.VerbatimOf([]byte(diamond)), Input: protocol.RawObject(json.RawMessage(`{"user_input":"q"}`)),
		Deadline: protocol.At(now.Add(90 * time.Second)), Tags: []string{"x"}, Reply: "inbox", Actor: "key_1",
	}
	first := protocol.Stamped{At: protocol.At(now), Event: req}
	state, err := execution.New(protocol.KeyOf(1, "acme", "exec_1"), plan, req, now)
	require.NoError(t, err)
	records := []protocol.Record{{Commit: protocol.Commit{Events: []protocol.Stamped{first}}, Sequence: 1}}
	for i, name := range nodes {
		name, again := strings.CutSuffix(name, "+")
		n, ok := plan.NodeIndex(name)
		require.True(t, ok, name)
		text := ""
		if again {
			text = "more"
		}
		edges, err := plan.Taken(n, workflow.Outcome{}, workflow.Values{"text_result": text, "user_input": "q"})
		require.NoError(t, err)
		e := protocol.Stamped{At: protocol.At(now), Event: protocol.NodeCompleted{
			Node: name, Iteration: state.Iteration(n), Attempt: 1, Edges: edges, Tokens: 5, Cost: "0.5", DurationMS: 10,
			Delta: protocol.ObjectOf(workflow.Values{name: strconv.Itoa(i)}),
		}}
		require.Contains(t, state.CurrentNodes(), name, "the test's own log must make sense")
		state.Apply(e)
		records = append(records, protocol.Record{Commit: protocol.Commit{Events: []protocol.Stamped{e}}, Sequence: uint64(i + 2)})
	}
	end := protocol.Stamped{At: protocol.At(now), Event: protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed}}}
	return append(records, protocol.Record{Commit: protocol.Commit{Events: []protocol.Stamped{end}}, Sequence: 99})
}

func again(t *testing.T, records []protocol.Record, from string) (*Order, protocol.Requested, error) {
	t.Helper()
	st := &store{records: records, objects: map[string][]byte{}}
	s, err := New(st, nil, st, Defaults{Timeout: time.Minute, MaxIterations: 25})
	require.NoError(t, err)
	o := &Order{Tenant: "acme", Actor: "key_2", RequestID: "r2", Rerun: &Rerun{Of: "exec_1", From: from}}
	req, err := s.again(t.Context(), o)
	return o, req, err
}

func reusedBy(o *Order) string {
	var out []string
	for _, e := range o.reused {
		done, _ := e.(protocol.NodeCompleted)
		out = append(out, fmt.Sprintf("%s/%d", done.Node, done.Iteration))
	}
	return strings.Join(out, " ")
}

func TestRerunTakesOverWhatStandsBefore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ran  []string
		from string
		want string
		next []string // what the new execution begins with
	}{
		{[]string{"a", "b", "c"}, "", "", []string{"a"}},
		{[]string{"a", "b", "c"}, "a", "", []string{"a"}},
		{[]string{"a", "b", "c"}, "d", "a/0 b/0 c/0", []string{"d"}},
		{[]string{"a", "b", "c", "d"}, "d", "a/0 b/0 c/0", []string{"d"}},
		{[]string{"a", "b", "c", "d"}, "c", "a/0 b/0", []string{"c"}},
		{[]string{"a", "c", "b", "d"}, "b", "a/0 c/0", []string{"b"}},
		{[]string{"a", "b", "c"}, "b", "a/0 c/0", []string{"b"}},                // c came after, but does not follow from b
		{[]string{"a"}, "b", "a/0", []string{"b", "c"}},                         // c had not ended: it is run
		{[]string{"a", "b+", "b+", "c"}, "b", "a/0 b/0 b/1 c/0", []string{"b"}}, // the last time round
		{[]string{"a", "b+", "b", "c"}, "d", "a/0 b/0 b/1 c/0", []string{"d"}},
	} {
		name := strings.Join(c.ran, "") + " from " + c.from
		records := ran(t, c.ran...)
		o, req, err := again(t, records, c.from)
		require.NoError(t, err, name)
		require.Equal(t, c.want, reusedBy(o), name)
		require.EqualValues(t, "exec_1", req.RerunOf)
		require.Empty(t, req.Reply)
		require.Equal(t, "key_2", req.Actor)
		require.Equal(t, []string{"x"}, req.Tags)
		require.InDelta(t, 90, time.Until(req.Deadline.Time).Seconds(), 30, "as much time as the first had")

		// What the executor makes of the first commit.
		doc, err := req.Spec.Document()
		require.NoError(t, err)
		spec, err := workflow.Parse(doc)
		require.NoError(t, err)
		plan, err := workflow.Compile(spec)
		require.NoError(t, err)
		commit := protocol.Commit{Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: req}}}
		for _, e := range o.reused {
			commit.Events = append(commit.Events, protocol.Stamped{At: protocol.At(time.Now()), Event: e})
		}
		body, err := protocol.EncodeCommit(commit)
		require.NoError(t, err)
		commit, err = protocol.DecodeCommit("c", body)
		require.NoError(t, err)
		state, err := execution.Fold(protocol.KeyOf(1, "acme", "exec_2"), []protocol.Record{{Commit: commit, Sequence: 1}},
			func(protocol.Requested) (*workflow.Plan, error) { return plan, nil })
		require.NoError(t, err)
		require.Equal(t, c.next, state.CurrentNodes(), name)
		require.Zero(t, state.Tokens, "what is taken over costs nothing")
	}
}

func TestRerunRefuses(t *testing.T) {
	t.Parallel()
	living := ran(t, "a")
	living = living[:len(living)-1]
	large := ran(t, "a", "b", "c")
	done := large[1].Events[0].Event.(protocol.NodeCompleted)
	done.Delta = protocol.ReferTo("acme/gone", 1<<20)
	large[1].Events = []protocol.Stamped{{At: large[1].Events[0].At, Event: done}}
	for _, c := range []struct {
		records []protocol.Record
		from    string
		want    protocol.Code
	}{
		{ran(t, "a", "b"), "nobody", protocol.CodeInvalid},
		{ran(t, "a", "b"), "d", protocol.CodeConflict},          // c did not complete
		{ran(t, "a", "b", "c"), "never", protocol.CodeConflict}, // its path was not taken
		{living, "", protocol.CodeConflict},
		{large, "d", protocol.CodeConflict},
	} {
		_, _, err := again(t, c.records, c.from)
		require.Equal(t, c.want, protocol.CodeOf(err), "from %s: %v", c.from, err)
	}
}

// TestRerunFitsItsCommit: many results, some of them large, become one commit below the limit.
func TestRerunFitsItsCommit(t *testing.T) {
	t.Parallel()
	results := make([]protocol.Event, 0, 100)
	for i := range 100 {
		size := 10
		if i%5 == 0 {
			size = 60 << 10
		}
		results = append(results, protocol.NodeCompleted{
			Node: fmt.Sprint("n", i), Edges: []int{}, Delta: protocol.ObjectOf(workflow.Values{"v": strings.Repeat("x", size)}),
		})
	}
	st := &store{objects: map[string][]byte{}}
	s, err := New(st, nil, st, Defaults{})
	require.NoError(t, err)
	packed, err := s.pack(t.Context(), "acme", slices.Clone(results))
	require.NoError(t, err)
	raw, err := json.Marshal(packed)
	require.NoError(t, err)
	require.Less(t, len(raw), maxReused+(4<<10))
	require.NotEmpty(t, st.objects)
	require.Less(t, len(st.objects), 20, "only as many as need be")

	// What stands in the object store already is copied: it ends with the execution that put it there.
	again, err := s.pack(t.Context(), "acme", slices.Clone(packed))
	require.NoError(t, err)
	for i := range packed {
		before, after := packed[i].(protocol.NodeCompleted).Delta, again[i].(protocol.NodeCompleted).Delta
		if before.Ref != "" {
			require.NotEqual(t, before.Ref, after.Ref)
			require.Equal(t, st.objects[before.Ref], st.objects[after.Ref])
		}
	}

	for range 8 {
		results = append(results, results...)
	}
	_, err = s.pack(t.Context(), "acme", results[:4000])
	require.Equal(t, protocol.CodeTooLarge, protocol.CodeOf(err))
}
