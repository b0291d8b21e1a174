package service

import (
	"context"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// barrierPatience bounds how long a command waits for the tables.
const barrierPatience = 5 * time.Second

// lockedPatience bounds how long a command waits for the tables while it keeps others from its document, and a connection
// from everybody. What the projector itself waits for is let go by then, and the command comes again.
const lockedPatience = 2 * time.Second

// awaitExecutions waits until the tables know of every execution that was accepted before.
func awaitExecutions(ctx context.Context, s *Service, _ protocol.Command) error {
	return s.AwaitTables(ctx, s.Streams()[1:])
}

// awaitCatalog waits until the tables know of every document that was written before.
func awaitCatalog(ctx context.Context, s *Service, _ protocol.Command) error {
	return s.AwaitTables(ctx, []string{protocol.StreamCatalog})
}

// AwaitTables waits until the tables have what stands in the streams now. It fails as unavailable
// when that takes too long.
func (s *Service) AwaitTables(ctx context.Context, streams []string) error {
	want := map[string]uint64{}
	for _, stream := range streams {
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return fmt.Errorf("%w: %w", postgres.ErrUnavailable, err)
		}
		if state.Messages > 0 { // an empty one was trimmed behind the tables, or made anew
			want[stream] = state.Last
		}
	}
	deadline := s.now().Add(barrierPatience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if len(want) == 0 {
			return nil
		}
		have, err := s.store.Checkpoints(ctx)
		if err != nil {
			return err
		}
		for stream, seq := range want {
			if have[stream] >= seq {
				delete(want, stream)
			}
		}
		if len(want) == 0 {
			return nil
		}
		if s.now().After(deadline) {
			return fmt.Errorf("%w: the tables are behind the log", postgres.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", postgres.ErrUnavailable, ctx.Err())
		case <-time.After(wait):
		}
	}
}
