package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// LogMessage is one message of a partition or of the catalog, as a projector sees it.
type LogMessage struct {
	Key      protocol.ExecutionKey  // of an execution's commit
	Record   protocol.Record        // the commit
	Catalog  *protocol.CatalogEvent // set instead of Record on the CATALOG stream
	Sequence uint64
	Body     []byte
	Trace    trace.SpanContext // that it was written in; not valid when there was none
}

// Projection reads one stream from a sequence on, in order, for one projector.
type Projection struct {
	stream   string
	consume  jetstream.ConsumeContext
	messages chan LogMessage
	closing  chan struct{}
	once     sync.Once
	failed   chan struct{} // closed when err is set
	err      error
}

// readAhead bounds what a projection holds before its projector asks for it.
const readAhead = 1024

// Project opens a projection of a stream behind the sequence its checkpoint names. The
// checkpoint in the tables is the truth, so nothing is acknowledged.
func (b *Bus) Project(ctx context.Context, stream string, after uint64) (*Projection, error) {
	cons, err := b.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", stream, err)
	}
	p := &Projection{
		stream: stream, messages: make(chan LogMessage, readAhead), closing: make(chan struct{}), failed: make(chan struct{}),
	}
	p.consume, err = cons.Consume(p.take, jetstream.PullMaxMessages(readAhead), jetstream.ConsumeErrHandler(
		func(_ jetstream.ConsumeContext, err error) {
			// The consumer is made anew behind the last message by itself; this is for the curious.
			b.log.Debug("projection interrupted: " + stream + ": " + err.Error())
		}))
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", stream, err)
	}
	return p, nil
}

// take is called with one message after another.
func (p *Projection) take(m jetstream.Msg) {
	select {
	case <-p.failed:
		return // what follows an unreadable message must not be seen
	default:
	}
	lm, err := logMessage(m)
	if err != nil {
		p.err = fmt.Errorf("project %s: %w", p.stream, err)
		close(p.failed)
		return
	}
	select {
	case p.messages <- lm:
	case <-p.closing:
	}
}

// Next returns up to n messages as soon as there are any, or none when none came within wait. A
// message that cannot be understood ends the projection with an error, after all that stand before
// it: a reader that skipped one would build wrong tables.
func (p *Projection) Next(ctx context.Context, n int, wait time.Duration) ([]LogMessage, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var out []LogMessage
	select {
	case m := <-p.messages:
		out = append(out, m)
	case <-p.failed:
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(out) < n {
		select {
		case m := <-p.messages:
			out = append(out, m)
			continue
		default:
		}
		break
	}
	if len(out) == 0 {
		return nil, p.err
	}
	return out, nil
}

// Waiting is how many messages have been read ahead, as far as is known here.
func (p *Projection) Waiting() int { return len(p.messages) }

// Close ends the projection.
func (p *Projection) Close() {
	p.once.Do(func() {
		close(p.closing)
		p.consume.Stop()
		<-p.consume.Closed()
	})
}

func logMessage(m jetstream.Msg) (LogMessage, error) {
	meta, err := m.Metadata()
	if err != nil {
		return LogMessage{}, err
	}
	lm := LogMessage{Sequence: meta.Sequence.Stream, Body: m.Data(), Trace: traced(m.Headers())}
	if meta.Stream == protocol.StreamCatalog {
		var e protocol.CatalogEvent
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return LogMessage{}, fmt.Errorf("message %d: %w", lm.Sequence, err)
		}
		lm.Catalog = &e
		return lm, nil
	}
	if lm.Key, _, err = protocol.ParseExecutionSubject(m.Subject()); err != nil {
		return LogMessage{}, fmt.Errorf("message %d: %w", lm.Sequence, err)
	}
	if lm.Record, err = record(m.Headers(), m.Data(), meta.Sequence.Stream, meta.Timestamp); err != nil {
		return LogMessage{}, fmt.Errorf("message %d: %w", lm.Sequence, err)
	}
	return lm, nil
}

// StreamState is where a stream begins and ends.
type StreamState struct {
	First, Last     uint64
	Messages, Bytes uint64
	MaxBytes        uint64    // what it may hold; 0 is no limit
	FirstTime       time.Time // when its first message was stored; zero when it has none
}

// State asks the server where a stream stands.
func (b *Bus) State(ctx context.Context, stream string) (StreamState, error) {
	s, err := b.stream(ctx, stream)
	if err != nil {
		return StreamState{}, err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return StreamState{}, fmt.Errorf("state of %s: %w", stream, err)
	}
	return StreamState{
		First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		MaxBytes: uint64(max(0, info.Config.MaxBytes)), FirstTime: info.State.FirstTime,
	}, nil
}

// Trim removes everything before a sequence from a partition.
func (b *Bus) Trim(ctx context.Context, partition int, before uint64) error {
	s, err := b.stream(ctx, protocol.PartitionStream(partition))
	if err != nil {
		return err
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("trim partition %d before %d: %w", partition, before, err)
	}
	return nil
}
