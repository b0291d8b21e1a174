package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// batchSize bounds how many messages go into the tables in one transaction.
const batchSize = 500

// idleWait is how long a reader waits for a message before it looks after its figures.
const idleWait = time.Second

// projectTimeout bounds one transaction.
const projectTimeout = time.Minute

// errUnreadable says that a message of the log cannot be understood by this version of the service.
var errUnreadable = errors.New("the log holds what this version does not understand")

// Projector keeps the tables in step with the log, while this process leads.
type Projector struct {
	service *Service
	idle    time.Duration // idleWait, but for tests
	parts   chan part

	mu      sync.Mutex
	stopped map[string]error // streams that cannot go on
}

// NewProjector makes the projector of a service.
func NewProjector(s *Service) *Projector {
	return &Projector{service: s, idle: idleWait, parts: make(chan part), stopped: map[string]error{}}
}

// Streams are all that is projected.
func (s *Service) Streams() []string {
	streams := []string{protocol.StreamCatalog}
	for p := range s.bus.Partitions() {
		streams = append(streams, protocol.PartitionStream(p))
	}
	return streams
}

// Run projects every stream until ctx ends.
func (p *Projector) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, stream := range p.service.Streams() {
		wg.Go(func() { p.keepFollowing(ctx, stream) })
	}
	wg.Go(func() { p.gather(ctx) })
	wg.Wait()
}

// Health is nil unless a stream cannot go on.
func (p *Projector) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := make([]error, 0, len(p.stopped))
	for _, err := range p.stopped {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Projector) report(stream string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.stopped, stream)
		return
	}
	p.stopped[stream] = err
}

func (p *Projector) keepFollowing(ctx context.Context, stream string) {
	defer p.report(stream, nil)
	log := p.service.log.With(zap.String("stream", stream))
	delay := 50 * time.Millisecond
	for ctx.Err() == nil {
		begun := time.Now()
		err := p.follow(ctx, stream)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > 10*time.Second {
			delay = 50 * time.Millisecond
		}
		switch {
		case errors.Is(err, errUnreadable):
			p.report(stream, err)
			log.Error("the projection stands still", zap.Error(err))
			delay = 10 * time.Second // nothing but a newer version will help
		case errors.Is(err, postgres.ErrMoved):
			log.Info("the checkpoint was moved, reading from there", zap.Error(err))
		default:
			log.Warn("projection interrupted", zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 10*time.Second)
	}
}

// follow projects one stream until something goes wrong.
func (p *Projector) follow(ctx context.Context, stream string) error {
	s := p.service
	at, err := s.begin(ctx, stream)
	if err != nil {
		return err
	}
	reader, err := s.bus.Project(ctx, stream, at)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		batch, err := reader.Next(ctx, batchSize, p.idle)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", errUnreadable, err)
		case len(batch) == 0:
			s.metrics.lag.WithLabelValues(stream).Set(0)
			s.metrics.behind.WithLabelValues(stream).Set(0)
			p.report(stream, nil)
			continue
		}
		began := s.now()
		if err := p.project(ctx, part{stream: stream, at: at, batch: batch}); err != nil {
			return err
		}
		s.bus.TraceProjected(batch, began)
		at = batch[len(batch)-1].Sequence
		p.report(stream, nil)
		s.observe(stream, batch, reader.Waiting())
		if len(batch) < batchSize {
			linger(ctx)
		}
	}
}

// lingering is about the time between two batches that are not full. What comes after a pause is
// projected at once; under load each transaction carries what came in a tenth of a second, which
// halves what an execution costs.
const lingering = 100 * time.Millisecond

// linger waits for a moment that is the same for all streams, so that their batches meet.
func linger(ctx context.Context) {
	now := time.Now()
	next := now.Truncate(lingering).Add(lingering).Sub(now)
	if next < lingering/2 {
		next += lingering
	}
	t := time.NewTimer(next)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// begin finds where to read on, and says so when messages are gone that the tables never saw.
func (s *Service) begin(ctx context.Context, stream string) (uint64, error) {
	at, err := s.store.Checkpoint(ctx, stream)
	if err != nil {
		return 0, err
	}
	state, err := s.bus.State(ctx, stream)
	if err != nil {
		return 0, err
	}
	switch {
	case at > state.Last:
		return 0, short(stream, at, state.Last)
	case state.First > at+1:
		s.metrics.gaps.Inc()
		s.log.Error("messages are gone from the log that the tables never saw",
			zap.String("stream", stream), zap.Uint64("from", at+1), zap.Uint64("to", state.First-1))
	}
	return at, nil
}

// short says that a log ends before what the tables have of it.
func short(stream string, at, last uint64) error {
	return fmt.Errorf("%w: the tables have %s up to %d, but it ends at %d: is this the log of another installation?", errUnreadable, stream, at, last)
}

func (s *Service) observe(stream string, batch []bus.LogMessage, waiting int) {
	last := batch[len(batch)-1]
	at := last.Record.Stored
	if last.Catalog != nil {
		at = last.Catalog.At.Time
	}
	s.metrics.projected.WithLabelValues(stream).Add(float64(len(batch)))
	s.metrics.lag.WithLabelValues(stream).Set(max(0, s.now().Sub(at).Seconds()))
	s.metrics.behind.WithLabelValues(stream).Set(float64(waiting))
}

// project brings a batch into the tables, and the checkpoint from at to its end.
func (s *Service) project(ctx context.Context, stream string, at uint64, batch []bus.LogMessage) error {
	if stream == protocol.StreamCatalog {
		return s.projectCatalog(ctx, at, batch)
	}
	return s.projectParts(ctx, []part{{stream: stream, at: at, batch: batch}})
}

// projectCatalog brings events into the tables that no command brought there: most of them are in.
// Each gets a transaction of its own, so that the projector never holds two documents at once.
func (s *Service) projectCatalog(ctx context.Context, at uint64, batch []bus.LogMessage) error {
	ctx, cancel := context.WithTimeout(ctx, projectTimeout)
	defer cancel()
	events := make([]protocol.CatalogEvent, len(batch))
	for i, m := range batch {
		events[i] = *m.Catalog
	}
	seqs, err := s.store.CatalogSeqs(ctx, events)
	if err != nil {
		return err
	}
	for i, m := range batch {
		e := events[i]
		if seqs[e.Kind][postgres.DocumentKey(e.Tenant, e.ID)] >= m.Sequence {
			continue
		}
		if err := readable(e); err != nil {
			return err
		}
		err := s.store.Tenant(ctx, e.Tenant, func(tx *postgres.Tx) error {
			current, err := tx.Current(ctx, e.Tenant, e.Kind, e.ID)
			if err != nil {
				return err
			}
			_, err = s.apply(ctx, tx, e, m.Sequence, current)
			return err
		})
		if err != nil {
			return fmt.Errorf("project %s %s, message %d: %w", e.Type, e.ID, m.Sequence, err)
		}
	}
	return s.store.Platform(ctx, func(tx *postgres.Tx) error {
		return tx.Advance(ctx, postgres.Step{Stream: protocol.StreamCatalog, From: at, To: batch[len(batch)-1].Sequence})
	})
}

// catalogEvents are the types that this version understands.
var catalogEvents = map[string]protocol.CatalogKind{
	"tenant_created.v1": protocol.KindTenant, "tenant_updated.v1": protocol.KindTenant,
	"tenant_suspended.v1": protocol.KindTenant, "tenant_resumed.v1": protocol.KindTenant,
	"key_created.v1": protocol.KindKey, "key_updated.v1": protocol.KindKey, "key_rotated.v1": protocol.KindKey, "key_revoked.v1": protocol.KindKey,
	"workflow_created.v1": protocol.KindWorkflow, "workflow_updated.v1": protocol.KindWorkflow, "workflow_published.v1": protocol.KindWorkflow,
	"workflow_archived.v1": protocol.KindWorkflow, "workflow_deleted.v1": protocol.KindWorkflow,
	"source_created.v1": protocol.KindSource, "source_updated.v1": protocol.KindSource, "source_deleted.v1": protocol.KindSource,
}

func readable(e protocol.CatalogEvent) error {
	if kind, ok := catalogEvents[e.Type]; !ok || kind != e.Kind {
		return fmt.Errorf("%w: event %q of a %s", errUnreadable, e.Type, e.Kind)
	}
	return nil
}
