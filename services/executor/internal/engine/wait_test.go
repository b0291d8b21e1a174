package engine_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

// TestALongWaitHoldsNoSlotAndOutlivesARestart: with one slot, an execution waits for its retry while
// another runs, the executor and the NATS server start anew, and the retry comes when it is due.
func TestALongWaitHoldsNoSlotAndOutlivesARestart(t *testing.T) {
	t.Parallel()
	inTime(t, 2*time.Second, func(wait time.Duration) bool { return aLongWait(t, wait) })
}

func aLongWait(t *testing.T, wait time.Duration) (stillWaited bool) {
	t.Helper()
	dir := t.TempDir()
	p := platformOn(t, dir)
	var first, second atomic.Int64
	c := newCalls(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			if n == 1 {
				first.Store(time.Now().UnixNano())
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			second.Store(time.Now().UnixNano())
		}
		_, _ = w.Write([]byte(`{}`))
	})
	one := engine.Config{Concurrency: 1, LongWait: 100 * time.Millisecond}
	stop := p.executor(one)
	key := p.request(parallel(c.URL, retryAfter(wait)), `{}`, nil)
	require.Eventually(t, func() bool {
		return p.metric("agentflow_executions_running") == 0 && strings.Contains(p.events(key), "node_failed:x")
	}, patience, tick)
	final(t, p.history(p.request(threeSteps, `{"user_input":"hello"}`, nil))) // the slot is free
	stillWaited = !strings.Contains(p.events(key), "completed:x")
	stop()
	p.bus.Close()
	p.server.Stop()

	p = platformOn(t, dir)
	p.executor(one)
	final(t, p.history(key))
	require.Equal(t, map[string]int{"x/0": 2, "y/0": 1}, c.seen(), "under the same key")
	require.GreaterOrEqual(t, time.Duration(second.Load()-first.Load()), wait/2)
	return stillWaited
}

// TestAWaitIsCarriedOn: an execution that waits does not keep the log from being trimmed behind it. It is
// carried to the end again and again, which is no takeover, and goes on as if nothing had happened.
func TestAWaitIsCarriedOn(t *testing.T) {
	t.Parallel()
	inTime(t, 3*time.Second, func(wait time.Duration) bool { return aCarriedWait(t, wait) })
}

func aCarriedWait(t *testing.T, wait time.Duration) (stillWaited bool) {
	t.Helper()
	p := newPlatform(t)
	c := newCalls(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" && n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	p.executor(engine.Config{LongWait: 20 * time.Millisecond, CarryAfter: 50 * time.Millisecond})
	key := p.request(parallel(c.URL, retryAfter(wait)), `{"user_input":"hello"}`, nil)
	state := func() bus.StreamState {
		s, err := p.bus.State(t.Context(), key.Stream())
		require.NoError(t, err)
		return s
	}
	var carried protocol.Record
	for range 8 { // more often than executors may die over it
		before := carried.Sequence
		over := false
		require.Eventually(t, func() bool {
			last, err := p.bus.Last(t.Context(), key)
			require.NoError(t, err)
			_, is := last.Events[0].Event.(protocol.Carried)
			carried, over = last, strings.Contains(p.events(key), "node_completed:x")
			return over || is && last.Sequence > before
		}, patience, tick)
		if over {
			return false
		}
		require.NoError(t, p.bus.Trim(t.Context(), key.Partition, carried.Sequence))
	}
	require.Positive(t, state().First, "nothing stands before it")
	events := p.history(key)
	end, ok := events[len(events)-1].(protocol.Completed)
	require.True(t, ok, names(events))
	values, err := end.State.Values()
	require.NoError(t, err)
	require.Equal(t, "hello", values["user_input"], "from before the log begins")
	require.Equal(t, map[string]int{"x/0": 2, "y/0": 1}, c.seen(), "under the same key")
	require.Eventually(t, func() bool { return p.jobs(key.Partition) == 0 }, patience, tick, "no job is left")
	return true
}

// TestALostQueueIsMadeAgain: a server that was restored without its consumers gives work again, and what had ended does
// not run again.
func TestALostQueueIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.executor(engine.Config{})
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
	final(t, p.history(p.request(parallel(c.URL, ""), `{}`, nil)))
	nc, err := nats.Connect("", nats.InProcessServer(p.server))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	for n := range p.bus.Partitions() {
		require.NoError(t, js.DeleteConsumer(t.Context(), protocol.PartitionStream(n), protocol.DurableExecutor))
	}
	for range 4 {
		final(t, p.history(p.request(threeSteps, `{"user_input":"hello"}`, nil)))
	}
	require.Eventually(t, func() bool {
		for n := range p.bus.Partitions() {
			q, err := js.Consumer(t.Context(), protocol.PartitionStream(n), protocol.DurableExecutor)
			if err != nil || q.CachedInfo().NumAckPending > 0 || q.CachedInfo().NumPending > 0 {
				return false
			}
		}
		return true
	}, patience, tick, "both queues are there again, and done")
	require.Equal(t, map[string]int{"x/0": 1, "y/0": 1}, c.seen())
}

// TestManyWaitsAreNoPoison: an execution that waits for its retries more often than executors may die over it is
// taken up each time, and each time gets further.
func TestManyWaitsAreNoPoison(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	c := newCalls(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" && n < 5 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	})
	p.executor(engine.Config{LongWait: time.Nanosecond, Takeovers: 2})
	events := p.history(p.request(parallel(c.URL, `,"retry":{"max_attempts":5,"initial_interval":0.2,"max_interval":0.2}`), `{}`, nil))
	require.IsType(t, protocol.Completed{}, events[len(events)-1], names(events))
	require.Equal(t, map[string]int{"x/0": 5, "y/0": 1}, c.seen())
}

// TestAWaitIsCancelledAtOnce: nobody runs it, so the cancel itself is the job that ends it.
func TestAWaitIsCancelledAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	failed := make(chan struct{}, 4)
	c := newCalls(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		failed <- struct{}{}
	})
	p.executor(engine.Config{LongWait: 20 * time.Millisecond})
	key := p.request(parallel(c.URL, `,"timeout_seconds":3600,"retry":{"max_attempts":2,"initial_interval":1000,"max_interval":1000}`), `{}`,
		func(r *protocol.Requested) { r.Deadline = protocol.At(time.Now().Add(time.Hour)) })
	<-failed
	<-failed
	require.Eventually(t, func() bool { return p.metric("agentflow_executions_running") == 0 }, patience, tick)
	last, err := p.bus.Last(t.Context(), key)
	require.NoError(t, err)
	_, err = p.bus.Append(t.Context(), key, last.Sequence, protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{
		{At: protocol.At(time.Now()), Event: protocol.CancelRequested{Reason: "enough"}},
	}})
	require.NoError(t, err)
	events := p.history(key) // gives up long before the retry is due
	require.IsType(t, protocol.Cancelled{}, events[len(events)-1], names(events))
}

// jobs counts those of a partition that are not done.
func (p *platform) jobs(partition int) int {
	p.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(p.server))
	require.NoError(p.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(p.t, err)
	c, err := js.Consumer(p.t.Context(), protocol.PartitionStream(partition), protocol.DurableExecutor)
	require.NoError(p.t, err)
	info, err := c.Info(p.t.Context())
	require.NoError(p.t, err)
	return info.NumAckPending + int(info.NumPending)
}
