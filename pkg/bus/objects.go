package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// TrimObjects removes the large values that were stored before a time, and tells how many messages
// went with them. An object is written once and never changed, so the stream below the bucket may be
// cut off at its beginning, like an execution log. Deleting objects one by one would leave a mark for
// each of them, for ever.
func (b *Bus) TrimObjects(ctx context.Context, before time.Time) (uint64, error) {
	s, err := b.stream(ctx, "OBJ_"+protocol.BucketObjects)
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("state of bucket %s: %w", protocol.BucketObjects, err)
	}
	state := info.State
	if state.Msgs == 0 || !state.FirstTime.Before(before) {
		return 0, nil
	}
	keep := state.LastSeq + 1
	if !state.LastTime.Before(before) {
		if keep, err = firstSince(ctx, s, before); err != nil {
			return 0, fmt.Errorf("trim bucket %s: %w", protocol.BucketObjects, err)
		}
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return 0, fmt.Errorf("trim bucket %s: %w", protocol.BucketObjects, err)
	}
	after, err := s.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("state of bucket %s: %w", protocol.BucketObjects, err)
	}
	return state.Msgs - min(state.Msgs, after.State.Msgs), nil
}

// firstSince is the sequence of the first message that was stored at a time or later. There must be one.
func firstSince(ctx context.Context, s jetstream.Stream, at time.Time) (uint64, error) {
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &at, AckPolicy: jetstream.AckNonePolicy,
		HeadersOnly: true, MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second, // gone by itself
	})
	if err != nil {
		return 0, err
	}
	msg, err := c.Next(jetstream.FetchMaxWait(callTimeout))
	if err != nil {
		return 0, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return 0, err
	}
	return meta.Sequence.Stream, nil
}
