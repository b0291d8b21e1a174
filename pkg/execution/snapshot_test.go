package execution

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestUnresolvedResultsAreMissed(t *testing.T) {
	t.Parallel()
	s := newState(t, parseGraph(t, "a -> b"), "")
	apply(t, s, epoch, protocol.NodeCompleted{Node: "a", Attempt: 1, Delta: protocol.ReferTo("acme/obj_1", 1<<20), Edges: []int{0}})
	require.Equal(t, []string{"b"}, s.CurrentNodes(), "the graph goes on")
	require.Len(t, s.Missing(), 1)
	require.Contains(t, s.Missing()[0], "result of node a: acme/obj_1")
	_, err := s.Carry(nil)
	require.ErrorContains(t, err, "acme/obj_1", "what is not there cannot be carried")

	_, err = New(testKey, s.Plan, protocol.Requested{Input: protocol.ReferTo("acme/obj_2", 1)}, epoch)
	require.ErrorIs(t, err, protocol.ErrUnresolved)
}

func TestFoldRefusesWhatItCannotBeginWith(t *testing.T) {
	t.Parallel()
	plan := parseGraph(t, "a -> b")
	find := func(protocol.Requested) (*workflow.Plan, error) { return plan, nil }
	fold := func(find func(protocol.Requested) (*workflow.Plan, error), events ...protocol.Event) error {
		var rec protocol.Record
		for _, e := range events {
			rec.Events = append(rec.Events, protocol.Stamped{Event: e})
		}
		_, err := Fold(testKey, []protocol.Record{rec}, find)
		return err
	}
	_, err := Fold(testKey, nil, find)
	require.Error(t, err)
	require.Error(t, fold(find))
	require.ErrorContains(t, fold(find, protocol.Started{}), "started.v1")
	gone := errors.New("the spec is gone")
	lost := func(protocol.Requested) (*workflow.Plan, error) { return nil, gone }
	require.ErrorIs(t, fold(lost, protocol.Requested{}), gone)
	require.ErrorIs(t, fold(lost, protocol.Carried{}), gone)
	require.Error(t, fold(find, protocol.Carried{Snapshot: json.RawMessage(`[]`)}))
	require.ErrorContains(t, fold(find, protocol.Carried{Snapshot: json.RawMessage(`{}`)}), "does not fit the plan")

	carried, err := newState(t, parseGraph(t, "a -> b c"), "").Carry(nil)
	require.NoError(t, err)
	require.ErrorContains(t, fold(find, carried), "does not fit the plan", "of another spec")
}

// A failure that was folded and not yet ended by its event must survive being carried.
func TestCarriedFailures(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]protocol.Code{"failed": protocol.CodeNodeFailed, "timed out": protocol.CodeTimedOut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newState(t, parseGraph(t, "a -> b"), "")
			apply(t, s, epoch.Add(time.Second), s.Fail(Run{Attempt: 1}, protocol.Failure{Code: code, Message: "no"}, epoch, epoch, time.Time{}))
			carried, err := s.Carry(s.Plan.Spec.Raw)
			require.NoError(t, err)
			r, err := Restore(testKey, s.Plan, carried)
			require.NoError(t, err)
			require.Equal(t, describe(s, epoch), describe(r, epoch))
			require.Contains(t, describe(r, epoch), "finish ")
		})
	}
}

func TestALateFailureIsNoNewAttempt(t *testing.T) {
	t.Parallel()
	s := newState(t, parseGraph(t, "a -> b"), "")
	first := s.Fail(Run{Attempt: 1}, protocol.Failure{Message: "once"}, epoch, epoch, epoch.Add(time.Second))
	apply(t, s, epoch, first)
	apply(t, s, epoch.Add(time.Second), s.Fail(Run{Attempt: 2}, protocol.Failure{Message: "twice"}, epoch, epoch, epoch.Add(time.Minute)))
	before := describe(s, epoch)
	apply(t, s, epoch.Add(2*time.Second), first)
	require.Equal(t, before, describe(s, epoch))
	require.Equal(t, 2, s.Attempts(0))
}
