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

func (s *Service) rebuildCatalog(ctx context.Context, progress Progress) error {
	at, err := s.store.Checkpoint(ctx, protocol.StreamCatalog)
	if err != nil {
		return err
	}
	state, err := s.bus.State(ctx, protocol.StreamCatalog)
	if err != nil {
		return err
	}
	return s.rebuildFrom(ctx, protocol.StreamCatalog, at, state.Last, progress)
}

func (s *Service) rebuildPartition(ctx context.Context, live *postgres.Store, partition int, progress Progress) error {
	stream := protocol.PartitionStream(partition)
	at, err := s.store.Checkpoint(ctx, stream)
	if err != nil {
		return err
	}
	for {
		// The janitor may trim the log while this runs: what it takes is in the archive by then.
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return err
		}
		if state.First <= at+1 {
			return s.rebuildFrom(ctx, stream, at, state.Last, progress)
		}
		rows, err := live.ArchivedAfter(ctx, partition, at, batchSize)
		if err != nil {
			return err
		}
		batch := make([]bus.LogMessage, 0, len(rows))
		for _, r := range rows {
			if r.Seq >= state.First {
				break // from here on the log itself speaks
			}
			m, err := archivedMessage(r)
			if err != nil {
				return err
			}
			batch = append(batch, m)
		}
		if len(batch) == 0 {
			return s.rebuildFrom(ctx, stream, at, state.Last, progress)
		}
		if err := s.project(ctx, stream, at, batch); err != nil {
			return err
		}
		at = batch[len(batch)-1].Sequence
		progress(stream, at, state.Last)
	}
}

func archivedMessage(a postgres.Archived) (bus.LogMessage, error) {
	c, err := protocol.DecodeCommit(a.CommitID, a.Body)
	if err != nil {
		return bus.LogMessage{}, fmt.Errorf("archived commit %d: %w", a.Seq, err)
	}
	return bus.LogMessage{
		Key: a.Key, Sequence: a.Seq, Body: a.Body,
		Record: protocol.Record{Commit: c, Sequence: a.Seq, Previous: a.Previous, Stored: a.Stored},
	}, nil
}

// errStalled says that the log stopped giving what it said it has.
var errStalled = errors.New("no message came")

// rebuildFrom projects a stream up to what was its end when this began.
func (s *Service) rebuildFrom(ctx context.Context, stream string, at, last uint64, progress Progress) error {
	if at >= last {
		return nil
	}
	reader, err := s.bus.Project(ctx, stream, at)
	if err != nil {
		return err
	}
	defer reader.Close()
	for at < last {
		batch, err := reader.Next(ctx, batchSize, 10*time.Second)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			// The end of a stream may have been trimmed away: then there is nothing left to come.
			state, err := s.bus.State(ctx, stream)
			if err != nil {
				return err
			}
			if state.First > last || state.Messages == 0 {
				return nil
			}
			return fmt.Errorf("%w after %d of %d", errStalled, at, last)
		}
		if err := s.project(ctx, stream, at, batch); err != nil {
			return err
		}
		at = batch[len(batch)-1].Sequence
		progress(stream, at, last)
	}
	return nil
}
