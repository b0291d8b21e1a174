package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// Progress is told how a rebuild goes on.
type Progress func(stream string, projected, last uint64)

// Rebuild fills the tables of this service, which nobody else uses, from the log: from the CATALOG
// stream, from the archive in the live tables, and from the hot log. Called again, it goes on.
func (s *Service) Rebuild(ctx context.Context, live *postgres.Store, progress Progress) error {
	if err := s.whole(ctx, live); err != nil {
		return err
	}
	if err := s.rebuildCatalog(ctx, progress); err != nil {
		return fmt.Errorf("rebuild from %s: %w", protocol.StreamCatalog, err)
	}
	for p := range s.bus.Partitions() {
		if err := s.rebuildPartition(ctx, live, p, progress); err != nil {
			return fmt.Errorf("rebuild from %s: %w", protocol.PartitionStream(p), err)
		}
	}
	return nil
}

// whole refuses a log that ends before the live tables do. It is another one, and what is archived under the sequences that
// it has itself would be lost.
func (s *Service) whole(ctx context.Context, live *postgres.Store) error {
	have, err := live.Checkpoints(ctx)
	if err != nil {
		return err
	}
	for _, stream := range s.Streams() {
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return err
		}
		if have[stream] > state.Last {
			return short(stream, have[stream], state.Last)
		}
	}
	return nil
}

func (s *Service) rebuildCatalog(ctx context.Context, progress Progress) error {
	at, err := s.store.Checkpoint(ctx, protocol.StreamCatalog)
	if err != nil {
		return err
	}
	state, err := s.bus.State(ctx, protocol.StreamCatalog)
	if err != nil {
		return err
	}
	return s.rebuildFrom(ctx, protocol.StreamCatalog, at, state.Last, nil, progress)
}

// archive reads what the archive has of a partition behind a sequence and before another.
type archive func(ctx context.Context, after, before uint64) ([]bus.LogMessage, error)

func (s *Service) rebuildPartition(ctx context.Context, live *postgres.Store, partition int, progress Progress) error {
	stream := protocol.PartitionStream(partition)
	at, err := s.store.Checkpoint(ctx, stream)
	if err != nil {
		return err
	}
	past := func(ctx context.Context, after, before uint64) ([]bus.LogMessage, error) {
		return archived(ctx, live, partition, after, before)
	}
	for {
		// The janitor may trim the log while this runs: what it takes is in the archive by then.
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return err
		}
		if state.First <= at+1 {
			return s.rebuildFrom(ctx, stream, at, state.Last, past, progress)
		}
		batch, err := past(ctx, at, state.First)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return s.rebuildFrom(ctx, stream, at, state.Last, past, progress)
		}
		if err := s.project(ctx, stream, at, batch); err != nil {
			return err
		}
		at = batch[len(batch)-1].Sequence
		progress(stream, at, state.Last)
	}
}

func archived(ctx context.Context, live *postgres.Store, partition int, after, before uint64) ([]bus.LogMessage, error) {
	rows, err := live.ArchivedAfter(ctx, partition, after, batchSize)
	if err != nil {
		return nil, err
	}
	var batch []bus.LogMessage
	for _, a := range rows {
		if a.Seq >= before {
			break // from here on the log itself speaks
		}
		c, err := protocol.DecodeCommit(a.CommitID, a.Body)
		if err != nil {
			return nil, fmt.Errorf("archived commit %d: %w", a.Seq, err)
		}
		batch = append(batch, bus.LogMessage{
			Key: a.Key, Sequence: a.Seq, Body: a.Body,
			Record: protocol.Record{Commit: c, Sequence: a.Seq, Previous: a.Previous, Stored: a.Stored},
		})
	}
	return batch, nil
}

// errStalled says that the log stopped giving what it said it has.
var errStalled = errors.New("no message came")

// rebuildFrom projects a stream up to what was its end when this began. What is trimmed from the
// log under its eyes it takes from the archive.
func (s *Service) rebuildFrom(ctx context.Context, stream string, at, last uint64, past archive, progress Progress) error {
	if at >= last {
		return nil
	}
	reader, err := s.bus.Project(ctx, stream, at)
	if err != nil {
		return err
	}
	defer reader.Close()
	for at < last {
		batch, err := reader.Next(ctx, batchSize, 2*time.Second)
		if err != nil {
			return err
		}
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return err
		}
		switch {
		case len(batch) > 0:
		case state.First <= last && state.Messages > 0:
			return fmt.Errorf("%w after %d of %d", errStalled, at, last)
		default:
			if at, err = s.rebuildArchived(ctx, stream, at, last+1, past); err != nil {
				return err
			}
			progress(stream, at, last)
			return nil
		}
		// Sequences have no holes but those that trimming makes.
		for len(batch) > 0 {
			if at, err = s.rebuildArchived(ctx, stream, at, batch[0].Sequence, past); err != nil {
				return err
			}
			n := 1
			for n < len(batch) && batch[n].Sequence == batch[n-1].Sequence+1 {
				n++
			}
			if err := s.project(ctx, stream, at, batch[:n]); err != nil {
				return err
			}
			at, batch = batch[n-1].Sequence, batch[n:]
		}
		progress(stream, at, last)
	}
	return nil
}

// rebuildArchived projects what the archive has between the checkpoint and a sequence, and returns
// where the checkpoint stands then.
func (s *Service) rebuildArchived(ctx context.Context, stream string, at, before uint64, past archive) (uint64, error) {
	for past != nil && at+1 < before {
		batch, err := past(ctx, at, before)
		if err != nil {
			return at, err
		}
		if len(batch) == 0 {
			break // a hole that nobody can fill
		}
		if err := s.project(ctx, stream, at, batch); err != nil {
			return at, err
		}
		at = batch[len(batch)-1].Sequence
	}
	return at, nil
}
