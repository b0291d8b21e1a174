package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// SendCommand stores a command for catalog and waits for its answer. When the answer does not
// come in time the command may still be carried out: sending it again under the same id is safe.
func SendCommand[T any](ctx context.Context, b *Bus, cmd protocol.Command) (T, error) {
	var zero T
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	subject, reply, release, err := b.Expect()
	if err != nil {
		return zero, err
	}
	defer release()
	cmd.Reply = subject
	body, err := json.Marshal(cmd)
	if err != nil {
		return zero, fmt.Errorf("command %s: encode: %w", cmd.Verb, err)
	}
	msg := &nats.Msg{Subject: protocol.CommandSubject(cmd.Tenant, cmd.Verb), Data: body, Header: nats.Header{
		headerCeID: {cmd.ID}, headerCeType: {"agentflow.command." + string(cmd.Verb) + ".v1"}, headerCeSrc: {"/agentflow/gateway"},
		headerCeSpec: {"1.0"}, headerCeTime: {cmd.At.String()},
	}}
	injectTrace(ctx, msg.Header)
	if _, err := b.js.PublishMsg(ctx, msg); err != nil {
		return zero, fmt.Errorf("command %s: %w", cmd.Verb, errors.Join(ErrUnavailable, err))
	}
	select {
	case body := <-reply:
		v, err := DecodeReply[T](body)
		if err != nil {
			return zero, fmt.Errorf("command %s: %w", cmd.Verb, err)
		}
		return v, nil
	case <-ctx.Done():
		return zero, fmt.Errorf("command %s: %w", cmd.Verb, errors.Join(ErrUnavailable, ctx.Err()))
	}
}

// CommandMessage is a command in the hands of a handler.
type CommandMessage struct {
	protocol.Command
	Delivered int
	Stored    time.Time // when the server took it
	bus       *Bus
	msg       jetstream.Msg
}

// Context carries on the trace of the sender.
func (c *CommandMessage) Context(ctx context.Context) context.Context {
	return extractTrace(ctx, c.msg.Headers())
}

// Done answers the sender and removes the command. Dying between the two is harmless: the
// command comes again and is answered as before.
func (c *CommandMessage) Done(reply []byte) error {
	if c.Reply != "" {
		if err := c.bus.Reply(c.Reply, reply); err != nil {
			return err
		}
	}
	if err := c.msg.Ack(); err != nil {
		return fmt.Errorf("acknowledge command %s: %w", c.ID, err)
	}
	return nil
}

// Again has the command delivered once more, after a delay.
func (c *CommandMessage) Again(delay time.Duration) error {
	if err := c.msg.NakWithDelay(delay); err != nil {
		return fmt.Errorf("hand back command %s: %w", c.ID, err)
	}
	return nil
}

// Commands hands commands to fn, several at a time, until ctx ends; then it waits for those in hand.
func (b *Bus) Commands(ctx context.Context, concurrency int, fn func(*CommandMessage)) error {
	cons, err := b.js.CreateOrUpdateConsumer(ctx, protocol.StreamCommands, jetstream.ConsumerConfig{
		Durable: "catalog", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxAckPending: 10_000,
	})
	if err != nil {
		return fmt.Errorf("open command queue: %w", err)
	}
	work := make(chan *CommandMessage)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for c := range work {
				fn(c)
			}
		})
	}
	consume, err := cons.Consume(func(m jetstream.Msg) {
		c := &CommandMessage{bus: b, msg: m}
		if err := json.Unmarshal(m.Data(), &c.Command); err != nil {
			// Only a client that bypassed the gateway can write such a thing; nobody can ever read it.
			b.log.Error("command unreadable, dropped", zap.String("subject", m.Subject()), zap.Error(err))
			if err := m.Term(); err != nil {
				b.log.Warn("command not dropped, it will come again", zap.Error(err))
			}
			return
		}
		if meta, err := m.Metadata(); err == nil {
			c.Delivered = int(min(meta.NumDelivered, 1<<31-1))
			c.Stored = meta.Timestamp
		}
		work <- c
	}, jetstream.PullMaxMessages(2*concurrency))
	if err != nil {
		close(work)
		workers.Wait()
		return fmt.Errorf("consume commands: %w", err)
	}
	<-ctx.Done()
	consume.Drain()
	<-consume.Closed()
	close(work)
	workers.Wait()
	return nil
}

// AppendCatalog adds a catalog event to its document's log, fenced by the sequence of the event
// before it (0 for a new document).
func (b *Bus) AppendCatalog(ctx context.Context, e protocol.CatalogEvent, after uint64) (uint64, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("encode %s: %w", e.Type, err)
	}
	subject := protocol.CatalogSubject(e.Tenant, e.Kind, e.ID)
	msg := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{
		headerCeID: {e.CommandID}, headerCeType: {"agentflow.catalog." + e.Type}, headerCeSrc: {"/agentflow/catalog"},
		headerCeSpec: {"1.0"}, headerCeTime: {e.At.String()},
	}}
	injectTrace(ctx, msg.Header)
	seq, err := b.publishFenced(ctx, msg, after, subject)
	if err == nil {
		return seq, nil
	}
	last, lastSeq, lerr := b.LastCatalog(ctx, e.Tenant, e.Kind, e.ID)
	switch {
	case lerr == nil && last.CommandID == e.CommandID:
		return lastSeq, nil // our own event, its acknowledgement was lost
	case lerr == nil && lastSeq != after:
		return 0, fmt.Errorf("append %s %s: %w", e.Type, e.ID, ErrConflict)
	}
	return 0, fmt.Errorf("append %s %s: %w", e.Type, e.ID, errors.Join(ErrUnavailable, err))
}

// LastCatalog reads the current event of a document and its sequence.
func (b *Bus) LastCatalog(ctx context.Context, t protocol.TenantID, kind protocol.CatalogKind, id string) (protocol.CatalogEvent, uint64, error) {
	s, err := b.stream(ctx, protocol.StreamCatalog)
	if err != nil {
		return protocol.CatalogEvent{}, 0, err
	}
	raw, err := s.GetLastMsgForSubject(ctx, protocol.CatalogSubject(t, kind, id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return protocol.CatalogEvent{}, 0, fmt.Errorf("%s %s: %w", kind, id, ErrNotFound)
	}
	if err != nil {
		return protocol.CatalogEvent{}, 0, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	var e protocol.CatalogEvent
	if err := json.Unmarshal(raw.Data, &e); err != nil {
		return protocol.CatalogEvent{}, 0, fmt.Errorf("decode %s %s: %w", kind, id, err)
	}
	return e, raw.Sequence, nil
}

// FollowCatalog calls fn with the current event of every document that matches the filters
// (protocol.CatalogFilter) and then with each new one, in order, until ctx ends. ready is
// called once when everything that stood at the beginning has been seen.
func (b *Bus) FollowCatalog(ctx context.Context, filters []string, fn func(e protocol.CatalogEvent, seq uint64), ready func()) error {
	cons, err := b.js.OrderedConsumer(ctx, protocol.StreamCatalog, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return fmt.Errorf("follow catalog: %w", err)
	}
	info, err := cons.Info(ctx)
	if err != nil {
		return fmt.Errorf("follow catalog: %w", err)
	}
	if info.NumPending == 0 && info.Delivered.Consumer == 0 {
		ready()
		ready = func() {}
	}
	consume, err := cons.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			b.log.Error("catalog event without metadata", zap.Error(err))
			return
		}
		var e protocol.CatalogEvent
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			b.log.Error("catalog event unreadable", zap.String("subject", m.Subject()), zap.Error(err))
		} else {
			fn(e, meta.Sequence.Stream)
		}
		if meta.NumPending == 0 {
			ready()
			ready = func() {}
		}
	})
	if err != nil {
		return fmt.Errorf("follow catalog: %w", err)
	}
	<-ctx.Done()
	consume.Stop()
	<-consume.Closed()
	return nil
}
