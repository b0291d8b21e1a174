package protocol_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

var update = flag.Bool("update", false, "write golden documents that do not exist yet")

func at(sec int) protocol.Time {
	return protocol.At(time.Date(2026, 1, 2, 3, 4, sec, 6_000_000, time.UTC))
}

func raw(s string) protocol.Object { return protocol.RawObject(json.RawMessage(s)) }

var (
	intent  = "image"
	totals  = protocol.Totals{TokensUsed: 12, Cost: "0.0034", NodesRun: 3, DurationMS: 56}
	failure = protocol.Failure{Code: protocol.CodeNodeFailed, Message: "the server said no", Node: "a", Class: "5xx", Status: 503, RetryAfterMS: 1000}
	ask     = protocol.Requested{
		WorkflowID: "wf_1", WorkflowVersion: 2, WorkflowName: "shop", SpecHash: "ab12", Spec: protocol.VerbatimOf([]byte(`{"start_node":"a"}`)),
		Input: raw(`{"user_input":"hi"}`), Deadline: at(9), MaxIterations: 7, Actor: "key_1", RequestID: "req_1", Tags: []string{"x"},
		Reply: "_INBOX.r", RerunOf: "exec_0",
	}
)

// published holds every version of every event that was ever written to a log, with all its
// fields, and the Go value that its golden document must read as.
var published = []protocol.Event{
	ask,
	protocol.Started{Executor: "executor-1", Delivery: 2},
	protocol.NodeCompleted{
		Node: "a", Iteration: 1, Attempt: 2, Delta: raw(`{"k":[1.50,"é"]}`), Intent: &intent, Edges: []int{0, 2}, Tokens: 5, Cost: "0.001",
		StartedAt: at(5), DurationMS: 17,
	},
	protocol.NodeFailed{Node: "a", Iteration: 1, Attempt: 2, Error: failure, NextTryAt: at(8), Handled: true, Edges: []int{1}, StartedAt: at(5), DurationMS: 17},
	protocol.NodeRateLimited{Node: "a", Iteration: 1, Queue: "wf_1/q", Metric: protocol.MetricTokens, RetryAt: at(7)},
	protocol.CancelRequested{Actor: "key_1", Reason: "no longer needed"},
	protocol.Carried{Requested: ask, Snapshot: json.RawMessage(`{"status":"RUNNING"}`)},
	protocol.Completed{State: raw(`{"final_output":"done"}`), Totals: totals},
	protocol.Failed{Error: failure, State: protocol.ReferTo("acme/obj_1", 70000), Totals: totals},
	protocol.TimedOut{Scope: protocol.ScopeNode, Node: "a", ElapsedMS: 60000, State: raw(`{}`), Totals: totals},
	protocol.Cancelled{Actor: "key_1", Reason: "no longer needed", State: raw(`{}`), Totals: totals},
}

func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, e := range published {
		name := e.EventType()
		seen[name+".json"] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFilled(t, reflect.ValueOf(e), name)
			body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{At: at(6), Event: e}}})
			require.NoError(t, err)
			path := filepath.Join("testdata", "events", name+".json")
			var pretty bytes.Buffer
			require.NoError(t, json.Indent(&pretty, body, "", "  "))
			pretty.WriteByte('\n')
			golden, err := os.ReadFile(path)
			if os.IsNotExist(err) && *update { // never over an old one: what was published stays
				require.NoError(t, os.WriteFile(path, pretty.Bytes(), 0o600))
				return
			}
			require.NoError(t, err)
			require.Equal(t, string(golden), pretty.String(), "a published shape changed: add a new version instead")

			var compact bytes.Buffer
			require.NoError(t, json.Compact(&compact, golden))
			c, err := protocol.DecodeCommit("c", compact.Bytes())
			require.NoError(t, err)
			require.Equal(t, protocol.Commit{ID: "c", Events: []protocol.Stamped{{At: at(6), Event: e}}}, c)

			// A newer writer may add fields.
			grown := strings.Replace(compact.String(), `"data":{`, `"data":{"added_later":{"x":[1]},`, 1)
			c2, err := protocol.DecodeCommit("c", []byte(grown))
			require.NoError(t, err)
			require.Equal(t, c, c2)
		})
	}
	files, err := os.ReadDir(filepath.Join("testdata", "events"))
	require.NoError(t, err)
	for _, f := range files {
		require.True(t, seen[f.Name()], "%s was published and must still be read", f.Name())
	}
}

// requireFilled sees to it that a golden document shows every field.
func requireFilled(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		value := v.Field(i)
		require.False(t, value.IsZero(), "%s.%s is not in the golden document", path, field.Name)
		if value.Kind() == reflect.Struct && field.Type.PkgPath() == v.Type().PkgPath() && field.Type != reflect.TypeFor[protocol.Object]() && field.Type != reflect.TypeFor[protocol.Time]() {
			requireFilled(t, value, path+"."+field.Name)
		}
	}
}

func TestUnknownEventsStopTheReader(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"completed.v2", "node_paused.v1", ""} {
		_, err := protocol.DecodeCommit("c", []byte(`{"events":[{"type":"`+name+`","at":null,"data":{}}]}`))
		require.ErrorIs(t, err, protocol.ErrUnknownEvent)
		require.ErrorContains(t, err, "commit c: event 0")
	}
}

func TestBrokenCommitsAreErrors(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", "null", "{}", `{"events":[]}`, `{"events":null}`, `[]`, `{"events":[{"type":"started.v1"}]}`,
		`{"events":[{"type":"started.v1","data":[]}]}`, `{"events":[{"type":"started.v1","at":"yesterday","data":{}}]}`,
		`{"events":[{"type":"started.v1","at":null,"data":{}}]} trailing`, `{"events":[{"type":"started.v1","data":null}]}`,
		`{"events":[{"type":"completed.v1","data":{"state":{"value":{"a":[{}]`, `{"events":[{"type":"completed.v1","data":{"state":{"value":{"a`,
	} {
		_, err := protocol.DecodeCommit("c", []byte(body))
		require.ErrorContains(t, err, "commit c", "%s", body)
	}
	// A value is read by whoever takes it out.
	c, err := protocol.DecodeCommit("c", []byte(`{"events":[{"type":"completed.v1","data":{"state":{"value":{"a":nonsense}}}}]}`))
	require.NoError(t, err)
	_, err = c.Events[0].Event.(protocol.Completed).State.Values()
	require.Error(t, err)
	_, err = protocol.EncodeCommit(protocol.Commit{ID: "c"})
	require.ErrorContains(t, err, "no events", "what cannot be read is not written")
	never := protocol.At(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
	_, err = protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{At: at(1), Event: protocol.NodeFailed{NextTryAt: never}}}})
	require.ErrorContains(t, err, "node_failed.v1")
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	var names []string
	for _, e := range published {
		if protocol.Terminal(e) {
			names = append(names, e.EventType())
		}
	}
	require.Equal(t, []string{"completed.v1", "failed.v1", "timed_out.v1", "cancelled.v1"}, names)
}

func TestMapObjectReachesEveryObject(t *testing.T) {
	t.Parallel()
	for _, e := range published {
		objects := 0
		v := reflect.ValueOf(e)
		for i := range v.NumField() {
			if v.Field(i).Type() == reflect.TypeFor[protocol.Object]() {
				objects++
			}
		}
		calls := 0
		mapped := protocol.MapObject(e, func(protocol.Object) protocol.Object {
			calls++
			return protocol.ReferTo("elsewhere", 1)
		})
		require.Equal(t, objects, calls, e.EventType())
		require.Equal(t, e.EventType(), mapped.EventType())
		if objects > 0 {
			require.NotEqual(t, e, mapped)
		}
	}
}
