package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// verifyRounds is how often a difference must be seen before it is one: the tables move while they
// are compared.
const verifyRounds = 3

// Verify holds the tables against the log: it builds them again in a schema of their own, compares
// row by row, and drops them. The service goes on working meanwhile. DatabaseURL must be the
// owner's. limit bounds the differences described for each table.
func Verify(ctx context.Context, cfg Config, b *bus.Bus, limit int, progress io.Writer) (report protocol.VerifyReport, err error) {
	r, err := openRebuild(ctx, cfg, b, verifySchema, progress)
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	defer r.close()
	defer func() {
		if derr := r.drop(ctx); derr != nil {
			err = errors.Join(err, fmt.Errorf("verify: %w", derr))
		}
	}()
	c := postgres.Comparison{Fresh: verifySchema, Limit: limit}
	if c.Limit <= 0 {
		c.Limit = 1000
	}
	if cfg.RetentionDays > 0 {
		c.Retention = time.Now().AddDate(0, 0, -cfg.RetentionDays)
	}
	for round := range verifyRounds {
		if err := r.build(ctx); err != nil {
			return report, fmt.Errorf("verify: %w", err)
		}
		if err := r.settle(ctx); err != nil {
			return report, fmt.Errorf("verify: %w", err)
		}
		found, err := r.live.Compare(ctx, c)
		if err != nil {
			return report, fmt.Errorf("verify: %w", err)
		}
		if round == 0 {
			report.Differences = found
		} else {
			report.Differences = both(report.Differences, found)
		}
		if len(report.Differences) == 0 {
			break
		}
	}
	counted, err := r.fresh.Count(ctx)
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	report.Documents, report.Executions, report.Commits = counted.Documents, counted.Executions, counted.Commits
	report.Total = int64(len(report.Differences))
	return report, nil
}

// settle gives the live tables a moment to come as far as the fresh ones.
func (r *rebuild) settle(ctx context.Context) error {
	want, err := r.fresh.Checkpoints(ctx)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		have, err := r.live.Checkpoints(ctx)
		if err != nil {
			return err
		}
		behind := false
		for stream, seq := range want {
			behind = behind || have[stream] < seq
		}
		// A service that is down does not move; its tables are compared as they are.
		if !behind || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// both are the differences that two comparisons agree on.
func both(a, b []protocol.Difference) []protocol.Difference {
	type place struct{ table, id, field string }
	seen := make(map[place]bool, len(b))
	for _, d := range b {
		seen[place{d.Table, d.ID, d.Field}] = true
	}
	var out []protocol.Difference
	for _, d := range a {
		if seen[place{d.Table, d.ID, d.Field}] {
			out = append(out, d)
		}
	}
	return out
}
