package service

import (
	"context"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Janitor keeps the hot log small and the archive within its retention, while this process leads.
type Janitor struct {
	Service   *Service
	Grace     time.Duration // messages younger than this stay in the hot log, for readers, while there is room
	Every     time.Duration // between two looks at the hot log
	Retention time.Duration // executions that ended longer ago go; 0 keeps them for ever
}

// housekeeping is how often the slower work is done.
const housekeeping = 15 * time.Minute

// daysAhead is for how many days the archive has partitions in advance.
const daysAhead = 7

// expiryBatch bounds one transaction of the retention.
const expiryBatch = 1000

// refusalRetention is how long a refused command is remembered.
const refusalRetention = 24 * time.Hour

// roomy is the share of a partition's limit, one in so many, up to which the grace is kept. The rest is
// for times in which the projection cannot follow: a log full of what is archived would refuse requests.
const roomy = 8

// sample is how far a partition was projected at a time.
type sample struct {
	at  time.Time
	seq uint64
}

// Run works until ctx ends.
func (j *Janitor) Run(ctx context.Context) {
	samples := make([][]sample, j.Service.bus.Partitions())
	tick := time.NewTicker(j.Every)
	defer tick.Stop()
	var kept time.Time
	for {
		if now := j.Service.now(); now.Sub(kept) >= housekeeping {
			j.keepHouse(ctx)
			kept = now
		}
		for p := range samples {
			var err error
			if samples[p], err = j.trim(ctx, p, samples[p]); err != nil && ctx.Err() == nil {
				j.Service.log.Warn("hot log not trimmed", zap.Int("partition", p), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// trim removes from a partition what nobody needs: what is projected, older than the grace or in the
// way, and before the first commit of every execution that lives.
func (j *Janitor) trim(ctx context.Context, partition int, samples []sample) ([]sample, error) {
	s := j.Service
	stream := protocol.PartitionStream(partition)
	now := s.now()
	state, err := s.bus.State(ctx, stream)
	if err != nil {
		return samples, err
	}
	needed, projected, err := s.store.Needed(ctx, partition, stream, state.First)
	if err != nil {
		return samples, err
	}
	if n := len(samples); n == 0 || samples[n-1].seq != projected {
		samples = append(samples, sample{now, projected})
	}
	label := strconv.Itoa(partition)
	s.metrics.logBytes.WithLabelValues(label).Set(float64(state.Bytes))
	s.metrics.logLimit.WithLabelValues(label).Set(float64(state.MaxBytes))
	grace := j.Grace
	if state.MaxBytes > 0 && state.Bytes > state.MaxBytes/roomy {
		grace = min(grace, j.Every)
	}
	// The newest sample that is old enough: all before it has been there for the whole grace.
	old := -1
	for i, at := range samples {
		if now.Sub(at.at) >= grace {
			old = i
		}
	}
	if old < 0 {
		return samples, nil
	}
	before := min(needed, samples[old].seq+1)
	samples = samples[old:]
	if state.Messages == 0 || before <= state.First {
		return samples, nil
	}
	if err := s.bus.Trim(ctx, partition, before); err != nil {
		return samples, err
	}
	removed := min(before-state.First, state.Messages)
	s.metrics.trimmed.Add(float64(removed))
	s.log.Debug("hot log trimmed", zap.Int("partition", partition), zap.Uint64("before", before), zap.Uint64("messages", removed))
	return samples, nil
}

// Prepare makes the archive's partitions for the days to come. Before the first commit of a day is
// archived there must be one: else the day stays in the default partition.
func (j *Janitor) Prepare(ctx context.Context) {
	s := j.Service
	now := s.now().UTC()
	if err := s.store.PrepareDays(ctx, now.AddDate(0, 0, -1), now.AddDate(0, 0, daysAhead)); err != nil && ctx.Err() == nil {
		s.log.Warn("no partitions made for the days to come; the default partition takes their commits", zap.Error(err))
	}
}

// keepHouse makes room for the days to come, and takes leave of those that are over.
func (j *Janitor) keepHouse(ctx context.Context) {
	s := j.Service
	now := s.now().UTC()
	j.Prepare(ctx)
	if err := s.store.ExpireRefusals(ctx, now.Add(-refusalRetention)); err != nil && ctx.Err() == nil {
		s.log.Warn("old refusals not deleted", zap.Error(err))
	}
	if j.Retention > 0 {
		if err := j.expire(ctx, now.Add(-j.Retention)); err != nil && ctx.Err() == nil {
			s.log.Warn("old executions not deleted; tried again later", zap.Error(err))
		}
		if err := j.forget(ctx, now.Add(-j.Retention)); err != nil && ctx.Err() == nil {
			s.log.Warn("old objects not deleted; tried again later", zap.Error(err))
		}
	}
}

// written is how long before its execution is requested, at most, a value may have been stored.
const written = time.Hour

// forget removes the large values of executions that are gone: all that were stored before the oldest
// execution there is was requested, in the tables or, not yet projected, in the log.
func (j *Janitor) forget(ctx context.Context, before time.Time) error {
	s := j.Service
	oldest, err := s.store.OldestExecution(ctx)
	if err != nil {
		return err
	}
	if !oldest.IsZero() && oldest.Before(before) {
		before = oldest
	}
	for p := range s.bus.Partitions() {
		state, err := s.bus.State(ctx, protocol.PartitionStream(p))
		if err != nil {
			return err
		}
		if state.Messages > 0 && state.FirstTime.Before(before) {
			before = state.FirstTime
		}
	}
	removed, err := s.bus.TrimObjects(ctx, before.Add(-written))
	if removed > 0 {
		s.log.Info("large values of old executions deleted", zap.Uint64("messages", removed))
	}
	return err
}

// expire deletes executions that ended before a time, and then their commits.
func (j *Janitor) expire(ctx context.Context, before time.Time) error {
	s := j.Service
	total := 0
	for ctx.Err() == nil {
		n, err := s.store.ExpireExecutions(ctx, before, expiryBatch)
		total += n
		s.metrics.expired.Add(float64(n))
		if err != nil {
			return err
		}
		if n < expiryBatch {
			break
		}
	}
	dropped, err := s.store.ExpireDays(ctx, before)
	if err != nil {
		return err
	}
	commits := 0
	for ctx.Err() == nil {
		n, err := s.store.ExpireCommits(ctx, before, expiryBatch)
		commits += n
		if err != nil {
			return err
		}
		if n < expiryBatch {
			break
		}
	}
	if total+commits+len(dropped) > 0 {
		s.log.Info("retention ended", zap.Int("executions", total), zap.Int("commits", commits), zap.Strings("days", dropped))
	}
	return ctx.Err()
}
