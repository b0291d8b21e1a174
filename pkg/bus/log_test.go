package bus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	servers "github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestAppendAndLoad(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	_, err := b.Load(within(t), key, 0)
	require.ErrorIs(t, err, bus.ErrNotFound)
	_, err = b.Last(within(t), key)
	require.ErrorIs(t, err, bus.ErrNotFound)

	commits := []protocol.Commit{requested()}
	for i := range 49 {
		commits = append(commits, started(i+1))
	}
	seqs := appendAll(t, b, key, commits...)
	appendAll(t, b, newKey(b), requested()) // somebody else

	records, err := b.Load(within(t), key, 0)
	require.NoError(t, err)
	require.Len(t, records, 50)
	previous := uint64(0)
	for i, r := range records {
		require.Equal(t, commits[i].ID, r.ID)
		require.Equal(t, seqs[i], r.Sequence)
		require.Equal(t, previous, r.Previous)
		require.Equal(t, commits[i].Events[0].Event.EventType(), r.Events[0].Event.EventType())
		require.False(t, r.Stored.IsZero())
		previous = r.Sequence
	}
	last, err := b.Last(within(t), key)
	require.NoError(t, err)
	require.Equal(t, records[49], last)
	tail, err := b.Load(within(t), key, seqs[46])
	require.NoError(t, err)
	require.Equal(t, records[47:], tail)
	tail, err = b.Load(within(t), key, seqs[49])
	require.NoError(t, err)
	require.Empty(t, tail)
}

func TestOfManyWritersOneWins(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	after := appendAll(t, b, key, requested())[0]
	var mu sync.Mutex
	var wg sync.WaitGroup
	var won []string
	for i := range 8 {
		wg.Go(func() {
			c := started(i)
			_, err := b.Append(within(t), key, after, c)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, c.ID)
			} else {
				require.ErrorIs(t, err, bus.ErrConflict)
			}
		})
	}
	wg.Wait()
	records, err := b.Load(within(t), key, after)
	require.NoError(t, err)
	require.Equal(t, won, ids(records))
	require.Len(t, won, 1)

	_, err = b.Append(within(t), key, 0, requested())
	require.ErrorIs(t, err, bus.ErrConflict, "an execution is requested once")
}

func TestLostAcknowledgement(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	first := requested()
	seq, err := b.Append(within(t), key, 0, first)
	require.NoError(t, err)
	again, err := b.Append(within(t), key, 0, first)
	require.NoError(t, err)
	require.Equal(t, seq, again)

	// Others went on meanwhile, as an executor does at once.
	second := started(1)
	seqs := []uint64{seq}
	for _, c := range []protocol.Commit{second, started(2), started(3)} {
		seq, err = b.Append(within(t), key, seq, c)
		require.NoError(t, err)
		seqs = append(seqs, seq)
	}
	again, err = b.Append(within(t), key, 0, first)
	require.NoError(t, err)
	require.Equal(t, seqs[0], again)
	again, err = b.Append(within(t), key, seqs[0], second)
	require.NoError(t, err)
	require.Equal(t, seqs[1], again)
	_, err = b.Append(within(t), key, seqs[0], started(9))
	require.ErrorIs(t, err, bus.ErrConflict)
	records, err := b.Load(within(t), key, 0)
	require.NoError(t, err)
	require.Len(t, records, 4, "nothing was written twice")
}

func TestLogFull(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.MaxBytes, c.Partitions = 4096, 1 })
	big := protocol.RawObject([]byte(`{"user_input":"` + strings.Repeat("x", 600) + `"}`))
	var err error
	for range 20 {
		if _, err = b.Append(within(t), newKey(b), 0, commitOf(protocol.Requested{Input: big})); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, bus.ErrLogFull)
	state, err := b.State(within(t), protocol.PartitionStream(0))
	require.NoError(t, err)
	require.NoError(t, b.Trim(within(t), 0, state.Last+1))
	appendAll(t, b, newKey(b), commitOf(protocol.Requested{Input: big}))
}

func TestAppendTooLargeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b := open(t)
	huge := protocol.RawObject([]byte(`{"user_input":"` + strings.Repeat("x", local.MaxPayload) + `"}`))
	_, err := b.Append(within(t), newKey(b), 0, commitOf(protocol.Requested{Input: huge}))
	require.ErrorIs(t, err, nats.ErrMaxPayload)
}

func TestAppendOutlivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port, err := servers.FreePort(t.Context()) // which nobody is given while the server is away
	require.NoError(t, err)
	first, err := local.Start(local.Options{Dir: dir, Addr: "127.0.0.1", Port: port})
	require.NoError(t, err)
	url := first.ClientURL()
	b := connect(t, nil, func(c *bus.Config) { c.InProcess, c.URL = nil, url })
	key := newKey(b)
	after := appendAll(t, b, key, requested())[0]
	first.Stop()

	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = b.Append(ctx, key, after, started(1))
	require.ErrorIs(t, err, bus.ErrUnavailable, "it tries until the context ends")

	done := make(chan error, 1)
	c := started(2)
	go func() {
		_, err := b.Append(within(t), key, after, c)
		done <- err
	}()
	second, err := local.Start(local.Options{Dir: dir, Addr: "127.0.0.1", Port: port})
	require.NoError(t, err)
	t.Cleanup(second.Stop)
	require.NoError(t, <-done)
	records, err := b.Load(within(t), key, 0)
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.Equal(t, c.ID, records[1].ID)
}

func TestCarriedCommits(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	carried := commitOf(protocol.Carried{Requested: protocol.Requested{SpecHash: "h"}, Snapshot: []byte(`{}`)})
	commits := []protocol.Commit{requested(), started(1), started(2), carried, started(3)}
	seqs := appendAll(t, b, key, commits...)

	load := func(after uint64) []string {
		records, err := b.Load(within(t), key, after)
		require.NoError(t, err)
		return ids(records)
	}
	id := func(is ...int) (out []string) {
		for _, i := range is {
			out = append(out, commits[i].ID)
		}
		return out
	}
	require.Equal(t, id(3, 4), load(0), "what it carries is not read")
	require.Equal(t, id(1, 2, 3, 4), load(seqs[0]), "who has read some misses nothing")
	require.Equal(t, id(4), load(seqs[3]))

	require.NoError(t, b.Trim(within(t), key.Partition, seqs[2]))
	require.Equal(t, id(3, 4), load(0))
	require.Equal(t, id(2, 3, 4), load(seqs[1]))
	require.Equal(t, id(3, 4), load(seqs[0]), "what is missing is in what was carried")
}

func TestTrimmedExecutionsAreNotFound(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	commits := []protocol.Commit{requested(), started(1), started(2), commitOf(protocol.Completed{})}
	seqs := appendAll(t, b, key, commits...)
	require.NoError(t, b.Trim(within(t), key.Partition, seqs[2]))

	_, err := b.Load(within(t), key, 0)
	require.ErrorIs(t, err, bus.ErrNotFound)
	_, err = b.Load(within(t), key, seqs[0])
	require.ErrorIs(t, err, bus.ErrNotFound)
	records, err := b.Load(within(t), key, seqs[1])
	require.NoError(t, err, "what is asked for is all there")
	require.Len(t, records, 2)
	none := func(protocol.Record) bool { t.Error("there is nothing to follow"); return false }
	require.ErrorIs(t, b.Follow(within(t), key, 0, none), bus.ErrNotFound)

	require.NoError(t, b.Trim(within(t), key.Partition, seqs[3]+1))
	_, err = b.Last(within(t), key)
	require.ErrorIs(t, err, bus.ErrNotFound)
	require.ErrorIs(t, b.Follow(within(t), key, seqs[3], none), bus.ErrNotFound)
	_, err = b.Append(within(t), key, seqs[3], started(3))
	require.ErrorIs(t, err, bus.ErrNotFound)
}

func TestFollow(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := newKey(b)
	commits := []protocol.Commit{requested()}
	for i := range 20 {
		commits = append(commits, started(i))
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { // begins before there is anything
			var got []string
			err := b.Follow(within(t), key, 0, func(r protocol.Record) bool {
				got = append(got, r.ID)
				return len(got) < len(commits)
			})
			require.NoError(t, err)
			for i, c := range commits {
				require.Equal(t, c.ID, got[i])
			}
		})
	}
	seqs := appendAll(t, b, key, commits...)
	wg.Wait()

	var got []string
	require.NoError(t, b.Follow(within(t), key, seqs[18], func(r protocol.Record) bool {
		got = append(got, r.ID)
		return len(got) < 2
	}))
	require.Equal(t, []string{commits[19].ID, commits[20].ID}, got)

	ctx, cancel := context.WithCancel(within(t))
	cancel()
	require.ErrorIs(t, b.Follow(ctx, key, seqs[20], func(protocol.Record) bool { return true }), context.Canceled)
}

func TestUnknownEventsStopEveryReader(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s)
	key := newKey(b)
	nc := rawConn(t, s)
	msg := &nats.Msg{Subject: key.Requested(), Data: []byte(`{"events":[{"type":"requested.v9","at":null,"data":{}}]}`), Header: nats.Header{"Agentflow-Prev": {"0"}}}
	_, err := nc.RequestMsg(msg, patience)
	require.NoError(t, err)
	_, err = b.Load(within(t), key, 0)
	require.ErrorIs(t, err, protocol.ErrUnknownEvent)
	require.ErrorIs(t, b.Follow(within(t), key, 0, nil), protocol.ErrUnknownEvent)

	q, err := b.Jobs(within(t), key.Partition, bus.JobPolicy{AckWait: patience, MaxDeliver: 5})
	require.NoError(t, err)
	var broken error
	n, err := q.Fetch(1, patience, func(*bus.Job) { t.Error("not a job") }, func(m jetstream.Msg, err error) {
		broken = err
		require.NoError(t, m.Term())
	})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.ErrorIs(t, broken, protocol.ErrUnknownEvent)
}

func TestCommitsAreCloudEventsAndCarryTheTrace(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s)
	key := newKey(b)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	c := requested()
	seq, err := b.Append(trace.ContextWithSpanContext(within(t), span), key, 0, c)
	require.NoError(t, err)

	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	stream, err := js.Stream(within(t), key.Stream())
	require.NoError(t, err)
	raw, err := stream.GetMsg(within(t), seq)
	require.NoError(t, err)
	require.Equal(t, key.Requested(), raw.Subject)
	for header, want := range map[string]string{
		"ce-id": c.ID, "ce-type": "agentflow.execution.commit.v1", "ce-source": "/agentflow/executions", "ce-specversion": "1.0",
		"ce-time": "2026-01-02T03:04:05.000Z", "Agentflow-Prev": "0",
		"traceparent": fmt.Sprintf("00-%s-%s-01", span.TraceID(), span.SpanID()),
	} {
		require.Equal(t, want, raw.Header.Get(header), header)
	}

	q, err := b.Jobs(within(t), key.Partition, bus.JobPolicy{AckWait: patience, MaxDeliver: 5})
	require.NoError(t, err)
	job := fetchOne(t, q)
	require.Equal(t, span.TraceID(), trace.SpanContextFromContext(job.Context(context.Background())).TraceID())
	require.NoError(t, job.Ack())
}

func BenchmarkAppend64Writers(b *testing.B) {
	bus := open(b, func(c *bus.Config) { c.Partitions, c.MaxBytes = 8, 0 })
	b.SetParallelism(32) // times two processors
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bus.Append(context.Background(), newKey(bus), 0, requested()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	bus := open(b)
	key := newKey(bus)
	appendAll(b, bus, key, requested(), started(1), started(2))
	for b.Loop() {
		_, err := bus.Load(context.Background(), key, 0)
		require.NoError(b, err)
	}
}

// BenchmarkLoad50Of250k loads an execution of 50 commits from a partition of 250,000 messages.
func BenchmarkLoad50Of250k(b *testing.B) {
	const messages, commits = 250_000, 50
	bus := open(b, func(c *bus.Config) { c.Partitions, c.MaxBytes = 1, 0 })
	key := newKey(bus)
	var after uint64
	fill := func(n int) {
		var writers sync.WaitGroup
		for range 64 {
			writers.Go(func() {
				for range n / 64 {
					if _, err := bus.Append(context.Background(), newKey(bus), 0, requested()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		writers.Wait()
	}
	for n := range commits {
		c := requested()
		if n > 0 {
			c = started(n)
		}
		var err error
		after, err = bus.Append(context.Background(), key, after, c)
		require.NoError(b, err)
		fill(messages / commits) // its commits stand far from each other
	}
	state, err := bus.State(context.Background(), protocol.PartitionStream(0))
	require.NoError(b, err)
	require.Greater(b, state.Messages, uint64(messages*99/100))
	for b.Loop() {
		records, err := bus.Load(context.Background(), key, 0)
		if err != nil || len(records) != commits {
			b.Fatal(len(records), err)
		}
	}
}
