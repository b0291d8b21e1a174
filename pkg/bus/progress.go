package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// FollowProgress calls fn with the live progress of an execution, one message after another, until
// ctx ends. What was said before is gone, and a reader that is too slow misses messages: progress
// is for eyes, the log is the truth.
func (b *Bus) FollowProgress(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID, fn func(body []byte)) error {
	messages := make(chan *nats.Msg, 64)
	sub, err := b.nc.Subscribe(protocol.ProgressSubject(t, id), func(m *nats.Msg) {
		select {
		case messages <- m:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("follow progress of %s: %w", id, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a lost connection has dropped it already
	for {
		select {
		case m := <-messages:
			fn(m.Data)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WatchCatalog calls fn with every catalog event that matches the filters and is written from now
// on, in order, until ctx ends. Unlike FollowCatalog it does not begin with what stands.
func (b *Bus) WatchCatalog(ctx context.Context, filters []string, fn func(e protocol.CatalogEvent, seq uint64)) error {
	state, err := b.State(ctx, protocol.StreamCatalog)
	if err != nil {
		return fmt.Errorf("watch catalog: %w", err)
	}
	// A start by sequence rather than "new": after a reconnect nothing in between is skipped.
	cons, err := b.js.OrderedConsumer(ctx, protocol.StreamCatalog, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: state.Last + 1,
	})
	if err != nil {
		return fmt.Errorf("watch catalog: %w", err)
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
			return
		}
		fn(e, meta.Sequence.Stream)
	})
	if err != nil {
		return fmt.Errorf("watch catalog: %w", err)
	}
	<-ctx.Done()
	consume.Stop()
	<-consume.Closed()
	return nil
}

// Claimed reads what Claim keeps under a key, or ErrNotFound.
func (b *Bus) Claimed(ctx context.Context, t protocol.TenantID, key string) ([]byte, error) {
	kv, err := b.bucket(ctx, protocol.BucketIdem)
	if err != nil {
		return nil, errors.Join(ErrUnavailable, err)
	}
	e, err := kv.Get(ctx, string(t)+"."+protocol.Token(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("claim %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", key, errors.Join(ErrUnavailable, err))
	}
	return e.Value(), nil
}

// Signal nudges whoever runs an execution to read its log again. Nobody may be listening.
func (b *Bus) Signal(id protocol.ExecutionID) error {
	if err := b.nc.Publish(protocol.SignalSubject(id), nil); err != nil {
		return fmt.Errorf("signal %s: %w", id, err)
	}
	return nil
}
