package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// JobPolicy is how the queue of requested executions treats its takers.
type JobPolicy struct {
	AckWait time.Duration // a taker silent for so long has died
	// MaxDeliver is after how many deliveries a job is delivered no more, -1 for never: handing a job
	// back counts as a delivery too, and a job past the limit stays where it is, unseen.
	MaxDeliver int
}

// Job is one requested execution in the hands of this process.
type Job struct {
	Key       protocol.ExecutionKey
	Record    protocol.Record // the commit that is the job: the first of its execution, one that carries it on, or a cancel
	Delivered int             // 1 for the first taker
	Backlog   uint64          // jobs of this partition not yet handed out, when this one was
	msg       jetstream.Msg
}

// Ack says that the execution has ended.
func (j *Job) Ack() error { return j.msg.Ack() }

// InProgress keeps the job for another AckWait, if it has not been given away meanwhile.
func (j *Job) InProgress() error {
	if err := j.msg.InProgress(); !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return err
	}
	return nil
}

// HandBack returns the job: to be delivered again at once, or after a delay.
func (j *Job) HandBack(delay time.Duration) error {
	if delay <= 0 {
		return j.msg.Nak()
	}
	return j.msg.NakWithDelay(delay)
}

// Context carries on the trace that the request began.
func (j *Job) Context(ctx context.Context) context.Context {
	return extractTrace(ctx, j.msg.Headers())
}

// JobQueue is the shared durable consumer of one partition.
type JobQueue struct {
	partition int
	consumer  jetstream.Consumer
}

// Jobs opens the queue of one partition, creating its consumer if need be.
func (b *Bus) Jobs(ctx context.Context, partition int, p JobPolicy) (*JobQueue, error) {
	c, err := b.js.CreateOrUpdateConsumer(ctx, protocol.PartitionStream(partition), jetstream.ConsumerConfig{
		Durable: protocol.DurableExecutor, FilterSubject: protocol.JobFilter(partition),
		AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: p.AckWait, MaxDeliver: p.MaxDeliver, MaxAckPending: 100_000,
	})
	if err != nil {
		return nil, fmt.Errorf("open job queue %d: %w", partition, err)
	}
	return &JobQueue{partition: partition, consumer: c}, nil
}

// Fetch hands up to n jobs to take as they come, and returns how many there were: after n of them, or
// after wait. Nothing cuts it shorter: the server ends the fetch, for jobs on their way to a taker that
// has gone would be nobody's until AckWait.
// A message that cannot be read is passed to broken, which decides what becomes of it.
func (q *JobQueue) Fetch(n int, wait time.Duration, take func(*Job), broken func(jetstream.Msg, error)) (int, error) {
	batch, err := q.consumer.Fetch(n, jetstream.FetchMaxWait(wait))
	if err != nil {
		return 0, fmt.Errorf("fetch jobs of partition %d: %w", q.partition, err)
	}
	got := 0
	for msg := range batch.Messages() {
		got++
		job, err := jobOf(msg)
		if err != nil {
			broken(msg, err)
			continue
		}
		take(job)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoHeartbeat) {
		return got, fmt.Errorf("fetch jobs of partition %d: %w", q.partition, err)
	}
	return got, nil
}

// unreadableDelay is after how long a job that this process cannot read is offered again.
const unreadableDelay = 30 * time.Second

// Unreadable hands back, for a while, jobs that this process cannot read, and then calls also:
// perhaps a newer version wrote them, and another executor can.
func Unreadable(log *zap.Logger, also func()) func(jetstream.Msg, error) {
	return func(m jetstream.Msg, err error) {
		log.Error("job unreadable, handed back", zap.String("subject", m.Subject()), zap.Error(err))
		_ = m.NakWithDelay(unreadableDelay) // else it comes again after AckWait
		also()
	}
}

func jobOf(msg jetstream.Msg) (*Job, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("job metadata: %w", err)
	}
	key, _, err := protocol.ParseExecutionSubject(msg.Subject())
	if err != nil {
		return nil, err
	}
	rec, err := record(msg.Headers(), msg.Data(), meta.Sequence.Stream, meta.Timestamp)
	if err != nil {
		return nil, err
	}
	return &Job{
		Key: key, Record: rec, Delivered: int(min(meta.NumDelivered, 1<<31-1)),
		Backlog: meta.NumPending, msg: msg,
	}, nil
}
