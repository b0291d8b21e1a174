package service

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// part is what a stream brings to a transaction. Most of what a small transaction costs it costs whatever
// its size, so what the partitions have at one moment goes into the tables together.
type part struct {
	stream string
	at     uint64 // the checkpoint
	batch  []bus.LogMessage
	done   chan error
}

// gathering is how long the first part of a transaction waits for others.
const gathering = 5 * time.Millisecond

// project brings a part into the tables: a full batch alone, so that partitions with much to catch up do so side by side.
func (p *Projector) project(ctx context.Context, own part) error {
	if own.stream == protocol.StreamCatalog || len(own.batch) >= batchSize {
		return p.service.project(ctx, own.stream, own.at, own.batch)
	}
	own.done = make(chan error, 1)
	select {
	case p.parts <- own:
		return <-own.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather projects what the partitions bring, together, until ctx ends.
func (p *Projector) gather(ctx context.Context) {
	for {
		var group []part
		select {
		case first := <-p.parts:
			group = append(group, first)
		case <-ctx.Done():
			return
		}
		enough := time.NewTimer(gathering)
		for waiting := true; waiting && len(group) < p.service.bus.Partitions(); {
			select {
			case next := <-p.parts:
				group = append(group, next)
			case <-enough.C:
				waiting = false
			}
		}
		enough.Stop()
		p.service.projectGroup(ctx, group)
	}
}

// projectGroup tells each part how it went. What one cannot have does not keep it from the others.
func (s *Service) projectGroup(ctx context.Context, group []part) {
	err := s.projectParts(ctx, group)
	alone := err != nil && len(group) > 1 && !errors.Is(err, postgres.ErrUnavailable)
	for _, one := range group {
		if alone {
			err = s.projectParts(ctx, []part{one})
		}
		one.done <- err
	}
}

// projectParts brings parts into the tables, and their checkpoints to their ends, in one transaction.
func (s *Service) projectParts(ctx context.Context, parts []part) error {
	ctx, cancel := context.WithTimeout(ctx, projectTimeout)
	defer cancel()
	var (
		steps []postgres.Step
		batch []bus.LogMessage
	)
	for _, one := range parts {
		steps = append(steps, postgres.Step{Stream: one.stream, From: one.at, To: one.batch[len(one.batch)-1].Sequence})
		batch = append(batch, one.batch...)
	}
	// In a fixed order, so that of two leaders one waits for the other rather than each.
	slices.SortFunc(steps, func(a, b postgres.Step) int { return strings.Compare(a.Stream, b.Stream) })
	return s.store.Platform(ctx, func(tx *postgres.Tx) error {
		// First, because it also locks the checkpoints: of two leaders one waits here, and then leaves.
		if err := tx.Advance(ctx, steps...); err != nil {
			return err
		}
		return projectExecutions(ctx, tx, batch)
	})
}

// begins tells whether a commit is the first of its execution, which so can have no row: the checkpoint stands before it.
func begins(r protocol.Record) bool {
	_, requested := r.Events[0].Event.(protocol.Requested)
	return requested && r.Previous == 0
}

func projectExecutions(ctx context.Context, tx *postgres.Tx, batch []bus.LogMessage) error {
	rows := make(map[string]*postgres.Execution, len(batch))
	var ids []protocol.ExecutionID // of those that may have a row
	for _, m := range batch {
		k := postgres.DocumentKey(m.Key.Tenant, string(m.Key.ID))
		if _, seen := rows[k]; seen {
			continue
		}
		rows[k] = nil
		if !begins(m.Record) {
			ids = append(ids, m.Key.ID)
		}
	}
	from := make(map[string]string, len(ids))
	if len(ids) > 0 {
		known, err := tx.Executions(ctx, ids)
		if err != nil {
			return err
		}
		for _, x := range known {
			k := postgres.DocumentKey(x.Tenant, string(x.ID))
			rows[k], from[k] = x, x.Status
		}
	}
	archived := make([]postgres.Archived, len(batch))
	changed := make([]*postgres.Execution, 0, len(rows))
	touched := make(map[string]bool, len(rows))
	for i, m := range batch {
		k := postgres.DocumentKey(m.Key.Tenant, string(m.Key.ID))
		rows[k] = fold(rows[k], m.Key, m.Record)
		if !touched[k] {
			touched[k] = true
			changed = append(changed, rows[k])
		}
		archived[i] = postgres.Archived{
			Key: m.Key, Seq: m.Sequence, Previous: m.Record.Previous, CommitID: m.Record.ID, Stored: m.Record.Stored, Body: m.Body,
		}
	}
	return tx.PutExecutions(ctx, changed, from, archived)
}
