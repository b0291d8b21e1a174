package bus_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// fetchOne waits for the next job.
func fetchOne(t *testing.T, q *bus.JobQueue) *bus.Job {
	t.Helper()
	var job *bus.Job
	n, err := q.Fetch(1, patience, func(j *bus.Job) { job = j }, func(_ jetstream.Msg, err error) { t.Error(err) })
	require.NoError(t, err)
	require.Equal(t, 1, n)
	return job
}

func queueOf(t *testing.T, b *bus.Bus, partition int, ackWait time.Duration) *bus.JobQueue {
	t.Helper()
	q, err := b.Jobs(within(t), partition, bus.JobPolicy{AckWait: ackWait, MaxDeliver: 100})
	require.NoError(t, err)
	return q
}

func TestJobs(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s, func(c *bus.Config) { c.Partitions = 1 })
	q := queueOf(t, b, 0, patience)
	first, second := newKey(b), newKey(b)
	c := requested()
	seq := appendAll(t, b, first, c, started(1))[0]
	appendAll(t, b, second, requested())
	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // a consumer hears of a message after its writer
		consumer, err := js.Consumer(within(t), protocol.PartitionStream(0), protocol.DurableExecutor)
		return err == nil && consumer.CachedInfo().NumPending == 2
	}, patience, 5*time.Millisecond)

	job := fetchOne(t, q)
	require.Equal(t, first, job.Key)
	require.Equal(t, c.ID, job.Record.ID)
	require.Equal(t, seq, job.Record.Sequence)
	require.Equal(t, 1, job.Delivered)
	require.Equal(t, uint64(1), job.Backlog, "the log commit is no job")
	require.NoError(t, job.Ack())

	job = fetchOne(t, q)
	require.Equal(t, second, job.Key)
	require.NoError(t, job.HandBack(0))
	job = fetchOne(t, q)
	require.Equal(t, second, job.Key)
	require.Equal(t, 2, job.Delivered)
	require.NoError(t, job.HandBack(20*time.Millisecond))
	job = fetchOne(t, q)
	require.Equal(t, 3, job.Delivered)
	require.NoError(t, job.Ack())
	require.NoError(t, job.InProgress(), "a heartbeat that crosses the end is nothing to speak of")

	n, err := q.Fetch(5, 50*time.Millisecond, func(*bus.Job) { t.Error("no jobs are left") }, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	again := queueOf(t, b, 0, patience) // another executor opens the same queue
	n, err = again.Fetch(5, 50*time.Millisecond, func(*bus.Job) { t.Error("no jobs are left") }, nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestFetchTakesWhatThereIs(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.Partitions = 1 })
	q := queueOf(t, b, 0, patience)
	for range 5 {
		appendAll(t, b, newKey(b), requested())
	}
	seen := make(chan *bus.Job, 10)
	done := make(chan int, 1)
	go func() {
		n, err := q.Fetch(6, patience, func(j *bus.Job) { seen <- j }, nil)
		require.NoError(t, err)
		done <- n
	}()
	for range 5 { // they come before the batch is full
		require.NoError(t, (<-seen).Ack())
	}
	require.Empty(t, done)
	appendAll(t, b, newKey(b), requested())
	require.NoError(t, (<-seen).Ack())
	require.Equal(t, 6, <-done, "a full batch ends the fetch")
}

// A job that comes as the fetch ends is either in it or in the next one: never with nobody until AckWait.
func TestNoJobIsLostBetweenFetches(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.Partitions = 1 })
	q := queueOf(t, b, 0, patience)
	const jobs = 300
	var appending sync.WaitGroup
	appending.Go(func() {
		for range jobs {
			appendAll(t, b, newKey(b), requested())
		}
	})
	defer appending.Wait() // a job may be here before who appended it knows
	for got := 0; got < jobs; {
		n, err := q.Fetch(10, 2*time.Millisecond, func(j *bus.Job) {
			require.Equal(t, 1, j.Delivered)
			require.NoError(t, j.Ack())
		}, nil)
		require.NoError(t, err)
		got += n
	}
}

func TestASilentTakerIsTakenOver(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.Partitions = 1 })
	const wait = 300 * time.Millisecond
	q := queueOf(t, b, 0, wait)
	appendAll(t, b, newKey(b), requested())
	fetchOne(t, q) // and dies
	job := fetchOne(t, q)
	require.Equal(t, 2, job.Delivered)

	// Who says that he is at it keeps the job, for many times the wait. A machine that could not say it in time proves
	// nothing, and the one who has the job now goes on.
	for silent := true; silent; {
		var silence atomic.Int64 // the longest, nanoseconds
		ctx, cancel := context.WithCancel(within(t))
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			ticker := time.NewTicker(wait / 10)
			defer ticker.Stop()
			for last := time.Now(); ; <-ticker.C {
				if err := job.InProgress(); err != nil {
					t.Errorf("a heartbeat was not sent: %v", err)
				}
				silence.Store(max(silence.Load(), int64(time.Since(last))))
				last = time.Now()
				if ctx.Err() != nil {
					return
				}
			}
		}()
		var next *bus.Job
		n, err := q.Fetch(1, 5*wait, func(j *bus.Job) { next = j }, nil)
		require.NoError(t, err)
		cancel()
		<-kept
		silent = time.Duration(silence.Load()) > wait/2
		require.True(t, n == 0 || silent, "a job in progress was given to another")
		if next != nil {
			job = next
		}
	}
	require.NoError(t, job.Ack())
}

func TestProjectionSeesEveryCommit(t *testing.T) {
	t.Parallel()
	b := open(t, func(c *bus.Config) { c.Partitions = 1 })
	key := newKey(b)
	seqs := appendAll(t, b, key, requested(), started(1), started(2))
	p, err := b.Project(within(t), protocol.PartitionStream(0), seqs[0])
	require.NoError(t, err)
	defer p.Close()
	var got []uint64
	for len(got) < 2 {
		messages, err := p.Next(within(t), 10, patience)
		require.NoError(t, err)
		for _, m := range messages {
			require.Equal(t, key, m.Key)
			got = append(got, m.Sequence)
		}
	}
	require.Equal(t, seqs[1:], got)
}
