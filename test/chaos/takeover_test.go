package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/test/platform"
)

func TestMain(m *testing.M) { os.Exit(runMain(m)) }

// request accepts an execution as a gateway does.
func request(tb testing.TB, b *bus.Bus, spec string) protocol.ExecutionKey {
	tb.Helper()
	parsed, err := workflow.Parse([]byte(spec))
	require.NoError(tb, err)
	report := workflow.Validate(parsed, workflow.Known{})
	require.True(tb, report.Valid, "%v", report.Errors)
	key := b.Key("acme", protocol.ExecutionID(typeid.New("exec")))
	_, err = b.Append(tb.Context(), key, 0, protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{
		At: protocol.At(time.Now()), Event: protocol.Requested{
			SpecHash: workflow.Hash(parsed.Raw), Spec: protocol.VerbatimOf(parsed.Raw), Input: protocol.RawObject(json.RawMessage(`{}`)),
			Deadline: protocol.At(time.Now().Add(2 * time.Minute)),
		},
	}}})
	require.NoError(tb, err)
	return key
}

// outcome waits until an execution has ended and returns its events.
func outcome(tb testing.TB, b *bus.Bus, key protocol.ExecutionKey) []protocol.Event {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var events []protocol.Event
	err := b.Follow(ctx, key, 0, func(r protocol.Record) bool {
		for _, e := range r.Events {
			events = append(events, e.Event)
		}
		return !protocol.Terminal(events[len(events)-1])
	})
	require.NoError(tb, err, "events so far: %v", events)
	return events
}

// two is a workflow of two calls, one after the other.
func two(w *world) string {
	return fmt.Sprintf(`{"start_node":"x","nodes":[
 {"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/ok","output_key":"x"}},
 {"id":"y","type":"api","metadata":{"source_id":"s","endpoint":"/ok","output_key":"y"}}],
 "edges":[{"from":"x","to":"y"}],"sources":[{"id":"s","kind":"api","config":{"base_url":%q}}]}`, w.URL)
}

// holding makes the first call of y wait until the gate opens, and tells of every call of it.
func (w *world) holding() (arrived <-chan time.Time, gate chan struct{}) {
	calls := make(chan time.Time, 64)
	gate = make(chan struct{})
	w.hook = func(key string, n int) {
		if !strings.HasSuffix(key, "/y/0") {
			return
		}
		calls <- time.Now()
		if n == 1 {
			<-gate
		}
	}
	return calls, gate
}

func next(tb testing.TB, arrived <-chan time.Time) time.Time {
	tb.Helper()
	select {
	case at := <-arrived:
		return at
	case <-time.After(patience):
		tb.Fatal("no call came")
		return time.Time{}
	}
}

// completedOnce checks that an execution completed, and that x was called once for all.
func completedOnce(tb testing.TB, b *bus.Bus, w *world, key protocol.ExecutionKey) {
	tb.Helper()
	events := outcome(tb, b, key)
	require.IsType(tb, protocol.Completed{}, events[len(events)-1])
	require.Len(tb, w.arrivals(string(key.ID)+"/x/0"), 1, "a committed step is not run again")
	ends := 0
	records, err := b.Load(tb.Context(), key, 0)
	require.NoError(tb, err)
	for _, rec := range records {
		for _, e := range rec.Events {
			if protocol.Terminal(e.Event) {
				ends++
			}
		}
	}
	require.Equal(tb, 1, ends, "one end")
}

// TestTakeover kills, suspends and stops the executor that runs an execution, with another one beside it.
func TestTakeover(t *testing.T) {
	_, url := startNATS(t)
	b := connect(t, url)
	const ackWait = time.Second
	pair := func(t *testing.T, ackWait time.Duration) (w *world, first, second *program, key protocol.ExecutionKey, arrived <-chan time.Time, gate chan struct{}) {
		t.Helper()
		w = newWorld(t)
		arrived, gate = w.holding()
		first = executor(t, "-first", url, ackWait, "EXECUTOR_DRAIN_SECONDS=0")
		platform.Await(t, "an executor", first.ready)
		key = request(t, b, two(w))
		next(t, arrived)
		second = executor(t, "-second", url, ackWait)
		platform.Await(t, "another executor", second.ready)
		return w, first, second, key, arrived, gate
	}
	t.Run("killed", func(t *testing.T) {
		w, first, _, key, arrived, gate := pair(t, ackWait)
		defer close(gate)
		first.hold()
		began := time.Now()
		took := next(t, arrived).Sub(began)
		t.Logf("taken over %v after kill -9, with an AckWait of %v", took.Round(time.Millisecond), ackWait)
		completedOnce(t, b, w, key)
		calls := w.arrivals(string(key.ID) + "/y/0")
		require.Len(t, calls, 2, "the call in flight is made again, under the same key")
	})
	t.Run("suspended", func(t *testing.T) {
		w, first, second, key, arrived, gate := pair(t, ackWait)
		first.pause()
		next(t, arrived) // the other one's
		completedOnce(t, b, w, key)
		close(gate) // what the first was waiting for comes
		second.hold()
		first.resume()
		platform.Await(t, "the first to let go", func() bool { return first.metric(t, "agentflow_fences_lost_total") == 1 })
		platform.Await(t, "the first to have nothing left", func() bool { return first.metric(t, "agentflow_executions_running") == 0 })
		completedOnce(t, b, w, key)
		// And it goes on working.
		completedOnce(t, b, w, request(t, b, two(w)))
	})
	t.Run("asked to stop", func(t *testing.T) {
		// Silence alone would take longer than the test waits.
		w, first, _, key, arrived, gate := pair(t, 2*patience)
		defer close(gate)
		first.mu.Lock()
		first.stopped = true
		first.mu.Unlock()
		began := time.Now()
		first.signal(syscall.SIGTERM)
		t.Logf("handed over %v after SIGTERM", next(t, arrived).Sub(began).Round(time.Millisecond))
		completedOnce(t, b, w, key)
	})
}

// TestPoison: an execution that every executor dies of ends, and the others go on.
func TestPoison(t *testing.T) {
	_, url := startNATS(t)
	b := connect(t, url)
	w := newWorld(t)
	e := executor(t, "", url, time.Second, "EXECUTOR_MAX_TAKEOVERS=2")
	platform.Await(t, "an executor", e.ready)
	w.hook = func(key string, _ int) {
		if strings.HasSuffix(key, "/y/0") {
			e.kill()
		}
	}
	key := request(t, b, two(w))
	events := outcome(t, b, key)
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, "%v", events)
	require.Equal(t, protocol.CodeDeliveryExhausted, failed.Error.Code)
	require.Len(t, w.arrivals(string(key.ID)+"/x/0"), 1)
	require.Len(t, w.arrivals(string(key.ID)+"/y/0"), 2)
	require.Equal(t, 2, e.restarts())
	w.hook = nil
	completedOnce(t, b, w, request(t, b, two(w)))
}
