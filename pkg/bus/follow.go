package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// How Follow looks again after a nudge that came before the write it tells of.
const (
	firstLook = time.Millisecond
	lastLook  = 250 * time.Millisecond
	lookAgain = time.Second // without any nudge: it may have been lost
)

// Follow calls fn with every commit of an execution after the sequence given, first those that
// stand, then new ones as they come, until fn returns false or ctx ends. An execution that has
// no commits yet is waited for; one that was trimmed away is ErrNotFound.
func (b *Bus) Follow(ctx context.Context, key protocol.ExecutionKey, after uint64, fn func(protocol.Record) bool) error {
	// A plain subscription sees a publish before its fence is checked: it is only a nudge to read.
	nudge := make(chan struct{}, 1)
	sub, err := b.nc.Subscribe(key.All(), func(*nats.Msg) {
		select {
		case nudge <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("follow %s: %w", key.ID, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // a lost connection has dropped it already
	wait, gone := lookAgain, 0
	for {
		records, err := b.Load(ctx, key, after)
		switch {
		case errors.Is(err, ErrNotFound) && (after > 0 || errors.Is(err, errTrimmed)):
			// Something stood there. Once may be a replica that lags behind.
			if gone++; gone == 3 {
				return err
			}
		case errors.Is(err, ErrNotFound): // not yet
		case err != nil:
			return err
		}
		for _, r := range records {
			if !fn(r) {
				return nil
			}
			after, gone, wait = r.Sequence, 0, lastLook // two nudges may have become one
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-nudge:
			timer.Stop()
			wait = firstLook
		case <-timer.C:
			if wait *= 2; wait > lastLook {
				wait = lookAgain
			}
		}
	}
}
